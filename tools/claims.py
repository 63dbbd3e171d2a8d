"""Statements with numbers that courses make on these networks, and how each is measured.

A claim is a function. It gets what its commands printed (of `provenet` with `--json`, read; of `python` the text) and returns what was
measured, and whether the statement survives, which it decides by comparing. `write_claims_page.py` runs the commands.
"""

import ast
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Section = Literal["lenet", "alexnet", "zfnet", "vgg", "inception", "resnet"]
Json = Any


class Words(NamedTuple):
    """The same in both languages."""

    en: str
    zh: str


class Finding(NamedTuple):
    """What a claim came to."""

    survives: bool
    measured: Words
    why: Words | None = None
    """One sentence, where the numbers alone do not say it."""


class Claim(NamedTuple):
    """One statement."""

    name: str
    section: Section
    statement: Words
    commands: tuple[str, ...]
    measure: Callable[..., Finding]


CLAIMS: list[Claim] = []
"""In the order of the page."""


def claim(section: Section, *commands: str, en: str, zh: str) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    """Add the function below it to the list."""

    def add(measure: Callable[..., Finding]) -> Callable[..., Finding]:
        CLAIMS.append(Claim(measure.__name__, section, Words(en, zh), commands, measure))
        return measure

    return add


def same(text: str) -> Words:
    """Numbers need no translation."""
    return Words(text, text)


def has_figures(measured: float, claimed: float, unit: float) -> bool:
    """Whether a measured number, rounded to the unit in which it was claimed, is the claimed one.

    >>> has_figures(120_422_400, 120e6, 1e6), has_figures(138_357_544, 13e6, 1e6)
    (True, False)
    """
    return round(measured / unit) == round(claimed / unit)


def found(verification: Json, what: str) -> str:
    """What one check of `provenet verify` found."""
    return next(str(check["found"]) for check in verification["networks"][0]["checks"] if check["what"] == what)


def numbers_in(text: str) -> list[int]:
    """Whole numbers of a line.

    >>> numbers_in("2,408,448 and 10,035,200"), numbers_in("96x55x55")
    ([2408448, 10035200], [96, 55, 55])
    """
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


# LeNet-5


@claim("lenet", "provenet models lenet5", en="LeNet-5 won ILSVRC in 1998.", zh="LeNet-5 赢得了 1998 年的 ILSVRC。")
def lenet_contest(models: Json) -> Finding:
    year, contest = models[0]["year"], models[0]["contest"]
    return Finding(
        survives=(contest, models[0]["place"]) == ("ILSVRC", 1) and year == 1998,
        measured=Words(f"published {year}, contest: {contest or 'none'}", f"发表于 {year} 年，竞赛：{contest or '无'}"),
        why=Words(
            "ILSVRC was first held in [2010](https://image-net.org/challenges/LSVRC/2010/)",
            "ILSVRC 从 [2010](https://image-net.org/challenges/LSVRC/2010/) 年才开始举办",
        ),
    )


@claim("lenet", "provenet models lenet5", en="LeNet-5 is from the 1980s.", zh="LeNet-5 是 20 世纪 80 年代的网络。")
def lenet_decade(models: Json) -> Finding:
    year = models[0]["year"]
    return Finding(survives=1980 <= year < 1990, measured=same(str(year)))


# AlexNet


@claim(
    "alexnet",
    "provenet verify arithmetic",
    en="The maps of AlexNet's first convolution are (227 − 11)/4 + 1 = 55 pixels wide.",
    zh="AlexNet 第一个卷积层输出的特征图边长为 (227 − 11)/4 + 1 = 55。",
)
def alexnet_conv1_size(arithmetic: Json) -> Finding:
    maps, height, width = numbers_in(found(arithmetic, "AlexNet's first convolution: output"))
    return Finding(survives=height == width == (227 - 11) / 4 + 1 == 55, measured=same(f"{maps}x{height}x{width}"))


