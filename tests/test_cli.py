"""The command line as people meet it: real processes, real files, one line for what cannot be used."""

import csv
import inspect
import io
import json
import os
import re
import subprocess
import sys

import pytest

from conftest import take, write_class_folders
from provenet import cli, cli_cache, cli_weights, summarize
from provenet.__main__ import run as run_command


def run(*words, cwd=None, status=0, **environment):
    """One command in a process of its own -> (stdout, stderr)."""
    command = [sys.executable, "-m", "provenet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def main(capsys, *words, status=0):
    """The same in this process, which is faster -> (stdout, stderr)."""
    with pytest.raises(SystemExit) as ended:
        run_command([str(word) for word in words])
    out, err = capsys.readouterr()
    assert ended.value.code == status, err
    return out, err


def test_help_and_import_need_no_torch():
    for code in (
        "import provenet",
        "import provenet.cli; provenet.cli.app(['--help'])",
        "import provenet.cli; provenet.cli.app(['train', '--help'])",
    ):
        script = f"{code}\nimport sys; sys.exit(any(name in sys.modules for name in ('torch', 'jinja2', 'PIL')))"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0, code


def test_the_whole_road(tmp_path, mini):
    """Train on a folder, evaluate it, predict pictures of it: as a stranger would, in processes of their own."""
    write_class_folders(tmp_path / "clothes" / "train", take(mini["train"], per_class=60, classes=3))
    write_class_folders(tmp_path / "clothes" / "test", take(mini["test"], per_class=20, classes=3))
    out, err = run("train", "clothes", "--model", "lenet5_softmax", "--epochs", "8", "--json", cwd=tmp_path)
    result = json.loads(out)
    assert set(result) == {"folder", "bundle", "val", "test"}
    assert "epoch 8/8" in err
    assert "\r" not in err
    assert "\x1b" not in err  # no bar where there is no terminal
    evaluation = json.loads(run("evaluate", result["bundle"], "clothes", "--json", cwd=tmp_path)[0])
    assert list(evaluation)[:5] == ["images", "top1", "top5", "loss", "classes"]
    assert {name: evaluation[name] for name in result["test"]} == result["test"]
    assert evaluation["images"] == 60
    assert evaluation["top1"] > 0.7
    assert evaluation["top5"] == 1.0
    predictions = json.loads(run("predict", result["folder"], "clothes/test", "--json", cwd=tmp_path)[0])
    assert len(predictions) == 60
    right = sum(prediction["path"].split("/")[2] == prediction["label"] for prediction in predictions)
    assert right / 60 == evaluation["top1"]
    assert [set(prediction) for prediction in predictions[:1]] == [{"path", "label", "probability", "top"}]
    assert predictions[0]["top"][0] == [predictions[0]["label"], predictions[0]["probability"]]
    plain = run("evaluate", result["bundle"], "clothes", cwd=tmp_path)[0]
    assert "60 images: top-1" in plain.splitlines()[-1]


def test_an_evaluation_leaves_a_report(trained, tmp_path, capsys):
    path = tmp_path / "evaluation.html"
    out, _ = main(capsys, "evaluate", trained.folder, "fashion-mini", "--report", path)
    assert f"{path} shows more" in out
    text = path.read_text(encoding="utf-8")
    assert "lenet5_softmax on fashion-mini" in text
    stored = re.findall(r'<image id="p0-(\d+)"', text)
    assert text.count("data:image/png;base64,") == len(stored) == len(set(stored)) > 48
    assert set(re.findall(r'<use href="#p0-(\d+)"', text)) == set(stored)
    quiet, _ = main(capsys, "evaluate", trained.folder, "fashion-mini", "--report", path, "--json")
    assert json.loads(quiet)["images"] == 1_000
    _, err = main(capsys, "evaluate", trained.folder, "fashion-mini", "--report", tmp_path, status=2)
    assert "expected an HTML file to write, found a folder" in err


def test_one_network_in_several_views_leaves_its_report(trained, tmp_path, capsys):
    path = tmp_path / "views.html"
    out, _ = main(capsys, "evaluate", trained.folder, "fashion-mini", "--views", "center", "mirror", "--report", path)
    assert f"{path} shows more" in out
    text = path.read_text(encoding="utf-8")
    assert '<section id="views"' in text
    assert '<section id="confusion-test"' in text


def test_predictions_as_csv_and_as_lines(trained, class_folders, capsys):
    folder = class_folders("names, with 'quotes' 猫", per_class=2, classes=2)
    rows = list(csv.DictReader(io.StringIO(main(capsys, "predict", trained.folder, folder, "--csv")[0])))
    assert len(rows) == 4
    assert "names, with 'quotes' 猫" in rows[0]["path"]
    assert 0 < float(rows[0]["probability"]) <= 1
    lines = main(capsys, "predict", trained.folder, *sorted(folder.glob("*/*.png")))[0].splitlines()
    assert [line.rsplit(": ", 1)[0] for line in lines] == [row["path"] for row in rows]


def test_broken_pictures_do_not_hide_the_others(trained, class_folders, capsys):
    folder = class_folders(per_class=2, classes=2)
    (folder / "broken.png").write_text("no picture")
    out, err = main(capsys, "predict", trained.folder, folder, "--json", status=2)
    assert len(json.loads(out)) == 4
    assert "broken.png: expected an image, found 10 bytes in no known image format" in err
    assert "expected 5 pictures, found 1 that could not be read; the other 4 are above" in err
    main(capsys, "predict", trained.folder, folder, "--json", "--skip-broken")


def test_models_are_listed(capsys):
    out, _ = main(capsys, "models", "lenet*")
    assert out.splitlines()[3].split() == ["lenet5", "1998", "60,000", "326", "K", "1x32x32"]
    fifty, last = json.loads(main(capsys, "models", "resnet50", "resnet152", "--json")[0])
    assert (fifty["name"], fifty["parameters"], fifty["macs"], fifty["input"]) == ("resnet50", 25_557_032, 3_857_973_248, [3, 224, 224])
    assert (fifty["year"], fifty["place"], fifty["weights"]) == (2015, None, ["keras", "onnx_zoo", "onnx_zoo_7"])
    assert (last["place"], last["top5_error_percent"], last["contest_networks"]) == (1, 3.57, 6)


def test_networks_are_verified(capsys, monkeypatch):
    out, _ = main(capsys, "verify", "lenet5_softmax")
    assert "C3: parameters" in out
    assert out.splitlines()[-1] == "1 verified, 63 checks: all agree"
    assert json.loads(main(capsys, "verify", "lenet5_softmax", "resnet8*", "--json")[0])["ok"] is True
    monkeypatch.setattr("provenet.models.lenet.ScaledTanh.amplitude", 1.7)
    out, _ = main(capsys, "verify", "lenet5", status=1)
    assert "lenet5: C1: squash_amplitude: expected 1.7159, found 1.7" in out
    assert json.loads(main(capsys, "verify", "lenet5", "--json", status=1)[0])["ok"] is False


def test_networks_are_compared(trained, capsys):
    out, _ = main(capsys, "difference", "alexnet", "caffenet")
    assert "norm and pool change places in conv1, conv2" in out
    told = json.loads(main(capsys, "difference", "alexnet", "caffenet", "--json")[0])
    assert list(told) == ["a", "b", "same", "changes", "stages", "totals"]
    assert told["totals"]["macs"]["difference"] == 0
    layers = json.loads(main(capsys, "difference", "alexnet", "caffenet", "--json", "--all")[0])["layers"]
    assert len(layers) == 23
    assert "conv1.pool: max pool 3x3/2, 27x27x96" in main(capsys, "difference", "alexnet", "caffenet", "--all")[0]
    out, _ = main(capsys, "difference", trained.folder, "lenet5_softmax")
    assert out.startswith(f"{trained.folder} and lenet5_softmax: the same 12 layers")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere"], "nowhere: expected a folder of class folders, of IDX files or of CIFAR"),
        (["train"], "expected DATA"),
        (["train", "fashion-mini", "--model", "resnet21_cifar"], "unknown network 'resnet21_cifar'; did you mean 'resnet"),
        (["train", "fashion-mini", "--epochs", "0"], "training.epochs (--epochs): expected a number above 0, found 0"),
        (["train", "fashion-mini", "--epochs", "many"], "many"),
        (["train", "fashion-mini", "--device", "cuda"], "--device cuda: this machine"),
        (["train", "fashion-mini", "--lerning-rate", "1"], "--lerning-rate"),
        (["train", "fashion-mini", "--val-fraction", "1.5"], "run.val_fraction (--val-fraction): expected a number above 0 and below 1"),
        (["train", "--settings", "nowhere.toml"], "nowhere.toml: expected a settings file"),
        (["evaluate", "nowhere", "fashion-mini"], "nowhere: expected a bundle"),
        (["calibrate", "nowhere", "fashion-mini"], "nowhere: expected a bundle"),
        (["train", "fashion-mini", "--cycles", "0"], "training.cycles (--cycles): expected 1 to 1000, found 0"),
        (["evaluate"], "evaluate: expected MODEL… and DATA, found fewer"),
        (["ensemble"], "ensemble: expected two or more networks"),
        (["ensemble", "runs/a", "fashion-mini"], "ensemble: expected two or more networks"),
        (["ensemble", "nowhere", "there", "fashion-mini"], "nowhere: expected a bundle"),
        (["evaluate", "runs/a"], "evaluate: expected MODEL… and DATA, found fewer"),
        (["evaluate", "--from", "nothing.csv"], "nothing.csv: expected predictions"),
        (["evaluate", "a", "b", "--from", "p.csv"], "--from: expected no network"),
        (["evaluate", "a", "fashion-mini", "--views", "all"], "--views: expected a way to evaluate"),
        (["predict", "nowhere", "a.png"], "nowhere: expected a bundle"),
        (["models", "vgg17*"], "no network matches 'vgg17*'; did you mean 'vgg1"),
        (["summary", "resnet51"], "resnet51: expected a network or a bundle, found neither; did you mean 'resnet"),
        (["summary", "lenet5", "--input", "3x3"], "--input: expected channels, height and width, such as 3x224x224, found '3x3'"),
        (["difference", "resnet50", "resnet51"], "resnet51: expected a network or a bundle, found neither; did you mean 'resnet"),
        (["difference", "resnet50"], "B"),
        (["draw", "lenet5", "-o", "net.gif"], "net.gif: expected a file that ends in .svg, .png or .html, found .gif"),
        (["draw", "lenet5"], "--output"),
        (["draw", "lenet6", "-o", "net.svg"], "lenet6: expected a network or a bundle, found neither"),
        (["summary", "alexnet", "--input", "3x20x20"], "alexnet: expected images of at least 39x39 pixels, found 20x20"),
        (["summary", "lenet5", "--names", "authors"], "lenet5: expected a network whose authors gave its layers names, found none"),
        (["verify", "alexnte"], "no network matches 'alexnte'; did you mean 'alexnet'"),
        (["train", "fashion-mini", "--init", "random"], "--init"),
        (["train", "fashion-mini", "--augment", "heavy"], '--augment. Choose from: "none", "light", "standard"'),
        (["train", "fashion-mini", "--mean", "median"], '--mean. Choose from: "channel", "pixel", "none"'),
        (["train", "fashion-mini", "--augment", "modern"], "distortion.mixup and distortion.cutmix: expected 0 with training.loss 'map'"),
        (["train", "fashion-mini", "--colours", "nowhere.toml"], "nowhere.toml: expected a file of colours, found nothing readable"),
        (["colours", "fashion-mini"], "fashion-mini: expected pictures in colour, found grey ones"),
        (["preview", "fashion-mini"], "--output"),
        (["preview", "fashion-mini", "-o", "sheet.gif"], "sheet.gif: expected a file that ends in .png, found .gif"),
        (["modles"], "modles"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(capsys, words, message):
    out, err = main(capsys, *words, status=2)
    assert not out
    assert message in err
    assert err.startswith("provenet: ")
    assert err.count("\n") == 1


def test_predictions_that_cannot_be(trained, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([trained.folder], "expected a picture or a folder after the bundle"),
        ([trained.folder, tmp_path / "empty"], "expected pictures in this folder, found none"),
        ([trained.folder, tmp_path / "gone.png"], "gone.png: expected an image, found nothing readable"),
        ([trained.folder, tmp_path / "gone.png", "--csv", "--json"], "expected --csv or --json, found both"),
    ):
        assert message in main(capsys, "predict", *words, status=2)[1]


def test_classes_the_network_does_not_know(trained, class_folders, capsys):
    folder = class_folders(classes=2)
    (folder / "Trouser").rename(folder / "Trousers")
    _, err = main(capsys, "evaluate", trained.folder, folder, status=2)
    assert "found none of them but 'T-shirt-top', 'Trousers'; did you mean 'T-shirt/top'?" in err


def test_a_check_ends_with_status_0_1_or_2(class_folders, capsys, tmp_path, monkeypatch):
    class_folders("clothes", per_class=30, classes=2)
    monkeypatch.chdir(tmp_path)
    out, err = main(capsys, "check", "clothes")
    assert not err
    assert out.splitlines()[0] == "clothes: 60 pictures of 2 classes; val is held out of all, as training will"
    assert out.splitlines()[-2:] == ["A picture of each class: checks/clothes/check.html", "Ready to train: provenet train clothes"]
    assert sorted(os.listdir("checks/clothes")) == ["01-T-shirt-top.jpg", "02-Trouser.jpg", "check.html"]
    (tmp_path / "clothes" / "Trouser" / "broken.png").touch()
    out, err = main(capsys, "check", "clothes", "--val-fraction", "0.5", "-o", "elsewhere", status=1)
    assert not err
    assert "problem  1 unreadable file, empty (0 bytes); replace or remove" in out
    assert out.splitlines()[-2].endswith("go on without: provenet train clothes --val-fraction 0.5 --skip-broken")
    assert out.splitlines()[-1].endswith("provenet check clothes --val-fraction 0.5 --quarantine clothes-unreadable")
    assert (tmp_path / "elsewhere" / "check.html").is_file()
    for words, message in (
        (["nowhere"], "nowhere: expected a folder of class folders, of IDX files or of CIFAR"),
        (["clothes", "--val-fraction", "1"], "(--val-fraction): expected a number above 0 and below 1, found 1"),
        (["clothes", "-o", "clothes/checks"], "clothes/checks: expected a folder outside of the pictures"),
        ([], "DATA"),
    ):
        out, err = main(capsys, "check", *words, status=2)
        assert not out
        assert message in err
        assert err.count("\n") == 1


def test_a_check_as_json_is_nothing_but_json(class_folders, tmp_path):
    folder = class_folders("clothes", per_class=30, classes=2)
    (folder / "Trouser" / "red\x1b[31m\n.png").touch()
    out, err = run("check", "clothes", "--json", cwd=tmp_path, status=1)
    result = json.loads(out)
    assert not err
    assert "\x1b" not in out
    assert len(result["files"]) == 61
    assert set(result["files"][0]) == {"path", "split", "class", "width", "height", "bytes", "problem"}
    assert [row["sheet"] for row in result["classes"]] == ["checks/clothes/01-T-shirt-top.jpg", "checks/clothes/02-Trouser.jpg"]
    assert all((tmp_path / row["sheet"]).is_file() for row in result["classes"])
    assert (tmp_path / result["page"]).is_file()
    plain, _ = run("check", "clothes", cwd=tmp_path, status=1)
    assert "\x1b" not in plain
    assert plain.splitlines()[-2] == result["verdict"]


def test_a_report_replaces_only_a_report(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.html").write_text("<!doctype html> mine")
    os.mkfifo(tmp_path / "pipe")
    bundle = tmp_path / "model.safetensors"
    bundle.write_bytes(trained.bundle_path.read_bytes())
    for name in ("mine.html", "pipe", "model.safetensors"):
        _, err = main(capsys, "evaluate", bundle, "fashion-mini", "--report", name, status=2)
        assert "expected a new file or an earlier report, found another; choose another name" in err
    assert (tmp_path / "mine.html").read_text() == "<!doctype html> mine"
    assert bundle.read_bytes() == trained.bundle_path.read_bytes()
    for _ in range(2):
        main(capsys, "evaluate", bundle, "fashion-mini", "--report", "new.html")


def test_what_training_will_show_is_drawn(capsys, tmp_path):
    words = "preview", "fashion-mini", "--model", "lenet5_softmax", "--augment", "lenet5", "--pictures", "2", "-o", tmp_path / "sheet.png"
    assert main(capsys, *words)[0] == f"{tmp_path / 'sheet.png'} shows what lenet5_softmax will see\n"
    told = json.loads(main(capsys, *words, "--json", "--shift-pixels", "1", "--mean", "pixel")[0])
    assert told["preprocessing"].pop("mean_image").startswith("32x32x1 ")  # its fingerprint
    assert set(told) == {"file", "preprocessing", "distortion"}
    assert (told["distortion"]["shift_pixels"], told["distortion"]["shear_degrees"], told["preprocessing"]["size"]) == (1, 15.0, 32)


def test_the_options_are_decided_on_purpose():
    """A new option is a decision: add it here and to the README."""
    names = (
        "models",
        "summary",
        "difference",
        "draw",
        "verify",
        "check",
        "colours",
        "preview",
        "pack",
        "train",
        "resume",
        "evaluate",
        "calibrate",
        "ensemble",
        "survey",
        "features",
        "probe",
        "predict",
    )
    commands = {name: getattr(cli, name) for name in names}
    assert {name: " ".join(inspect.signature(function).parameters) for name, function in commands.items()} == {
        "models": "patterns json",
        "summary": "network input depth names json",
        "difference": "a b all json",
        "draw": "network output unfold input json",
        "verify": "names json",
        "check": "data output val_fraction quarantine json",
        "colours": "data output skip_broken json",
        "preview": "data output model wishes pictures skip_broken json",
        "pack": "data output shard_megabytes longest_side skip_broken json",
        "train": "data model settings output wishes val_fraction skip_broken snapshot_seconds device json",
        "resume": "run data snapshot_seconds device json",
        "calibrate": "model data output split skip_broken device wish json",
        "ensemble": "models_and_data output choose combine views split skip_broken device wish json",
        "evaluate": "models_and_data views compare from_ split predictions report skip_broken device wish json",
        "survey": "data weights cuts budget output skip_broken device wish json",
        "features": "model data output ends_after split feature_type skip_broken device wish json",
        "probe": "model data batch_size wish device json",
        "predict": "bundle images csv json skip_broken device wish",
    }
    of_weights = {name: cli_weights.weights[name].default_command for name in cli_weights.weights if not name.startswith("-")}
    assert {name: " ".join(inspect.signature(function).parameters) for name, function in of_weights.items()} == {
        "list": "patterns wide json",
        "show": "tag json",
        "fetch": "tag output mirror proxy json",
        "import": "file output as_ without preprocessing classes json",
        "export": "bundle to output json",
        "publish": "bundle to card licence private json",
    }
    of_cache = {name: cli_cache.cache[name].default_command for name in cli_cache.cache if not name.startswith("-")}
    assert {name: " ".join(inspect.signature(function).parameters) for name, function in of_cache.items()} == {
        "list": "json",
        "prune": "keys older_than all json",
    }
    assert {name for name in cli.app if not name.startswith("-")} == {*commands, "weights", "cache"}


def test_a_summary_in_json_has_what_was_promised(capsys):
    found = json.loads(main(capsys, "summary", "resnet50", "--json")[0])
    assert list(found)[:5] == ["name", "input", "parameters", "macs", "activation_bytes"]
    assert (found["name"], found["input"], found["parameters"], found["macs"]) == ("resnet50", [3, 224, 224], 25_557_032, 3_857_973_248)
    assert [layer["name"] for layer in found["layers"][:2]] == ["conv1.conv", "conv1.bn"]
    keys = ["name", "kind", "output", "parameters", "macs", "activation_bytes", "receptive_field", "stride"]
    assert all(list(layer)[:8] == keys for layer in found["layers"])
    assert sum(layer["macs"] for layer in found["layers"]) == found["macs"]
    assert sum(layer["activation_bytes"] for layer in found["layers"]) == found["activation_bytes"]
    first = found["layers"][0]
    assert (first["output"], first["receptive_field"], first["stride"]) == ([64, 112, 112], 7, 2)


def test_a_summary_by_stage_and_by_the_authors_names(capsys):
    out, _ = main(capsys, "summary", "googlenet", "--depth", "stage")
    assert [line.split()[0] for line in out.splitlines()[3:18]] == [stage.name for stage in summarize("googlenet").stages]
    out, _ = main(capsys, "summary", "resnet152", "--names", "authors")
    assert {"res4b22_branch2c", "bn2a_branch1", "res5c_relu", "res3b7", "res2a_branch2a_relu", "fc1000"} <= {
        line.split()[0] for line in out.splitlines() if line.strip()
    }
    out, _ = main(capsys, "summary", "resnet20_cifar", "--input", "3x64x64", "--depth", "block", "--json")
    assert json.loads(out)["layers"][0]["output"] == [16, 64, 64]


def test_a_bundle_is_summarised_and_drawn(capsys, tmp_path, trained):
    assert json.loads(main(capsys, "summary", str(trained.folder), "--json")[0])["name"] == "lenet5_softmax"
    out, _ = main(capsys, "draw", str(trained.folder), "-o", str(tmp_path / "net.html"))
    assert out == f"{tmp_path / 'net.html'} shows lenet5_softmax: open it in a browser\n"
    assert json.loads(main(capsys, "draw", "lenet5", "-o", str(tmp_path / "net.png"), "--json")[0])["name"] == "lenet5"
