"""Networks run forward: the chosen engine beside torch as it is usually run (I1), and beside OpenVINO and ONNX Runtime by hand (I2).

    python bench/inference.py [--quick] [--networks resnet50_v1_5 ...] [--trained FOLDER --data DATA]

Batches of 16 images of 224 pixels, the same weights on all sides: with --trained those of FOLDER/NETWORK, a run or a bundle, and the test
pictures of DATA; else networks as initialised, and noise of unit variance. Every side is a process of its own, because the allocator is set
for a whole process: ours sets it, as the command line does, the others do not. They take turns, a batch that does not count and one that
does. Their answers are compared first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from provenet.data.sources import open_data
from provenet.engines.choose import MOST_INT8_IMAGES, Sample, Work, open_engine
from provenet.engines.ways import LARGEST_ERROR, EngineWish
from provenet.models.catalog import build_network
from provenet.runs.engines import sample_of
from provenet.runtime import count_cores, keep_large_blocks, place, prepare_process
from provenet.weights.bundle import load_bundle
from turns import print_setting, print_table, ratio_row, take_turns

ROUNDS, QUICK_ROUNDS, BATCH_SIZE, SIDE_PIXELS = 9, 2, 16, 224
GOALS = {
    "resnet50_v1_5": ("3, 4.3, int8 7", "0.95, 1.0, int8 1.5"),
    "googlenet_bn": ("10, 35, int8 60", "0.95, 1.0, int8 1.5"),
    "alexnet_owt": ("3, 8, int8 14", "0.95, 1.0, int8 1.5"),
    "vgg16": ("3, 4.5, int8 8", "0.95, 1.0, int8 1.5"),
}
PAUSE_SECONDS = 0.5
"""Before a turn: idle threads of ONNX Runtime look for work that long, on the cores of whoever comes next."""
Run = Callable[[Tensor], Tensor]


def main() -> None:
    """Start the sides of one network after another, compare their answers, take turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--networks", nargs="+", default=list(GOALS))
    parser.add_argument("--trained", type=Path, help="a folder with a run of each network")
    parser.add_argument("--data", help="pictures for networks that were trained")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        serve(asked.side, asked.networks[0], asked.folder, asked.trained, asked.data)
        return
    torch.set_num_threads(count_cores())
    print_setting(f"Inference: batches of {BATCH_SIZE} images of {SIDE_PIXELS} pixels")
    rounds = QUICK_ROUNDS if asked.quick else ROUNDS
    rows_usual, rows_hand, said = [], [], []
    for network in asked.networks:
        found, ways = compare(network, rounds, asked.trained, asked.data)
        for ours in ("ours", "ours int8"):
            if ours not in found:
                continue
            name = f"{network}, {ways[ours]}"
            rows_usual.append(ratio_row(name, _speeds(found[ours]), _speeds(found["usual"]), GOALS.get(network, ("", ""))[0]))
            by_hand = min(("openvino by hand", "onnxruntime by hand"), key=lambda side: np.median(found[side]))
            rows_hand.append(
                ratio_row(f"{name}; {by_hand}", _speeds(found[ours]), _speeds(found[by_hand]), GOALS.get(network, ("", ""))[1])
            )
        said += [f"* {network}: {line}" for line in ways["said"].splitlines()]
        allocated = [usual / kept for usual, kept in zip(found["usual"], found["usual with our allocator"], strict=True)]
        said.append(f"* {network}: the usual way with our allocator is {np.median(allocated):.2f} times as fast as without.")
    heads = ["network and way", "ours, images/s", "beside, images/s", "ratio", "rounds", "floor, target, moonshot"]
    print("I1, beside torch as it is usually run: eager, float32, NCHW, the system's allocator\n")
    print_table(heads, rows_usual)
    print("I2, beside the faster of OpenVINO in bfloat16 and ONNX Runtime, by hand\n")
    print_table(heads, rows_hand)
    print("\n".join(said))