@claim(
    "alexnet",
    "provenet verify arithmetic",
    en="That layer has 11·11·3·96 = 34,848 weights, and 96 biases.",
    zh="这一层有 11·11·3·96 = 34,848 个权重，另有 96 个偏置。",
)
def alexnet_conv1_weights(arithmetic: Json) -> Finding:
    weights, biases = (numbers_in(found(arithmetic, f"AlexNet's first convolution: {what}"))[0] for what in ("weights", "biases"))
    return Finding(
        survives=weights == 11 * 11 * 3 * 96 == 34_848 and biases == 96,
        measured=Words(f"{weights:,} and {biases}", f"{weights:,} 和 {biases}"),
    )


@claim("alexnet", "provenet summary alexnet", en="AlexNet pools first, then normalises.", zh="AlexNet 先池化，后归一化。")
def alexnet_order(summary: Json) -> Finding:
    in_stage = [row["kind"] for row in summary["layers"] if row["stage"] in ("conv1", "conv2")]
    kinds = [kind for kind in in_stage if kind in ("max_pool", "response_norm")]
    names = {"response_norm": Words("norm", "归一化"), "max_pool": Words("pool", "池化")}
    return Finding(
        survives=kinds == ["max_pool", "response_norm"] * 2,
        measured=Words(", ".join(names[kind].en for kind in kinds), "、".join(names[kind].zh for kind in kinds)),
        why=Words("the paper normalises first; its relative `caffenet` pools first", "论文先归一化；先池化的是它的亲戚 `caffenet`"),
    )


@claim(
    "alexnet",
    "python -c \"from provenet.papers.paper import read_papers; print(read_papers()['alexnet'].training['hardware'])\"",
    "provenet summary alexnet",
    en="AlexNet was trained on two CPUs.",
    zh="AlexNet 是用两块 CPU 训练的。",
)
def alexnet_hardware(printed: str, summary: Json) -> Finding:
    hardware = printed.strip()
    grouped = sum(row["settings"].get("groups") == 2 for row in summary["layers"])
    return Finding(
        survives="CPU" in hardware,
        measured=Words(f"{hardware}; {grouped} convolutions have two groups", f"“{hardware}”；{grouped} 个卷积层分成两组"),
        why=Words("GPUs, each with one of the groups (the paper, section 3.2)", "是 GPU，每块负责其中一组（论文 3.2 节）"),
    )


# ZFNet


@claim("zfnet", "provenet models zfnet", en="ZFNet won ILSVRC 2013.", zh="ZFNet 赢得了 2013 年的 ILSVRC。")
def zfnet_contest(models: Json) -> Finding:
    place, error = models[0]["place"], models[0]["top5_error_percent"]
    return Finding(
        survives=place == 1,
        measured=Words(f"place {place}, top-5 error {error:g} %", f"第 {place} 名，top-5 错误率 {error:g} %"),
        why=Words(
            "Clarifai, another entry, won; the paper prints neither place nor error of its own entry, both are from memory",
            "冠军是另一参赛作品 Clarifai；论文没有印出自己作品的名次和错误率，二者凭记忆写入",
        ),
    )


# VGG


@claim(
    "vgg",
    "provenet summary vgg16 --depth stage",
    "provenet summary alexnet --depth stage",
    en="VGG-16 has 13 million parameters, like AlexNet.",
    zh="VGG-16 有 1300 万个参数，与 AlexNet 相当。",
)
def vgg16_parameters(vgg16: Json, alexnet: Json) -> Finding:
    ours, theirs = vgg16["parameters"], alexnet["parameters"]
    return Finding(
        survives=has_figures(ours, 13e6, 1e6),
        measured=same(f"{ours:,}"),
        why=Words(f"{ours / theirs:.1f} times AlexNet's {theirs:,}", f"是 AlexNet（{theirs:,}）的 {ours / theirs:.1f} 倍"),
    )


