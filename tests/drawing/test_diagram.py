"""Pictures of networks: what they show, that they are whole, and the same each time."""

import io
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from provenet import draw
from provenet.drawing.structure import Block, Fork, Item, Unit, arrange, arrange_rows
from provenet.errors import ModelError
from provenet.inspection.summary import summarize
from provenet.models.catalog import NETWORKS

SVG = "{http://www.w3.org/2000/svg}"
FAMILIES = [
    "lenet5",
    "alexnet",
    "zfnet",
    "vgg16",
    "nin_imagenet",
    "googlenet",
    "googlenet_naive",
    "resnet50",
    "resnet34_a",
    "plain20_cifar",
]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def rows_in(svg: str) -> set[str]:
    """Names of the rows that some part of a picture stands for."""
    named = [element.get("data-rows") for element in ElementTree.fromstring(svg).iter(f"{SVG}g")]
    return {name for names in named if names for name in names.split("|")}


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "resnet1202_cifar"])
def test_every_network_has_its_picture(name):
    summary = summarize(name)
    for unfold in (False, True):
        svg = draw(summary, unfold=unfold).svg
        shown = texts(svg)
        assert shown[0] == name
        assert {stage.name for stage in summary.stages} <= set(shown)
        assert "×".join(map(str, (*summary.input[0][1:], summary.input[0][0]))) in shown
        repeated = {row.name for stage in arrange(summary) for item in stage.items if isinstance(item, Block) for row in item.rows}
        missing = {row.name for row in (*summary.rows, *summary.only_in_training) if row.kind != "identity"} - rows_in(svg)
        blocks = {summary.blocks[name] for name in missing}
        shown_blocks = {summary.blocks[name] for name in repeated}
        assert not blocks & shown_blocks, "only blocks that stand for several may be missing"
        assert all(f"×{n}" in " ".join(shown) for n in [item_repeats(summary)] if n > 1)


def item_repeats(summary) -> int:
    return max((item.repeats for stage in arrange(summary) for item in stage.items if isinstance(item, Block)), default=1)


def test_the_same_network_gives_the_same_bytes():
    code = "import hashlib, provenet as pn; print(hashlib.sha256(pn.draw('googlenet', unfold=True).svg.encode()).hexdigest())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert draw("vgg11").svg == draw("vgg11").svg


def test_residual_blocks_fork_and_meet():
    stages = {stage.name: stage for stage in arrange(summarize("resnet50"))}
    pool, first, others = stages["conv2_x"].items
    assert isinstance(pool, Unit)
    assert isinstance(first, Block)
    assert isinstance(others, Block)
    assert (first.repeats, others.repeats) == (1, 2)
    (fork,) = first.series
    assert isinstance(fork, Fork)
    assert fork.join is not None
    assert [len(branch) for branch in fork.branches] == [3, 1]  # the bottleneck, the projection
    assert fork.join.rows[0].kind == "add"
    assert [row.kind for row in fork.branches[0][0].rows] == ["convolution", "batch_norm", "relu"]
    (fork,) = others.series
    assert sorted(len(branch) for branch in fork.branches) == [0, 3]  # an identity is a line, not a box
    assert [item.repeats for item in arrange(summarize("resnet152"))[3].items] == [1, 35]


def test_an_inception_module_has_four_columns():
    stages = {stage.name: stage for stage in arrange(summarize("googlenet"))}
    (block,) = stages["inception_3a"].items
    (fork,) = block.series
    assert [len(branch) for branch in fork.branches] == [1, 2, 2, 2]
    assert fork.join.rows[0].kind == "concatenate"
    assert [stage.name for stage in stages.values() if stage.beside] == ["inception_4a", "inception_4d"]
    unfolded = texts(draw("googlenet", unfold=True).svg)
    assert {"28×28×64", "28×28×128", "28×28×32", "28×28×256"} <= set(unfolded)
    assert unfolded.count("only in training") == 3  # two heads and the legend


def test_shortcuts_are_drawn_as_shortcuts():
    assert draw("resnet18").svg.count('<path class="shortcut"') == 8 - 1 + 1  # conv2_x's two blocks are one; the legend has one
    assert draw("resnet18_a").svg.count('<path class="shortcut padded"') == 3
    assert 'class="shortcut' not in draw("plain18").svg.partition("</style>")[2]
    assert "shortcut" not in texts(draw("plain18").svg)


class Lattice(nn.Module):
    """Paths that cross: no nest of forks and joins."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) for _ in range(4))

    def forward(self, maps: Tensor) -> Tensor:
        a, b = self.a(maps), self.b(maps)
        return self.c(a + b) * self.d(b)


class Wrapped(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.add_module(name, Lattice())
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(next(self.children())(maps))


def test_any_module_can_be_drawn_and_its_names_are_escaped():
    hostile = "<script>alert(1)</script>&\"'"
    net = Wrapped(hostile)
    picture = draw(net, (3, 8, 8), unfold=True)
    assert hostile in texts(picture.svg)
    assert "<script>" not in picture.svg
    assert {f"{hostile}.{name}" for name in "abcd"} <= rows_in(picture.svg)
    boxes: list[Item] = list(arrange_rows(summarize(Lattice(), (3, 8, 8)).rows))
    assert [unit.rows[0].name for unit in boxes if isinstance(unit, Unit)][:2] == ["a", "b"]


def test_a_picture_in_pixels(tmp_path):
    picture = draw("alexnet")
    picture.save(tmp_path / "net.png")
    image = Image.open(tmp_path / "net.png").convert("RGB")
    root = ElementTree.fromstring(picture.svg)
    assert image.size == (round(2 * float(root.get("width"))), round(2 * float(root.get("height"))))
    assert picture.png() == (tmp_path / "net.png").read_bytes()
    title = image.crop((60, 60, 240, 110)).convert("L")  # the name, in large letters of the font that we carry
    assert sum(value < 90 for value in title.get_flattened_data()) > 400
    empty = Image.open(io.BytesIO(draw(nn.Sequential(nn.ReLU()), (3, 8, 8)).png(zoom=1)))
    assert empty.size[0] > 100


def test_it_shows_itself_in_a_notebook_and_saves_what_it_is_told(tmp_path):
    picture = draw("lenet5")
    assert picture._repr_svg_().startswith("<svg")
    picture.save(tmp_path / "net.SVG")
    assert (tmp_path / "net.SVG").read_text(encoding="utf-8") == picture.svg
    with pytest.raises(ModelError, match=r"net.pdf: expected a file that ends in .svg, .png or .html, found .pdf"):
        picture.save(tmp_path / "net.pdf")
    with pytest.raises(ModelError, match="found no ending"):
        picture.save(tmp_path / "net")
    with pytest.raises(OSError, match="no folder of that name"):
        picture.save(tmp_path / "nowhere" / "net.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["net.SVG"]


def test_weights_do_not_matter_and_are_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    draw(net, (3, 16, 16))
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training