def compare(network: str, rounds: int, trained: Path | None, data: str | None) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of a batch on each side, round by round; and what ours chose and said."""
    sides = ["usual", "usual with our allocator", "openvino by hand", "onnxruntime by hand", "ours", "ours int8"]
    ways = {"said": ""}
    with tempfile.TemporaryDirectory() as folder:
        processes = {}
        try:
            for side in sides:  # one after the other: choosing measures, and must have the machine for itself
                process = _start(side, network, Path(folder), trained, data)
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline() or '{"failed": "the process died"}')
                if "failed" in ready:
                    ways["said"] += f"{side}: {ready['failed']}\n"
                    process.kill()
                    continue
                processes[side] = process
                ways[side] = ready["way"]
                ways["said"] += "".join(f"{note}\n" for note in ready["said"])
            expected = np.load(Path(folder) / "usual.npy")
            for side in processes:
                answers = np.load(Path(folder) / f"{side}.npy")
                error = np.linalg.norm(answers - expected) / np.linalg.norm(expected)
                assert error < LARGEST_ERROR["int8" if "int8" in side else "bfloat16"], (network, side, error)
            return take_turns({side: partial(_turn, process) for side, process in processes.items()}, rounds), ways
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def _start(side: str, network: str, folder: Path, trained: Path | None, data: str | None) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--side", side, "--networks", network, "--folder", str(folder)]
    if trained and data:
        command += ["--trained", str(trained), "--data", data]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _turn(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _speeds(seconds: list[float]) -> list[float]:
    return [BATCH_SIZE / each for each in seconds]


def serve(side: str, network: str, folder: Path, trained: Path | None, data: str | None) -> None:
    """One side: get ready, write its answers, then run a batch for every line that comes."""
    warnings.simplefilter("ignore")
    net, sample = trained_network(trained / network, data) if trained and data else new_network(network)
    images = sample(BATCH_SIZE)
    said: list[str] = []
    answer = sys.stdout
    sys.stdout = sys.stderr  # some libraries talk
    torch.set_num_threads(count_cores())
    try:
        run, way = SIDES[side](net, sample, folder, said)
        np.save(folder / f"{side}.npy", run(images).float().numpy())
    except Exception as error:
        answer.write(json.dumps({"failed": " ".join(str(error).split())[:300]}) + "\n")
        return
    answer.write(json.dumps({"way": way, "said": said}) + "\n")
    answer.flush()
    for _ in sys.stdin:
        time.sleep(PAUSE_SECONDS)
        run(images)  # the caches are the other sides' still
        started_at = time.perf_counter()
        run(images)
        answer.write(f"{time.perf_counter() - started_at}\n")
        answer.flush()


def new_network(name: str) -> tuple[nn.Module, Sample]:
    """The network as initialised, and noise."""
    torch.manual_seed(0)
    net = build_network(name, init="trainable").eval()
    noise = torch.randn(MOST_INT8_IMAGES, 3, SIDE_PIXELS, SIDE_PIXELS)
    return net, lambda count: noise[:count].contiguous()


def trained_network(path: Path, data: str) -> tuple[nn.Module, Sample]:
    """The network of a run or bundle, and pictures that it was not trained on."""
    bundle = load_bundle(path)
    sample = sample_of(open_data(data).splits["test"], bundle.preprocessing, torch.device("cpu"))
    return bundle.network.eval(), lambda count: sample(count).contiguous()


def usual(net: nn.Module, sample: Sample, folder: Path, said: list[str]) -> tuple[Run, str]:
    """As in every tutorial."""
    del sample, folder, said

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = net(images)
            return logits

    return run, "eager float32"


def usual_with_allocator(net: nn.Module, sample: Sample, folder: Path, said: list[str]) -> tuple[Run, str]:
    """The same, large blocks kept."""
    keep_large_blocks()
    return usual(net, sample, folder, said)


def openvino_by_hand(net: nn.Module, sample: Sample, folder: Path, said: list[str]) -> tuple[Run, str]:
    """As in OpenVINO's own guide, in bfloat16."""
    del folder, said
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    model = openvino.convert_model(net, example_input=sample(BATCH_SIZE))
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"})
    return lambda images: torch.from_numpy(compiled(images.numpy())[0]), "openvino bfloat16"


def onnxruntime_by_hand(net: nn.Module, sample: Sample, folder: Path, said: list[str]) -> tuple[Run, str]:
    """As in torch's own guide."""
    del said
    import onnxruntime

    torch.onnx.export(net, (sample(BATCH_SIZE),), str(folder / "hand.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(folder / "hand.onnx"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0]), "onnxruntime float32"


def ours(net: nn.Module, sample: Sample, folder: Path, said: list[str], precision: str = "auto") -> tuple[Run, str]:
    """What evaluate, predict and features use for long work when nothing is asked for."""
    del folder
    prepare_process()
    place(net, torch.device("cpu"))
    work = Work(num_images=10**6, batch_size=BATCH_SIZE, sample=sample)
    engine = open_engine(net, work, EngineWish(precision=precision), note=said.append)  # type: ignore[arg-type]
    return engine, str(engine.way)


def ours_int8(net: nn.Module, sample: Sample, folder: Path, said: list[str]) -> tuple[Run, str]:
    """With --precision int8: used only where labels agree."""
    return ours(net, sample, folder, said, "int8")


SIDES = {
    "usual": usual,
    "usual with our allocator": usual_with_allocator,
    "openvino by hand": openvino_by_hand,
    "onnxruntime by hand": onnxruntime_by_hand,
    "ours": ours,
    "ours int8": ours_int8,
}

if __name__ == "__main__":
    main()