@claim("vgg", "provenet summary vgg16", en="VGG-16 has 16 convolutional layers.", zh="VGG-16 有 16 个卷积层。")
def vgg16_convolutions(summary: Json) -> Finding:
    kinds = [row["kind"] for row in summary["layers"]]
    convolutions, linears = kinds.count("convolution"), kinds.count("linear")
    return Finding(
        survives=convolutions == 16,
        measured=Words(f"{convolutions} convolutional, {linears} fully connected", f"{convolutions} 个卷积层，{linears} 个全连接层"),
        why=Words(f"{convolutions + linears} layers have weights", f"有权重的层共 {convolutions + linears} 个"),
    )


@claim(
    "vgg",
    "python tools/count_activations.py vgg16",
    en="VGG-16's forward pass keeps 93 MB per image, 24 million numbers.",
    zh="VGG-16 前向传播时每张图片占 93 MB，即 2400 万个数。",
)
def vgg16_activations(printed: str) -> Finding:
    counts = read_counts(printed)
    numbers = counts["convolutions, pools, fully connected"]
    in_millions = sorted(round(count / 1e6) for count in counts.values())
    return Finding(
        survives=24 in in_millions or any(has_figures(4 * count, 93 * unit, unit) for count in counts.values() for unit in (1e6, 2**20)),
        measured=Words(f"{numbers:,} numbers, {4 * numbers / 1e6:.1f} MB", f"{numbers:,} 个数，{4 * numbers / 1e6:.1f} MB"),
        why=Words("no usual count gives 24 million or 93 MB, see below", "没有一种常见的数法得出 2400 万或 93 MB，见下表"),
    )


@claim(
    "vgg",
    "python tools/count_activations.py vgg16",
    en="So 10,000 images take 930 GB.",
    zh="因此 10,000 张图片占 930 GB。",
)
def vgg16_activations_of_many(printed: str) -> Finding:
    counts = read_counts(printed)
    megabytes = 4 * counts["the same and the picture"] / 1e6
    product = f"10,000 · {megabytes:.2f} MB = {10 * megabytes:.1f} GB"
    return Finding(
        survives=any(has_figures(10_000 * 4 * count, 930e9, 10e9) for count in counts.values()),
        measured=same(product),
        why=Words("it follows from the 93 MB; the 61 MB are with the picture itself", "这是由 93 MB 推出的；这里的 61 MB 已计入图片本身"),
    )


@claim("vgg", "provenet models vgg16", en="VGG is from 2015.", zh="VGG 是 2015 年的网络。")
def vgg_year(models: Json) -> Finding:
    year = models[0]["year"]
    return Finding(
        survives=year == 2015,
        measured=same(str(year)),
        why=Words("entered in the contest of 2014; ICLR 2015 is where it was presented", "参加的是 2014 年的竞赛；2015 年在 ICLR 上报告"),
    )


@claim(
    "vgg",
    "python -c \"from provenet.papers.paper import read_papers; print(*read_papers()['vgg'].accuracies, sep='\\n')\"",
    en="D (VGG-16) is the best VGG.",
    zh="D（VGG-16）是最好的 VGG。",
)
def vgg_best(printed: str) -> Finding:
    entries = [ast.literal_eval(line) for line in printed.splitlines()]
    single = {entry["network"]: entry for entry in entries if entry["views"] == "dense, best single scale"}
    errors = {name: (entry["top1_error_percent"], entry["top5_error_percent"]) for name, entry in single.items()}
    (d1, d5), (e1, e5) = errors["vgg16"], errors["vgg19"]
    return Finding(
        survives=min(errors.values()) == errors["vgg16"],
        measured=Words(
            f"errors of D {d1:.1f}/{d5:.1f} %, of E {e1:.1f}/{e5:.1f} %", f"错误率：D {d1:.1f}/{d5:.1f} %，E {e1:.1f}/{e5:.1f} %"
        ),
        why=Words(f"E (VGG-19) is better by {d1 - e1:.1f}, dense at one scale", f"单一尺度密集测试时 E（VGG-19）低 {d1 - e1:.1f}"),
    )


