"""What a transfer begins with: a network with weights, and how it is to be changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from provenet.data.index import ImageSet
from provenet.engines.ways import REFERENCE
from provenet.errors import SettingsError
from provenet.models.catalog import build_network, build_on_meta
from provenet.models.classifier import Classifier
from provenet.models.heads import LINEAR, OWN, adapt, read_channels
from provenet.preprocessing import Preprocessing
from provenet.progress import Progress
from provenet.runs.normalisation import measure
from provenet.runs.settings import RunSettings
from provenet.runs.wishes import Wishes
from provenet.runtime import seeded
from provenet.transfer.features import LARGEST_IN_MEMORY_BYTES
from provenet.transfer.parts import can_be_solved, check_head
from provenet.transfer.plan import StagePlan, choose_mode, fingerprint_of, frozen_stages, plan_stages
from provenet.transfer.settings import ALL, AUTO, CACHED, FROM, HEAD, TransferSettings, check_mode
from provenet.weights.bundle import Bundle
from provenet.weights.create import open_weights
from provenet.weights.epsilon import own_epsilon, set_batch_norm_eps
from provenet.weights.sources import EMBEDDED_TAG

MOST_ROWS_AT_ONCE = 65_536
MOST_TO_BEGIN_SOLVED = 10_000
"""Training pictures up to which a head that learns in steps begins as solved: from more a random one learns as much in a pass."""


@dataclass(frozen=True)
class Start:
    """A network with weights, how it is to be taught, and what is worth a line."""

    bundle: Bundle
    settings: TransferSettings
    notes: tuple[str, ...] = ()


def with_embedded_weights(asked: Wishes, model: str | None) -> Wishes:
    """What was asked, with the weights that lie in the package where a transfer is asked for and no weights are named."""
    network = EMBEDDED_TAG.partition(".")[0]
    is_meant = asked.transfer is not None and asked.weights is None and model in (None, network)
    return replace(asked, weights=EMBEDDED_TAG) if is_meant else asked


def refuse_without_weights(asked: Wishes) -> None:
    """Raise SettingsError for what only weights give a meaning."""
    for flag, value in (
        ("--transfer", asked.transfer),
        ("--head", asked.head),
        ("--ends-after", asked.ends_after),
        ("--views", asked.views),
        ("--feature-type", asked.feature_type),
        ("--engine", asked.engine),
        ("--depth-rate", asked.depth_rate),
    ):
        if value is not None:
            raise SettingsError(f"{flag} {value}: expected --weights beside it, which are what is transferred, found none; name some")


def plan_start(asked: Wishes, model: str | None, train: ImageSet) -> Start:
    """Open the weights that were asked for, and decide what was left open."""
    assert asked.weights is not None
    check_mode(asked.transfer or AUTO)
    bundle = open_weights(asked.weights, model)
    net, notes = bundle.network, []
    if model and net.name != model:
        raise SettingsError(f"--model {model}: expected the network of --weights {asked.weights}, which is {net.name}; leave --model out")
    if asked.weights == EMBEDDED_TAG:
        notes.append(f"--weights {EMBEDDED_TAG}: they know six kinds of clothes, small and grey; for photographs see provenet weights list")
    ends_after = asked.ends_after or net.ends_after
    if not isinstance(asked.head, str | None):
        raise SettingsError(
            f"--head: expected linear, mlp:UNITS or own, found a {type(asked.head).__name__}: a head that is code is in no bundle; "
            "models.heads.adapt gives a network with it, for a training loop of your own"
        )
    meant = asked.head or LINEAR
    head = (net.own_head or OWN) if meant == OWN else meant
    is_distorted = bool(asked.augment not in (None, "none") or asked.shift_pixels or asked.mirror or asked.colours)
    if asked.transfer == CACHED and not asked.views and is_distorted:
        raise SettingsError(
            "--transfer cached: expected no distortion without --views, which says how many distorted views of each picture are computed, "
            "found one; add --views 4, or take --transfer head"
        )
    shape = adapt(build_on_meta(net.name, init="trainable"), num_classes=len(train.classes), head=head, ends_after=ends_after)
    mode = asked.transfer or AUTO
    if mode == AUTO:
        mode, why = choose_mode(shape, train.counts())
        if mode == CACHED and is_distorted and not asked.views:
            mode, why = HEAD, f"{why}, here on pictures that are distorted anew in each pass, as asked for"
        notes.append(f"--transfer {mode}: {why}")
    frozen = frozen_stages(shape, mode)
    if mode == CACHED:
        check_head(shape)
    has_old_head = bundle.classes == train.classes and asked.head in (None, OWN) and ends_after == net.ends_after
    keeps_head = has_old_head and (mode == ALL or mode.startswith(FROM))
    if keeps_head:
        head = net.own_head or OWN
        notes.append("the classes are those of the weights, whose head is kept")
    elif not any(True for name, stage in shape.stages.items() if name not in frozen for _ in stage.parameters()):
        raise SettingsError(
            f"--transfer {mode} --head {head}: expected something that learns, and that of {net.name} is fixed; take --head linear"
        )
    views = asked.views or 0
    is_small = _fits_at_once(shape.num_features, len(train) * (1 + views))
    at_once = mode == CACHED and is_small and not _asks_for_steps(asked)
    settings = TransferSettings(
        at_once=at_once,
        solves_head=is_small and len(train) <= MOST_TO_BEGIN_SOLVED and not at_once and not keeps_head and can_be_solved(shape),
        views=views,
        feature_type=asked.feature_type or "float32",
        engine=asked.engine or (AUTO if mode == CACHED else REFERENCE.engine),
        precision=AUTO if mode == CACHED else REFERENCE.precision,
        weights=asked.weights,
        fingerprint=fingerprint_of(net.trained_state()),
        mode=mode,
        head=head,
        keeps_head=keeps_head,
        ends_after=ends_after,
        depth_rate=1.0 if asked.depth_rate is None else asked.depth_rate,
        batch_norm_epsilon=own_epsilon(net) or 0.0,
    )
    return Start(bundle, settings, tuple(notes))


def _fits_at_once(num_features: int, num_rows: int) -> bool:
    """Whether the features are few enough to solve a head over all of them."""
    return num_rows <= MOST_ROWS_AT_ONCE and 4 * num_features * num_rows <= LARGEST_IN_MEMORY_BYTES


def _asks_for_steps(asked: Wishes) -> bool:
    return any(wish is not None for wish in (asked.epochs, asked.batch_size, asked.learning_rate, asked.micro_batches, asked.cycles))


def reopen_start(settings: TransferSettings, model: str) -> Start:
    """The same weights again. Raises SettingsError where the file holds others by now."""
    bundle = open_weights(settings.weights, model)
    found = fingerprint_of(bundle.network.trained_state())
    if (epsilon := own_epsilon(bundle.network) or 0.0) != settings.batch_norm_epsilon:
        raise SettingsError(
            f"transfer.weights: expected in {settings.weights} batch norms that add {settings.batch_norm_epsilon:g} to the variance (0: as "
            f"built), found {epsilon:g}; put the weights back, or begin a new run with --weights"
        )
    if found != settings.fingerprint:
        raise SettingsError(
            f"transfer.weights: expected in {settings.weights} the numbers {settings.fingerprint}, found others ({found}); put them back, "
            "or begin a new run with --weights"
        )
    return Start(bundle, settings)


def preprocessing_of_start(start: Start, train: ImageSet, asked: Wishes, progress: Progress | None = None) -> Preprocessing:
    """What the network sees of these pictures: what its weights were made with, but for what was asked."""
    net, preprocessing = start.bundle.network, start.bundle.preprocessing
    if asked.channels is not None:
        if asked.channels not in (1, 3):
            raise SettingsError(f"--channels: expected 1 (grey) or 3 (colour), found {asked.channels}")
        preprocessing = preprocessing.with_channels(asked.channels)
    if asked.size not in (None, preprocessing.size):
        assert asked.size is not None
        if asked.size < net.input_spec.smallest:
            raise SettingsError(f"--size {asked.size}: {net.name} needs at least {net.input_spec.smallest} pixels; enlarge --size")
        preprocessing = preprocessing.with_size(asked.size)
    return preprocessing if asked.mean is None else measure(preprocessing, net.input_spec.measured, asked.mean, train, progress)


def differences(own: Preprocessing, shown: Preprocessing, train: ImageSet) -> Iterator[str]:
    """In which ways pictures are shown otherwise than those that the weights were made with, a line each."""
    if shown.channels != own.channels:
        yield f"the first layer reads {shown.channels} channels instead of {own.channels}: its kernels are summed, or shared out"
    elif own.channels == 1 and train.pictures.native_channels() == 3:
        yield "pictures are shown in grey, as the weights know them"
    if shown.size != own.size:
        yield f"pictures are shown at {shown.size}x{shown.size}, where the weights were made at {own.size}x{own.size}"
    if shown != own.with_channels(shown.channels).with_size(shown.size):
        yield "pictures are normalised by a mean of their own, where the weights were made with another"


def plan_of(settings: RunSettings, net: Classifier) -> StagePlan | None:
    """Freeze what the run leaves as it is; what becomes of each stage, or None where everything is as in any training."""
    if settings.transfer is None:
        return None
    peak = settings.training.peak_learning_rate
    return plan_stages(net, settings.transfer.mode, peak_learning_rate=peak, depth_rate=settings.transfer.depth_rate)


def build_from(settings: RunSettings, num_classes: int, bundle: Bundle | None) -> Classifier:
    """The network of a transfer as it begins; without the bundle of its weights only its form, for a snapshot to fill.

    The seed alone decides what is fresh.
    """
    transfer, channels = settings.transfer, settings.preprocessing.channels
    assert transfer is not None
    with seeded(settings.training.seed):
        if bundle is None:
            net = build_network(settings.source.model, in_channels=channels, init="trainable")
            net = adapt(net, num_classes=num_classes, head=transfer.head, ends_after=transfer.ends_after)
            if transfer.batch_norm_epsilon:
                set_batch_norm_eps(net, transfer.batch_norm_epsilon)
        else:
            net = bundle.network
            if net.input_spec.channels != channels:
                read_channels(net, channels)
            if transfer.keeps_head:
                net.discard_training_parts()
            else:
                net = adapt(net, num_classes=num_classes, head=transfer.head, ends_after=transfer.ends_after)
    net.cure = None
    net.input_spec = net.input_spec.with_preprocessing(settings.preprocessing)
    return net
