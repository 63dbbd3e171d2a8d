"""The command line: a table of commands, each of which reads its words, calls the library and prints. `--help` imports no torch."""

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from provenet.cli_cache import cache
from provenet.cli_weights import weights
from provenet.engines.ways import AUTO, EngineWish
from provenet.errors import ProvenetError, complain, printable
from provenet.runs.wishes import NO_WISHES, Wishes
from provenet.version import __version__

if TYPE_CHECKING:
    from provenet.runs.session import Run

Device = Literal["auto", "cpu", "cuda", "mps"]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
WHAT_DATA_MAY_BE = (  # whatever data.sources.open_data opens
    "folder of class folders (or of train, val and test with these), of IDX files, of CIFAR's binary files or of tar shards; a manifest "
    "(CSV, TSV, JSON lines or Parquet with path, label and perhaps split); a tar shard, name-{000..009}.tar, or a list of shards (.shards "
    "or .txt), here or at addresses (https://, s3:// …); or a name: fashion-mini, fashion-mnist, mnist, cifar10 or cifar100."
)
Data = Annotated[str, Parameter(help=f"A {WHAT_DATA_MAY_BE}")]
ModelsAndData = Annotated[
    str, Parameter(help=f"Bundles (a model.safetensors), or the run folders they are in; and last the pictures: a {WHAT_DATA_MAY_BE}")
]

app = App(
    name="provenet",
    help="The landmark convolutional image classifiers, each as published: train them on your pictures, and use them.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    help_format="plaintext",  # Markdown costs a fifth more time of --help
)

app.command(weights)
app.command(cache)


@app.command
def models(*patterns: str, json: Flag = False) -> None:
    """List the networks: year, place and top-5 error in the ILSVRC contest, parameters, multiply-adds, input, published weights.

    Args:
        patterns: Only names that match one, such as 'resnet*_cifar'.
        json: Print a JSON list of {name, year, contest, place, top5_error_percent, contest_networks, parameters, macs, input, paper,
            source, about, weights}.
    """
    from provenet.papers.listing import list_networks, show_networks
    from provenet.weights.table import published_for_networks

    rows, published = list_networks(patterns or "*"), published_for_networks()
    if json:
        _print_json([row.to_dict() | {"weights": published.get(row.name, [])} for row in rows])
    else:
        print(show_networks(rows, published))


@app.command
def summary(
    network: str,
    /,
    *,
    input: str | None = None,
    depth: Literal["stage", "block", "layer"] = "layer",
    names: Literal["ours", "authors"] = "ours",
    json: Flag = False,
) -> None:
    """What runs in a network: sizes, parameters, multiply-adds, memory, and how much of the picture each layer sees.

    Args:
        network: A name of `provenet models`, or a bundle (a model.safetensors, or the run folder it is in).
        input: Channels, height and width of another picture, such as 3x320x320.
        depth: A line for each stage, each block or each layer.
        names: Our names of the layers, or those of the authors' release, such as res4d_branch2a.
        json: Print a JSON object: {name, input, parameters, macs, activation_bytes, layers: [{name, kind, output, parameters, macs,
            activation_bytes, receptive_field, stride}]} and more.
    """
    from provenet.inspection.summary import summarize
    from provenet.inspection.tables import as_text
    from provenet.runtime import prepare_process
    from provenet.weights.create import open_network

    prepare_process()
    found = summarize(open_network(network), _shape(input) if input else None, names=names)
    if json:
        _print_json(found.to_dict(depth))
    else:
        print(as_text(found, depth))


@app.command
def difference(a: str, b: str, /, *, all: Flag = False, json: Flag = False) -> None:
    """Compare two networks layer by layer: what is the same, what differs, what follows from that, and what it costs.

    Args:
        a: A name of `provenet models`, or a bundle (a model.safetensors, or the run folder it is in).
        b: Another.
        all: Show every layer beside its like.
        json: Print a JSON object: {a, b, same, changes: [{verdict, names, what: [{setting, a, b}], parameters, macs, training_bytes}],
            stages, totals} and more; with --all also layers.
    """
    from provenet.comparison.difference import difference as find_difference
    from provenet.comparison.explained import as_text
    from provenet.runtime import prepare_process
    from provenet.weights.create import open_network

    prepare_process()
    nets = open_network(a), open_network(b)
    is_told_apart = nets[0].name != nets[1].name or a == b
    found = find_difference(*nets, names=None if is_told_apart else (printable(a), printable(b)))
    if json:
        _print_json(found.to_dict(all_layers=all))
    else:
        print(as_text(found, all_layers=all))