@claim(
    "vgg",
    "provenet verify arithmetic",
    en="A global average in front divides the weights of VGG-16's first fully connected layer by 49.",
    zh="若先做全局平均，VGG-16 第一个全连接层的权重减少到 1/49。",
)
def vgg16_global_average(arithmetic: Json) -> Finding:
    before, after = numbers_in(found(arithmetic, "VGG-16's fc6, then after a global average: weights"))
    return Finding(survives=before == 49 * after, measured=same(f"{before:,} / {after:,} = {before / after:g}"))


# 1x1 convolutions and Inception


@claim(
    "inception",
    "provenet verify arithmetic",
    en="32 filters of 1x1x256 turn 6x6x256 into 6x6x32.",
    zh="32 个 1x1x256 的滤波器把 6x6x256 变成 6x6x32。",
)
def pointwise_output(arithmetic: Json) -> Finding:
    maps, height, width = numbers_in(found(arithmetic, "32 convolutions of 1x1 on 256 maps: output"))
    return Finding(survives=(height, width, maps) == (6, 6, 32), measured=same(f"{height}x{width}x{maps}"))


def direct_macs(arithmetic: Json) -> int:
    """5x5 on 28x28x192 to 32 maps."""
    return numbers_in(found(arithmetic, "5x5 straight on 192 maps: macs"))[0]


def bottleneck_macs(arithmetic: Json) -> list[int]:
    """The same through 16 maps."""
    return numbers_in(found(arithmetic, "the same through 16 of 1x1 first: macs"))


@claim(
    "inception",
    "provenet verify arithmetic",
    en="32 filters of 5x5 on 28x28x192 cost 120 million multiplications.",
    zh="对 28x28x192 做 32 个 5x5 卷积要 1.2 亿次乘法。",
)
def direct_cost(arithmetic: Json) -> Finding:
    cost = direct_macs(arithmetic)
    return Finding(survives=has_figures(cost, 120e6, 1e6), measured=same(f"{cost:,}"))


@claim(
    "inception",
    "provenet verify arithmetic",
    en="Through 16 filters of 1x1 first they cost 12.4 million, a tenth.",
    zh="先经过 16 个 1x1 卷积，只要 1240 万次，约为十分之一。",
)
def bottleneck_cost(arithmetic: Json) -> Finding:
    reduction, convolution = bottleneck_macs(arithmetic)
    cost = reduction + convolution
    return Finding(
        survives=has_figures(cost, 12.4e6, 0.1e6) and has_figures(direct_macs(arithmetic) / cost, 10, 1),
        measured=same(f"{reduction:,} + {convolution:,} = {cost:,}"),
        why=Words(f"{direct_macs(arithmetic) / cost:.1f} times fewer", f"减少到 1/{direct_macs(arithmetic) / cost:.1f}"),
    )


@claim(
    "inception",
    "provenet verify arithmetic",
    en="The formula of the first cost is 28·28·32·28·28·192.",
    zh="前一种的计算式是 28·28·32·28·28·192。",
)
def direct_formula(arithmetic: Json) -> Finding:
    cost, claimed, right = direct_macs(arithmetic), 28 * 28 * 32 * 28 * 28 * 192, 28 * 28 * 32 * 5 * 5 * 192
    assert cost == right
    return Finding(
        survives=cost == claimed,
        measured=Words(f"{cost:,}; the formula gives {claimed:,}", f"{cost:,}；该式得 {claimed:,}"),
        why=Words("28·28·32·5·5·192: each output reads a window of 5·5", "应为 28·28·32·5·5·192：每个输出读取 5·5 的窗口"),
    )


