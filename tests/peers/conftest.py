"""The peers are made importable, and what was compared is printed as a table at the end."""

import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from comparison import Comparisons

COMPARISONS = pytest.StashKey[Comparisons]()

os.environ["KERAS_BACKEND"] = "torch"  # read once, when Keras is imported


def declare_operators_of_torchvision() -> None:
    """torchvision's wheel brings compiled operators for a torch with CUDA; without one its import looks for two that nobody declared.

    The networks use neither, so their signatures are enough.
    """
    (folder,) = importlib.util.find_spec("torchvision").submodule_search_locations
    try:
        torch.ops.load_library(Path(folder) / "_C.so")
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


declare_operators_of_torchvision()


def pytest_configure(config):
    config.stash[COMPARISONS] = Comparisons()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def comparisons(request) -> Comparisons:
    return request.config.stash[COMPARISONS]


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash[COMPARISONS].table():
        terminalreporter.section("relative error of the logits with the same random weights")
        versions = [f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "keras", "pytorchcv", "onnxruntime")]
        for line in (*lines, "", ", ".join(versions) + f"; threads: {torch.get_num_threads()}"):
            terminalreporter.write_line(line)
