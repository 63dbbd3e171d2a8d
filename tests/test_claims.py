"""The page of courses' statements against what its commands measure now."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import write_claims_page  # noqa: E402
from claims import CLAIMS, has_figures, numbers_in, read_counts, read_gradients  # noqa: E402
from write_claims_page import COUNTED, PAGES, SECTIONS, measure, run, write_page  # noqa: E402

# What the page must speak of, each with the verdict that is known from papers and from arithmetic by hand.
SURVIVE = {
    "the cost of 5x5 on 28x28x192": "direct_cost",
    "and through 1x1": "bottleneck_cost",
    "55 pixels": "alexnet_conv1_size",
    "34,848 weights": "alexnet_conv1_weights",
    "a global average and 49": "vgg16_global_average",
    "a residual block that is the identity": "residual_identity",
    "6x6x256 to 6x6x32": "pointwise_output",
    "reductions and 4": "inception_reductions",
    "naive modules chained": "inception_naive",
    "shortcuts add nothing": "shortcut_parameters",
}
FALL = {
    "shortcuts save": "shortcuts_save",
    "VGG-16 and 13 million": "vgg16_parameters",
    "16 convolutional layers": "vgg16_convolutions",
    "93 MB and 24 million": "vgg16_activations",
    "930 GB": "vgg16_activations_of_many",
    "GoogLeNet and 5 million": "googlenet_parameters",
    "28·28·32·28·28·192": "direct_formula",
    "28·28·129": "inception_input",
    "LeNet-5 and ILSVRC": "lenet_contest",
    "LeNet-5 and the 1980s": "lenet_decade",
    "1e-5": "resnet_weight_decay",
    "VGG and 2015": "vgg_year",
    "two CPUs": "alexnet_hardware",
    "5·5·15": "bottleneck_formula",
    "D is the best": "vgg_best",
    "ZFNet won": "zfnet_contest",
    "pool, then norm": "alexnet_order",
    "vanishing gradients": "vanishing_gradients",
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_what_its_commands_measure(language):
    assert PAGES[language].read_text(encoding="utf-8") == write_page(language), f"{PAGES[language].name} is old: make docs"


def test_every_statement_is_there_once_with_its_verdict():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert set(names) == {*SURVIVE.values(), *FALL.values()}
    assert len({claim.statement.en for claim in CLAIMS}) == len({claim.statement.zh for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.name for claim in CLAIMS if measure(claim).survives} == set(SURVIVE.values())
    assert {claim.section for claim in CLAIMS} == set(SECTIONS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_reader_sees_what_was_measured(claim):
    """What is measured stands in what the command prints as it is shown, and in both languages."""
    measured = measure(claim).measured
    assert set(numbers_in(measured.en)) == set(numbers_in(measured.zh))
    printed = "\n".join(run(command) for command in claim.commands)
    if claim.name not in ("vgg16_convolutions", "inception_input", "alexnet_order"):  # which count or read rows
        seen = set(numbers_in(printed)) | set(re.findall(r"[\d.]+", printed))
        assert set(numbers_in(measured.en)) & seen


def test_verdicts_follow_the_numbers():
    """Other numbers, another verdict: none is written down."""
    claims = {claim.name: claim for claim in CLAIMS}
    thirteen_million, alexnet = {"parameters": 13_357_544}, {"parameters": 60_965_224}
    assert claims["vgg16_parameters"].measure(thirteen_million, alexnet).survives
    assert claims["googlenet_parameters"].measure({"parameters": 5_079_000}, alexnet).survives
    assert claims["resnet_weight_decay"].measure("1e-05\n").survives
    assert not claims["inception_reductions"].measure("all 20,000,000 2,000,000 10.00").survives
    counts = run("python tools/count_activations.py vgg16")
    assert claims["vgg16_activations"].measure(counts.replace("28,793,320", "24,100,000")).survives
    gradients = run("python tools/measure_gradients.py")
    assert claims["vanishing_gradients"].measure(gradients.replace("1000", "1e-07")).survives


def test_the_counts_of_vgg16():
    """By hand: maps times pixels of the thirteen convolutions, five pools and three fully connected layers."""
    sides = {224: (64, 64), 112: (128, 128), 56: (256,) * 3, 28: (512,) * 3, 14: (512,) * 3}
    convolutions = sum(side * side * sum(maps) for side, maps in sides.items())
    pools = sum((side // 2) ** 2 * maps[-1] for side, maps in sides.items())
    counts = read_counts(run("python tools/count_activations.py vgg16"))
    assert counts["convolutions, pools, fully connected"] == convolutions + pools + 4096 + 4096 + 1000 == 15_087_080
    assert counts["all outputs and the picture"] == 2 * convolutions + pools + 2 * (4096 + 4096) + 1000 + 3 * 224 * 224
    assert list(counts) == list(COUNTED)


def test_gradients_vanish_where_they_can():
    """The measure tells: without batch norm, from a start of half the variance, a plain net's do and a residual one's do not."""
    gradients = read_gradients(run("python tools/measure_gradients.py"))
    assert gradients["plain56_cifar", False][0] < 1e-6
    assert gradients["resnet56_cifar", False][0] > 0.1
    assert all(min(norms) > 0.1 for (_, has_norm), norms in gradients.items() if has_norm)


def test_figures():
    assert has_figures(97_526_008, 97.5e6, 0.1e6)
    assert not has_figures(97_526_008, 97.4e6, 0.1e6)
    assert numbers_in("96x55x55 and 1,516") == [96, 55, 55, 1516]


def test_a_command_that_fails_writes_no_page(monkeypatch):
    monkeypatch.setattr(write_claims_page, "app", lambda *words, **options: 1)
    with pytest.raises(AssertionError, match="provenet models alexnet: expected status 0, found 1"):
        write_claims_page.run("provenet models alexnet")