@claim(
    "inception",
    "provenet verify arithmetic",
    en="The 5x5 convolution behind the bottleneck reads 5·5·15 numbers for each output.",
    zh="瓶颈之后的 5x5 卷积，每个输出要读 5·5·15 个数。",
)
def bottleneck_formula(arithmetic: Json) -> Finding:
    reads, remainder = divmod(bottleneck_macs(arithmetic)[1], 28 * 28 * 32)
    assert remainder == 0
    return Finding(
        survives=reads == 5 * 5 * 15,
        measured=Words(
            f"{bottleneck_macs(arithmetic)[1]:,} / (28·28·32) = {reads}, not {5 * 5 * 15}",
            f"{bottleneck_macs(arithmetic)[1]:,} / (28·28·32) = {reads}，不是 {5 * 5 * 15}",
        ),
        why=Words(f"5·5·{reads // 25}: the bottleneck has 16 maps", f"应为 5·5·{reads // 25}：瓶颈有 16 个特征图"),
    )


@claim(
    "inception",
    "provenet summary googlenet",
    en="The input of GoogLeNet's first Inception module is 28·28·129.",
    zh="GoogLeNet 第一个 Inception 模块的输入是 28·28·129。",
)
def inception_input(summary: Json) -> Finding:
    layers = summary["layers"]
    first = next(number for number, row in enumerate(layers) if row["stage"] == "inception_3a")
    maps, height, width = layers[first - 1]["output"]
    return Finding(survives=(height, width, maps) == (28, 28, 129), measured=same(f"{height}x{width}x{maps}"))


@claim(
    "inception",
    "provenet summary googlenet --depth stage",
    "provenet summary alexnet --depth stage",
    en="GoogLeNet has 5 million parameters.",
    zh="GoogLeNet 有 500 万个参数。",
)
def googlenet_parameters(googlenet: Json, alexnet: Json) -> Finding:
    ours, theirs = googlenet["parameters"], alexnet["parameters"]
    return Finding(
        survives=has_figures(ours, 5e6, 1e6),
        measured=same(f"{ours:,}"),
        why=Words(
            f"5 million is the paper's “12 times fewer than AlexNet”; they are {theirs / ours:.1f} times fewer",
            f"500 万来自论文的“比 AlexNet 少 12 倍”；实际是 AlexNet 的 1/{theirs / ours:.1f}",
        ),
    )


@claim(
    "inception",
    "python tools/count_reductions.py",
    en="1x1 reductions make the weights of Inception modules 4 times fewer.",
    zh="1x1 降维使 Inception 模块的权重减少到四分之一。",
)
def inception_reductions(printed: str) -> Finding:
    naive, reduced = numbers_in(printed.splitlines()[-1])[:2]
    return Finding(
        survives=has_figures(naive / reduced, 4, 1),
        measured=same(f"{naive:,} / {reduced:,} = {naive / reduced:.2f}"),
        why=Words("each of the nine modules on the paper's input", "九个模块都用论文给出的输入"),
    )


@claim(
    "inception",
    "provenet summary googlenet_naive --depth stage",
    en="Without reductions, one after the other, the modules make a network of 97.5 million parameters and 12.6 billion multiply-adds.",
    zh="不做降维，把这些模块依次相连，网络有 9750 万个参数、126 亿次乘加。",
)
def inception_naive(summary: Json) -> Finding:
    parameters, macs = summary["parameters"], summary["macs"]
    return Finding(
        survives=has_figures(parameters, 97.5e6, 0.1e6) and has_figures(macs, 12.6e9, 0.1e9),
        measured=Words(f"{parameters:,} and {macs:,}", f"{parameters:,} 和 {macs:,}"),
        why=Words("a pool keeps all its maps, so each module is wider than the last", "池化保留全部特征图，所以模块一个比一个宽"),
    )


# ResNet


@claim(
    "resnet",
    "provenet verify arithmetic",
    en="A residual block whose last layer is zero is the identity, on inputs that are not negative.",
    zh="最后一层为零的残差块，对非负输入就是恒等映射。",
)
def residual_identity(arithmetic: Json) -> Finding:
    blocks = ("BasicBlock", "Bottleneck")
    differences = {name: found(arithmetic, f"identity of a block whose last layer is 0: {name}").split()[-1] for name in blocks}
    return Finding(
        survives=all(float(difference) == 0 for difference in differences.values()),
        measured=Words(
            ", ".join(f"{name}: largest difference {difference}" for name, difference in differences.items()),
            "，".join(f"{name}：最大差 {difference}" for name, difference in differences.items()),
        ),
    )


