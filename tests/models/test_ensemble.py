"""Several networks as one: the answers of its members, averaged by hand; the same from its file; and files that are none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from provenet.data.pictures import PixelArray
from provenet.deploy.predictor import Predictor
from provenet.errors import BundleError, ModelError
from provenet.mean_image import MeanImage
from provenet.models.catalog import build_network
from provenet.models.ensemble import Ensemble, Member, joint_preprocessing, sees_exactly
from provenet.preprocessing import Preprocessing, window
from provenet.runs.evaluate import evaluate_bundle
from provenet.weights.bundle import Bundle, load_bundle, save_bundle

LENET = Preprocessing(size=32, resize=28, channels=1, mean=(0.1,), std=(0.3,))
COLOUR = Preprocessing(size=28, resize=28, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


def member(name, classes, rule, seed, temperature=1.0):
    torch.manual_seed(seed)
    net = build_network(name, num_classes=len(classes), in_channels=rule.channels, init="trainable").eval()
    net.input_spec = net.input_spec.with_preprocessing(rule)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    return Member(net, tuple(classes), rule, temperature)


def bundle_of(net):
    return Bundle(net, net.classes, net.input_spec.preprocessing)


def seen(each, pictures):
    """What a member sees alone: the road of every evaluation."""
    squares = np.stack([pictures.square(row, each.preprocessing) for row in range(len(pictures))])
    return each.preprocessing.normalise(window(torch.from_numpy(squares), each.preprocessing.size))


def alone(each, pictures):
    """Its probabilities."""
    with torch.inference_mode():
        return (each.network(seen(each, pictures)).double() / each.temperature).softmax(1)


def together(net, pictures):
    with torch.inference_mode():
        return net(seen(Member(net, net.classes, net.input_spec.preprocessing), pictures)).double()


def pictures_of(side, channels=1, count=5, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 7, 7, channels), dtype=np.uint8)
    large = [Image.fromarray(each.squeeze()).resize((side, side), Image.Resampling.BICUBIC) for each in coarse]
    return PixelArray(np.stack([np.asarray(each) for each in large]).reshape(count, side, side, channels), "made")


DIGITS = [str(k) for k in range(10)]


def test_the_mean_of_probabilities_by_hand():
    members = [member("lenet5_softmax", DIGITS, LENET, 0), member("lenet5_softmax", DIGITS, LENET, 1, temperature=0.2)]
    pictures = pictures_of(28)
    net = Ensemble(members, [3, 1]).eval()
    expected = 0.75 * alone(members[0], pictures) + 0.25 * alone(members[1], pictures)
    assert torch.allclose(together(net, pictures).exp(), expected, atol=1e-6)


def test_the_mean_of_logits_is_the_geometric_mean():
    members = [member("lenet5_softmax", DIGITS, LENET, seed, temperature=0.2) for seed in (0, 1, 2)]
    pictures = pictures_of(28)
    product = torch.stack([alone(each, pictures) for each in members]).log().mean(0).exp()
    found = together(Ensemble(members, combine="logits").eval(), pictures).softmax(1)
    assert torch.allclose(found, product / product.sum(1, keepdim=True), atol=1e-6)


def test_members_of_other_classes_and_channels_and_windows():
    """Grey pictures as colours are grey again; the window of 32 with its border holds the one of 28; classes are joined by name."""
    grey, colour = member("lenet5_softmax", ["a", "b", "c"], LENET, 0), member("resnet20_cifar", ["c", "d"], COLOUR, 1)
    net = Ensemble([grey, colour]).eval()
    rule = net.input_spec.preprocessing
    assert (net.classes, rule.size, rule.resize, rule.channels) == (("a", "b", "c", "d"), 32, 28, 3)
    assert all(sees_exactly(each.preprocessing, rule) for each in (grey, colour))
    pictures = pictures_of(28)
    one, other = alone(grey, pictures), alone(colour, pictures)
    expected = torch.stack([one[:, 0], one[:, 1], one[:, 2] + other[:, 0], other[:, 1]], dim=1) / 2
    assert torch.allclose(together(net, pictures).exp(), expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [((256, 224), (256, 227)), ((40, 32), (40, 35)), ((37, 32), (37, 33))])
@pytest.mark.parametrize("shape", [(300, 200), (201, 300)])
def test_windows_of_one_square_are_those_of_the_members(sizes, shape):
    rules = [Preprocessing(size=size, resize=resize, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3) for resize, size in sizes]
    members = [member("nin_cifar", DIGITS, rule, 0) for rule in rules]
    net = Ensemble(members).eval()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    pictures = PixelArray(np.asarray(picture)[None], "noise")
    shown = seen(Member(net, net.classes, net.input_spec.preprocessing), pictures)
    for each, seat in zip(members, net.stages["networks"], strict=True):
        own = seen(each, pictures)
        # A stored square lies where its window is in the middle of the picture, so two windows' squares may lie a pixel apart.
        steps = [torch.roll(seat.see(shown), (down, across), (2, 3)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        assert min(float((step - own)[..., 1:-1, 1:-1].abs().max()) for step in steps) < 1e-5


def test_squares_of_other_sizes_are_resized_nearly_the_same():
    small, large = member("lenet5_softmax", DIGITS, LENET, 0), member("lenet5_softmax", DIGITS, LENET.stored_at(32), 1)
    net = Ensemble([small, large]).eval()
    rule = net.input_spec.preprocessing
    assert (rule.resize, rule.size) == (32, 32)
    assert [sees_exactly(each.preprocessing, rule) for each in (small, large)] == [False, True]
    pictures = pictures_of(90)
    own, resized = seen(small, pictures), net.stages["networks"][0].see(seen(Member(net, net.classes, rule), pictures))
    assert resized.shape == own.shape
    assert (own - resized).abs().mean() < 0.05  # of a deviation of 1


def test_a_mean_image_and_bgr_are_kept(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.float64)
    rule = replace(
        COLOUR,
        channel_order="BGR",
        mean_image=MeanImage.from_sums(levels.astype(np.int64), 1),
        mean=tuple((levels.mean((0, 1)) / 255)[::-1]),
    )
    members = [member("resnet20_cifar", DIGITS, rule, 0), member("resnet20_cifar", DIGITS, COLOUR, 1)]
    pictures = pictures_of(28, channels=3)
    expected = (alone(members[0], pictures) + alone(members[1], pictures)) / 2
    net = Ensemble(members).eval()
    assert torch.allclose(together(net, pictures).exp(), expected, atol=1e-5)
    save_bundle(bundle_of(net), tmp_path / "e.safetensors")
    assert torch.equal(together(load_bundle(tmp_path / "e.safetensors").network, pictures), together(net, pictures))


def made(tmp_path):
    members = [
        member("lenet5_softmax", DIGITS, LENET, 0),
        member("lenet5", DIGITS, LENET, 1, 7.5),
        member("resnet20_cifar", DIGITS, COLOUR, 2),
    ]
    net = Ensemble(members, [0.5, 0.3, 0.2]).eval()
    path = tmp_path / "ensemble.safetensors"
    save_bundle(bundle_of(net), path)
    return net, path


def test_it_is_a_bundle_like_any_other(tmp_path, trained):
    net, path = made(tmp_path)
    found = load_bundle(path)
    pictures = pictures_of(28)
    assert torch.equal(together(found.network, pictures), together(net, pictures))
    assert found.network.shares == net.shares
    assert found.network.num_parameters == sum(each.network.num_parameters for each in net.members)
    assert "lenet5_softmax, lenet5, resnet20_cifar" in found.network.title
    one, two = (next(Predictor.load(path)(Image.fromarray(pictures.pixels[row, ..., 0]))) for row in (0, 1))
    probabilities = together(net, pictures).softmax(1)
    for row, prediction in enumerate((one, two)):
        assert prediction.probability == pytest.approx(float(probabilities[row].max()), abs=1e-6)
        assert prediction.label == DIGITS[int(probabilities[row].argmax())]
    bundles = [load_bundle(trained.bundle_path) for _ in range(2)]
    alone_twice = Ensemble([Member(bundle.network, bundle.classes, bundle.preprocessing) for bundle in bundles]).eval()
    save_bundle(bundle_of(alone_twice), tmp_path / "twice.safetensors")
    evaluation = evaluate_bundle(tmp_path / "twice.safetensors", "fashion-mini")
    assert evaluation.top1 == trained.test.top1
    assert evaluation.loss == pytest.approx(trained.test.loss, rel=1e-5)
    assert evaluate_bundle(tmp_path / "twice.safetensors", "fashion-mini", views="ten").images == 1_000
    with pytest.raises(ModelError, match="expected one network to run over whole pictures"):
        evaluate_bundle(tmp_path / "twice.safetensors", "fashion-mini", views="dense")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header.update(members=[]), "not a list of 1 to 100"),
        (lambda header: header.update(members="many"), "not a list of 1 to 100"),
        (lambda header: header.update(members=[header | {}]), "not all single networks"),
        (lambda header: header.update(members=[1, 2, 3]), "not all single networks"),
        (lambda header: header.update(weights=[1, 1]), "a weight above 0 for each"),
        (lambda header: header.update(weights=[0.5, -1, 0.2]), "not numbers above 0"),
        (lambda header: header.update(weights=None), "not numbers above 0"),
        (lambda header: header.update(combine="magic"), "expected probabilities or logits"),
        (lambda header: header.update(combine=["logits"]), "expected probabilities or logits"),
        (lambda header: header.update(classes=["x"]), "not those of its members"),
        (lambda header: header["members"].pop(), "a weight above 0 for each"),
        (lambda header: header["members"][0].update(architecture="nothing"), "unknown network"),
        (lambda header: header["members"][0].pop("classes"), "expected 'classes'"),
        (lambda header: header["members"][0]["preprocessing"].update(fit="squash"), "found both"),
        (lambda header: header["members"][0]["preprocessing"].update(mean_image="abc"), "missing"),
    ],
)
def test_files_that_are_none(tmp_path, change, said):
    _, path = made(tmp_path)
    with safe_open(path, "pt") as file:
        header, tensors = json.loads(file.metadata()["provenet"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    save_file(tensors, path, metadata={"provenet": json.dumps(header)})
    with pytest.raises(BundleError, match=said) as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(path.name) == 1


def test_members_that_do_not_fit():
    one = member("lenet5_softmax", DIGITS, LENET, 0)
    with pytest.raises(ModelError, match="1 to 100 networks"):
        Ensemble([])
    with pytest.raises(ModelError, match="no ensembles themselves"):
        Ensemble([Member(Ensemble([one]), one.classes, LENET)])
    with pytest.raises(ModelError, match="of the same classes"):
        Ensemble([one, member("lenet5_softmax", ["a", "b"], LENET, 0)], combine="logits")
    with pytest.raises(ModelError, match="found both"):
        joint_preprocessing([LENET, replace(LENET, fit="squash")])
    with pytest.raises(ModelError, match="ensemble"):
        Ensemble([one]).reset_classifier(3)