@app.command
def draw(
    network: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    unfold: Flag = False,
    input: str | None = None,
    json: Flag = False,
) -> None:
    """Draw a network: its volumes, layers, residual and Inception blocks, as a picture or as a page to explore.

    Args:
        network: A name of `provenet models`, or a bundle (a model.safetensors, or the run folder it is in).
        output: The file to write: .svg, .png, or .html, in which blocks unfold where they stand.
        unfold: Show what is inside blocks.
        input: Channels, height and width of another picture, such as 3x320x320.
        json: Print {name, file} as JSON.
    """
    from provenet.drawing.diagram import draw as draw_network
    from provenet.runtime import prepare_process
    from provenet.weights.create import open_network

    prepare_process()
    diagram = draw_network(open_network(network), _shape(input) if input else None, unfold=unfold)
    diagram.save(output)
    if json:
        _print_json({"name": diagram.summary.name, "file": str(output)})
    else:
        print(f"{printable(str(output))} shows {diagram.summary.name}" + (": open it in a browser" if output.suffix != ".png" else ""))


@app.command
def verify(*names: str, json: Flag = False) -> int:
    """Compare networks with their papers, number by number: sizes, parameters, operations, constants, and how the weights begin.

    Ends with status 0 where everything is as published, 1 where anything is not. With one name every check is shown.

    Args:
        names: Networks, or patterns such as 'vgg*', or arithmetic, which is that of courses; by default all.
        json: Print every check as JSON: {ok, networks: [{name, paper, checks: [{what, expected, found, ok}], misprints}]}.
    """
    from provenet.console import Terminal
    from provenet.runtime import prepare_process
    from provenet.verify.verify import EVERYTHING
    from provenet.verify.verify import verify as verify_networks

    prepare_process()
    with Terminal() as terminal:
        verification = verify_networks(names or EVERYTHING, progress=terminal.progress)
    if json:
        _print_json(verification.to_dict())
    else:
        print(verification)
    return 0 if verification.ok else 1


@app.command
def check(
    data: Data,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    val_fraction: float | None = None,
    quarantine: Path | None = None,
    json: Flag = False,
) -> int:
    """Look at every picture before you train: what is broken, there twice, missing, rare or ignored; and a picture of each class.

    Ends with status 0 where training would work and nothing is wrong, 1 where there are problems.

    Args:
        output: The folder for the page and a picture of each class; by default checks/DATA.
        val_fraction: The part of each class that training will hold out where there are no validation pictures.
        quarantine: Move the files that cannot be read to this folder, and write there what came from where. Else nothing is moved.
        json: Print everything as JSON, each file by name.
    """
    from provenet.console import Terminal
    from provenet.runs.check import check_data
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        checkup = check_data(data, output=output, val_fraction=val_fraction, quarantine=quarantine, watcher=terminal)
    if json:
        _print_json(checkup.to_dict())
    else:
        print(checkup)
    return 1 if checkup.problems else 0


@app.command
def colours(
    data: Data,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    skip_broken: Flag = False,
    json: Flag = False,
) -> None:
    """Measure the colours of training pictures: their mean, and the principal components that `train --colours` varies them along.

    Grey pictures have none.

    Args:
        output: The file to write, for --colours: it ends in .toml.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        json: Print a JSON object: {pictures, mean, pca_eigenvalues, pca_eigenvectors}, of pixels of 0 to 1.
    """
    from provenet.console import Terminal
    from provenet.runs.colours import find_colours, show_colours
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        found = find_colours(data, output=output, skip_broken=skip_broken, watcher=terminal)
    if json:
        _print_json(vars(found))
    else:
        print(show_colours(found))
        if output:
            print(f"Train with them: provenet train {shlex.quote(data)} --augment alexnet --colours {shlex.quote(str(output))}")