@claim(
    "resnet",
    "provenet verify arithmetic",
    en="A shortcut of identity or zero padding adds no parameter.",
    zh="恒等捷径和补零捷径都不增加参数。",
)
def shortcut_parameters(arithmetic: Json) -> Finding:
    depths = {"18": "shortcuts A of 18 layers", "34": "shortcuts A of 34 layers", "110": "shortcuts A of CIFAR's 110 layers"}
    added = {depth: int(found(arithmetic, f"{about}: difference")) for depth, about in depths.items()}
    each = ", ".join(map(str, added.values()))
    return Finding(
        survives=all(count == 0 for count in added.values()),
        measured=Words(f"{each} more at {', '.join(added)} layers", f"{'、'.join(added)} 层时依次增加 {each}"),
    )


@claim(
    "resnet",
    "provenet summary resnet34_a --depth stage",
    "provenet summary plain34 --depth stage",
    en="Shortcuts leave a ResNet with fewer parameters than its plain twin.",
    zh="有了捷径，ResNet 的参数比没有捷径的同款网络更少。",
)
def shortcuts_save(residual: Json, plain: Json) -> Finding:
    ours, theirs = residual["parameters"], plain["parameters"]
    return Finding(
        survives=ours < theirs,
        measured=Words(f"{ours:,} with, {theirs:,} without", f"有捷径 {ours:,}，没有 {theirs:,}"),
        why=Words("such shortcuts remove none either", "这样的捷径也不减少参数"),
    )


@claim(
    "resnet",
    "python -c \"from provenet.papers.paper import read_papers; print(read_papers()['resnet'].training['weight_decay'])\"",
    en="ResNet was trained with a weight decay of 1e-5.",
    zh="ResNet 训练时的权重衰减是 1e-5。",
)
def resnet_weight_decay(printed: str) -> Finding:
    decay = float(printed)
    return Finding(survives=decay == 1e-5, measured=Words(f"{decay:g} (the paper, section 3.4)", f"{decay:g}（论文 3.4 节）"))


@claim(
    "resnet",
    "python tools/measure_gradients.py",
    en="Deep plain networks fail because their gradients vanish, which shortcuts prevent.",
    zh="很深的普通网络训练不好，是因为梯度消失；捷径防止了这一点。",
)
def vanishing_gradients(printed: str) -> Finding:
    gradients = read_gradients(printed)
    plain, residual = (gradients[name, True][0] for name in ("plain56_cifar", "resnet56_cifar"))
    return Finding(
        survives=plain < residual / 10,
        measured=Words(
            f"first layer's gradient {plain:g} in plain56, {residual:g} in resnet56, at the start",
            f"开始训练时第一层梯度的范数：plain56 为 {plain:g}，resnet56 为 {residual:g}",
        ),
        why=Words(
            "with batch norm they do not vanish, as section 4.1 of the paper says; without it they can, see below",
            "有批归一化时梯度并不消失，论文 4.1 节也这样说；没有时则可能消失，见下表",
        ),
    )


def read_counts(printed: str) -> dict[str, int]:
    """What `count_activations.py` printed."""
    rows = (line.split(maxsplit=3) for line in printed.splitlines()[1:])
    return {what: int(count.replace(",", "")) for count, _, _, what in rows}


def read_gradients(printed: str) -> dict[tuple[str, bool], tuple[float, float, float]]:
    """What `measure_gradients.py` printed, by network and whether it has batch norm."""
    rows = (line.split() for line in printed.splitlines()[1:])
    return {(name, norm == "yes"): (float(first), float(middle), float(last)) for name, norm, first, middle, last in rows}