@app.command
def preview(
    data: Data,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    model: str | None = None,
    wishes: Annotated[Wishes, Parameter(name="*")] = NO_WISHES,
    pictures: int = 8,
    skip_broken: Flag = False,
    json: Flag = False,
) -> None:
    """Look at what a network will be shown in training: some pictures, each as evaluation sees it, then as eight passes would.

    It takes the options of `provenet train`, most of which change nothing that can be seen.

    Args:
        output: The file to write, a .png.
        model: A name of `provenet models`, chosen as `provenet train` does.
        pictures: How many, of different classes.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        json: Print {file, preprocessing, distortion} as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.preview import preview as draw_preview
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        settings = draw_preview(
            data, model, output=output, num_pictures=pictures, skip_broken=skip_broken, watcher=terminal, **vars(wishes)
        )
    if json:
        sections = settings.to_short_dict()
        _print_json({"file": str(output), "preprocessing": sections["preprocessing"], "distortion": sections["distortion"]})
    else:
        print(f"{printable(str(output))} shows what {settings.source.model} will see")


@app.command
def pack(
    data: Data,
    output: Path,
    /,
    *,
    shard_megabytes: float = 512,
    longest_side: int | None = None,
    skip_broken: Flag = False,
    json: Flag = False,
) -> None:
    """Write pictures into tar shards (WebDataset's convention), mixed and with their labels: what training reads fastest.

    One that was stopped or killed goes on when the same command runs again.

    Args:
        output: A new folder, for train-000000.tar … and classes.txt.
        shard_megabytes: The largest size of a shard, in millions of bytes.
        longest_side: Reduce longer pictures to so many pixels; all others are copied as they are.
        skip_broken: Leave out pictures that cannot be decoded, and say how many.
        json: Print {folder, shards, pictures, skipped, bytes} as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.pack import pack as run_pack
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        packed = run_pack(
            data, output, shard_megabytes=shard_megabytes, longest_side=longest_side, skip_broken=skip_broken, watcher=terminal
        )
    if json:
        _print_json(packed.to_dict())
        return
    left_out = f", {packed.skipped:,} broken ones left out" if packed.skipped else ""
    print(f"{packed.pictures:,} pictures in {packed.shards:,} shards of {packed.bytes / 1e6:,.1f} MB together{left_out}. Try:")
    print(f"  provenet train {shlex.quote(str(packed.folder))}")


@app.command
def train(
    data: Data | None = None,
    /,
    *,
    model: str | None = None,
    settings: Path | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    wishes: Annotated[Wishes, Parameter(name="*")] = NO_WISHES,
    val_fraction: float | None = None,
    skip_broken: Flag = False,
    snapshot_seconds: float = 60,
    device: Device = "auto",
    json: Flag = False,
) -> None:
    """Train a network on labelled pictures. What you leave open is chosen by the network and the data.

    Args:
        model: A name of `provenet models`; by default resnet18 for photographs, lenet5 for little grey pictures, else resnet20_cifar.
        settings: The settings.toml of an earlier run, to train the same again.
        output: The folder to make; by default runs/DATA-MODEL.
        val_fraction: The part of each class to hold out where there are no validation pictures.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        snapshot_seconds: Time between two snapshots, which is all that a killed run loses; see `provenet resume`.
        device: Where to compute.
        json: Print the result as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.train import train as run_training
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        run = run_training(
            data,
            model,
            settings_file=settings,
            output=output,
            skip_broken=skip_broken,
            val_fraction=val_fraction,
            device=device,
            snapshot_seconds=snapshot_seconds,
            watcher=terminal,
            **vars(wishes),
        )
    _print_run(run, json=json)


@app.command
def resume(
    run: Path,
    /,
    *,
    data: Annotated[str | None, Parameter(help=f"Where the pictures are now, if they have moved: a {WHAT_DATA_MAY_BE}")] = None,
    snapshot_seconds: float = 60,
    device: Device | None = None,
    json: Flag = False,
) -> None:
    """Go on with a run that was stopped or killed, to the weights it would have had.

    Args:
        run: The folder of the run.
        snapshot_seconds: Time between two snapshots.
        device: Where to compute; by default where the run began.
        json: Print the result as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.resume import resume as resume_run
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        finished = resume_run(run, data=data, device=device, snapshot_seconds=snapshot_seconds, watcher=terminal)
    _print_run(finished, json=json)


@app.command
def evaluate(
    *models_and_data: ModelsAndData,
    views: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    compare: Flag = False,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    predictions: Path | None = None,
    report: Path | None = None,
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    json: Flag = False,
) -> None:
    """How often trained networks are right on labelled pictures. Classes are joined by name.

    A folder of pictures without class folders has no labels: then --predictions is all there is.

    Args:
        views: What is shown of each picture, one or several: center; mirror; ten (AlexNet); 144 (GoogLeNet); 150, dense, dense+crops (VGG);
            multiscale (ResNet); center:288/256 and dense:256,384 have sizes of your own.
        compare: A table of all networks in all views: error, its interval, cost; by default center, mirror, ten, 144 and dense.
        from_: A table that --predictions has written, instead of networks and data: the same sums again.
        split: Which part; by default test, else val, else all.
        predictions: A table to write, .csv or .parquet: the probability of every class for each picture.
        report: An HTML file to write: confusions, look-alikes, calibration, mistakes as pictures, views compared; or several networks.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        device: Where to compute.
        json: Print the result as JSON, with fractions between 0 and 1.
    """
    from provenet.console import Terminal
    from provenet.errors import SettingsError
    from provenet.report.compared import show_compared
    from provenet.runs.compare import COMPARED_VIEWS
    from provenet.runs.compare import compare as compare_models
    from provenet.runs.evaluate import score_models
    from provenet.runs.results import result_of, result_of_file, show_result
    from provenet.runtime import prepare_process

    prepare_process()
    if from_ is not None:
        if models_and_data or views or compare or predictions or report:
            raise SettingsError("--from: expected no network, data, views, --compare, --predictions or --report beside it, found some")
        with Terminal() as terminal:
            result = result_of_file(from_, skip_broken=skip_broken, watcher=terminal)
        _print_json(result.to_dict()) if json else print(show_result(result))
        return
    *models, data = models_and_data or ("",)
    if not models:
        raise SettingsError("evaluate: expected MODEL… and DATA, found fewer; give a bundle or run folder, and pictures")
    options: dict[str, Any] = {"split": split, "skip_broken": skip_broken, "device": device, **vars(wish)}
    with Terminal() as terminal:
        if compare or len(models) > 1 or (views and len(views) > 1):
            if predictions:
                raise SettingsError("--predictions: expected one network and one kind of views, found several; evaluate one of them")
            views = views or (list(COMPARED_VIEWS) if compare else ["center"])
            compared = compare_models(models, data, views=views, report=report, watcher=terminal, **options)
            _print_json(compared.to_dict()) if json else print(show_compared(compared))
        else:
            scored = score_models(
                models, data, views=views or ["center"], predictions=predictions, report=report, watcher=terminal, **options
            )[0]  # fmt: skip
            result = result_of(scored)
            _print_json(result.to_dict()) if json else print(show_result(result))
    if report and not json:
        print(f"{printable(str(report))} shows more: open it in a browser")


@app.command
def calibrate(
    model: Path,
    data: Data,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    json: Flag = False,
) -> None:
    """Make a trained network as sure as it is right: fit its temperature to pictures, and store it in the bundle.

    Its labels stay the same, its probabilities change. Where that would not help, they stay too.

    Args:
        model: A model.safetensors, or the run folder it is in.
        output: Another file for the bundle, NAME.safetensors; by default the same one is written anew.
        split: Which part; by default val, or what was held out in training, else test, else all that was not trained on.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        device: Where to compute.
        json: Print {bundle, data, num_images, was, temperature, error_before, error_after, loss_before, loss_after, helps} as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.calibrate import calibrate as calibrate_bundle
    from provenet.runs.calibrate import show_calibrated
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        found = calibrate_bundle(
            model, data, output=output, split=split, skip_broken=skip_broken, device=device, **vars(wish), watcher=terminal
        )
    _print_json(found.to_dict()) if json else print(show_calibrated(found))


@app.command
def ensemble(
    *models_and_data: ModelsAndData,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    choose: Literal["all", "weights", "greedy"] = "all",
    combine: Literal["probabilities", "logits"] = "probabilities",
    views: str = "center",
    split: Literal["train", "val", "test", "all"] | None = None,
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    json: Flag = False,
) -> None:
    """Several trained networks as one: their answers averaged, what each adds, and whether it is worth it.

    Members may be any networks of any input; classes are joined by name.

    Args:
        output: A bundle to write, NAME.safetensors, that is used like any other: evaluate, predict, probe.
        choose: all (alike), weights (for which the loss is least), or greedy (Caruana: again and again the one that helps most). Fitted to
            validation or held-out pictures; where there are no others, each half is judged with the weights of the other.
        combine: What is averaged: probabilities, or logits, which is the geometric mean of probabilities.
        views: What is shown of each picture, such as ten; see evaluate.
        split: Which part to judge on; by default test, else val, else all.
        skip_broken: Go on without pictures that cannot be decoded and networks that answer with no numbers, and say which.
        device: Where to compute.
        json: Print {members: [{name, share, top1, loss, without_top1 …}], top1, interval, loss, best, chance, helps …} as JSON.
    """
    from provenet.console import Terminal
    from provenet.errors import SettingsError
    from provenet.runs.ensemble import make_ensemble, show_ensemble
    from provenet.runtime import prepare_process

    *models, data = models_and_data or ("",)
    if len(models) < 2:
        raise SettingsError(f"ensemble: expected two or more networks and then DATA, found {len(models)}; name more")
    prepare_process()
    with Terminal() as terminal:
        found = make_ensemble(
            models, data, choose=choose, combine=combine, output=output, views=views, split=split, skip_broken=skip_broken,
            device=device, **vars(wish), watcher=terminal,
        )  # fmt: skip
    _print_json(found.to_dict()) if json else print(show_ensemble(found))


@app.command
def probe(
    model: str,
    data: Annotated[str | None, Parameter(help=f"Pictures to try it on, without which it is shown noise: a {WHAT_DATA_MAY_BE}")] = None,
    /,
    *,
    batch_size: int = 64,
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    device: Device = "auto",
    json: Flag = False,
) -> None:
    """Measure every way to run a network on this machine: how fast, and how far its answers are from the network's own.

    What is found is remembered, and evaluate, predict, features and train choose by it.

    Args:
        model: A name that `provenet models` lists, a bundle, or a run folder.
        batch_size: Pictures at a time; other commands take 64.
        device: Where to compute.
        json: Print {shape, facts, trials: [{way, seconds, start_seconds, error, agreement, why_not …}], chosen, gain} as JSON.
    """
    from provenet.console import Terminal
    from provenet.engines.shown import show_probe
    from provenet.runs.engines import probe
    from provenet.runtime import prepare_process

    prepare_process()
    with Terminal() as terminal:
        found = probe(model, data, batch_size=batch_size, **vars(wish), device=device, watcher=terminal)
    if json:
        _print_json(found.to_dict() | {"chosen": list(found.chosen.way), "gain": found.gain(found.chosen.way)})
    else:
        print(show_probe(found))


@app.command
def survey(
    data: Data,
    /,
    *,
    weights: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    cuts: int = 1,
    budget: float | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    json: Flag = False,
) -> None:
    """Which network suits these pictures? Features of each, a head judged by cross-validation, time and size; and what to train.

    Pictures of a test split are not looked at. Ctrl-C shows what was found so far; what was computed is kept for the next time.

    Args:
        weights: Bundles, run folders, files of weights or tags to try; by default every published set that is on this machine.
        cuts: How many stages to try of each network, from the last before the head backwards.
        budget: Minutes; when they are over, what was found so far is the answer.
        output: The folder for the page (survey.html) and the numbers (survey.json); by default surveys/DATA.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        device: Where to compute.
        json: Print {data, images, classes, folds, backbones: [{weights, network, cut, top1, interval, milliseconds, megabytes …}],
            left_out, seconds, command, suggested} as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.survey import survey
    from provenet.runtime import prepare_process
    from provenet.surveying.found import show_survey

    prepare_process()
    with Terminal() as terminal:
        found, folder = survey(
            data, weights or (), cuts=cuts, budget_minutes=budget, output=output, **vars(wish), skip_broken=skip_broken, device=device,
            watcher=terminal,
        )  # fmt: skip
    if json:
        _print_json(found.to_dict())
        return
    print(f"{show_survey(found)}\n{printable(str(folder / 'survey.html'))} shows it: open it in a browser")


@app.command
def features(
    model: str,
    data: Data,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    ends_after: str = "",
    split: str | None = None,
    feature_type: Literal["float32", "float16"] = "float32",
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
    json: Flag = False,
) -> None:
    """Write what a trained network makes of pictures, before its head, for scikit-learn or anything else that learns.

    They are kept, so that the next time, and for train --transfer cached, only new pictures are computed.

    Args:
        model: A bundle, a run folder, a file of weights, or a tag of `provenet weights list`.
        output: A file to write: .npz (features, labels, classes, splits, paths) or .parquet (path, label, split, features).
        ends_after: The last stage that counts, such as conv4_x; by default the last before the head. Of maps the mean of each is taken.
        split: Which part; by default all.
        feature_type: How they are kept; float16 is half as large. The file has float32.
        skip_broken: Go on without pictures that cannot be decoded, and say how many.
        device: Where to compute.
        json: Print {file, network, cut, engine, precision, images, features, computed} as JSON.
    """
    from provenet.console import Terminal
    from provenet.runs.features import check_output, extract_features
    from provenet.runtime import prepare_process

    check_output(output)
    prepare_process()
    with Terminal() as terminal:
        found = extract_features(
            model, data, ends_after=ends_after, split=split, feature_type=feature_type, **vars(wish), skip_broken=skip_broken,
            device=device, watcher=terminal,
        )  # fmt: skip
        found.save(output)
    images, num_features = found.features.shape
    if json:
        facts = {
            "file": str(output),
            "network": found.network,
            "cut": found.cut,
            "engine": found.way.engine,
            "precision": found.way.precision,
        }
        _print_json({**facts, "images": images, "features": num_features, "computed": found.num_computed})
        return
    print(
        f"{printable(str(output))}: {num_features:,} features of {images:,} pictures, by {found.network} up to {found.cut}, {found.way}; "
        f"{found.num_computed:,} computed, {images - found.num_computed:,} kept from before"
    )


@app.command
def predict(
    bundle: Path,
    /,
    *images: Path,
    csv: Flag = False,
    json: Flag = False,
    skip_broken: Flag = False,
    device: Device = "auto",
    wish: Annotated[EngineWish, Parameter(name="*")] = AUTO,
) -> None:
    """Name what is on pictures.

    Args:
        bundle: A model.safetensors, or the run folder it is in.
        images: Pictures, and folders of pictures.
        csv: Print path, label and probability as CSV.
        json: Print a JSON list of {path, label, probability, top}.
        skip_broken: End with status 0 though some pictures could not be decoded.
        device: Where to compute.
    """
    from provenet.console import Terminal
    from provenet.deploy.predictor import Predictor, list_pictures
    from provenet.errors import DataError, SettingsError
    from provenet.runtime import prepare_process

    if csv and json:
        raise SettingsError("expected --csv or --json, found both; choose one")
    if not images:
        raise SettingsError("predict: expected a picture or a folder after the bundle, found none; name some")
    prepare_process()
    paths, notes = list_pictures(images)
    broken: list[ProvenetError] = []
    predictions = []
    with Terminal() as terminal:
        for note in notes:
            terminal.note(note)
        predictor = Predictor.load(bundle, device=device, **vars(wish), progress=terminal.progress, note=terminal.note)
        for prediction in predictor(paths, on_broken=broken.append):
            predictions.append(prediction)
            terminal.progress("predicting", len(predictions) + len(broken), len(paths))
    if json:
        _print_json([prediction.to_dict() for prediction in predictions])
    elif csv:
        _print_csv(predictions)
    else:
        for prediction in predictions:
            others = ", ".join(f"{label} {probability:.1%}" for label, probability in prediction.top[1:3] if probability >= 0.0005)
            print(f"{printable(prediction.path)}: {prediction.label} {prediction.probability:.1%}" + (f"  ({others})" if others else ""))
    for error in broken:
        complain(error)
    if broken and not skip_broken:
        rest = f"; the other {len(predictions)} are above (--skip-broken to accept that)" if predictions else ""
        raise DataError(f"expected {len(paths)} pictures, found {len(broken)} that could not be read{rest}")


def _shape(text: str) -> tuple[int, ...]:
    """3x224x224 as numbers."""
    from provenet.errors import SettingsError

    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and 0 < int(part) <= 100_000 for part in parts):
        raise SettingsError(f"--input: expected channels, height and width, such as 3x224x224, found {text!r}")
    return tuple(map(int, parts))


def _print_run(run: "Run", *, json: bool) -> None:
    if json:
        test = run.test.to_dict() if run.test else None
        _print_json({"folder": str(run.folder), "bundle": str(run.bundle_path), "val": run.val.to_dict(), "test": test})
        return
    print(f"validation accuracy {run.val.top1:.2%}" + (f", test accuracy {run.test.top1:.2%}" if run.test else ""))
    print(f"In {run.folder}: the network (model.safetensors), the report (report.html), its card (README.md), settings and log. Try:")
    print(f"  provenet predict {shlex.quote(str(run.folder))} PICTURE…")
    if run.cycle_paths:
        print(f"Its networks at the end of each of {len(run.cycle_paths)} cycles are in {run.folder / 'cycles'}. Try:")
        print(f"  provenet ensemble {shlex.quote(str(run.folder / 'cycles'))}/* DATA")


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def _print_csv(predictions: list[Any]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability"])
    writer.writerows([prediction.path, prediction.label, f"{prediction.probability:.6f}"] for prediction in predictions)
