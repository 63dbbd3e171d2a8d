"""Write docs/claims.md and docs/claims.zh-CN.md: `make docs`. Every command of `claims.py` is run; a test compares the pages with them."""

import contextlib
import io
import json
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from claims import CLAIMS, Claim, Finding, Section, Words, read_counts, read_gradients
from provenet.cli import app

ROOT = Path(__file__).parent.parent
PAGES: dict["Language", Path] = {"en": ROOT / "docs/claims.md", "zh": ROOT / "docs/claims.zh-CN.md"}

Language = Literal["en", "zh"]

HEAD = Words(
    """# What courses say, measured

[中文](claims.zh-CN.md)

Courses and study notes on these networks make statements with numbers in them. Here is each one that we know, what we measured, whether
it survives, and a command that measures it again. **{survive} of {all} survive.**

`make docs` writes this page: it runs every command, reads the numbers from what it prints (of `provenet …` with `--json`) and compares
them with the statement. Sizes and counts are those of the networks as built here. Years, contests, errors and settings are the
papers', from the data in `src/provenet/papers/`. The commands are for a clone of this repository. A multiply-add counts as one.
""",
    """# 课程里的说法，实测

[English](claims.md)

关于这些网络的课程和学习笔记里有许多带数字的说法。这里列出我们所知的每一条：实测的结果、说法是否成立，以及可以重新测量的命令。
**{all} 条中有 {survive} 条成立。**

本页由 `make docs` 写出：它运行每一条命令，从输出中读取数字（`provenet …` 加上 `--json`），再与说法比较。尺寸和数量来自这里实际构建的网络；
年份、竞赛、错误率和训练设置来自论文，即 `src/provenet/papers/` 中的数据。命令在本仓库的克隆目录中运行。一次乘加计为一次运算。
""",
)
COLUMNS = Words("| courses say | command | measured | verdict |", "| 课程里的说法 | 命令 | 实测 | 结论 |")
SURVIVES = Words("✓ survives", "✓ 成立")
FALLS = Words("✗ does not survive", "✗ 不成立")
SECTIONS: dict[Section, Words] = {
    "lenet": Words("LeNet-5", "LeNet-5"),
    "alexnet": Words("AlexNet", "AlexNet"),
    "zfnet": Words("ZFNet", "ZFNet"),
    "vgg": Words("VGG", "VGG"),
    "inception": Words("1x1 convolutions and GoogLeNet", "1x1 卷积与 GoogLeNet"),
    "resnet": Words("ResNet", "ResNet"),
}

ACTIVATIONS = Words(
    """### How many numbers VGG-16 makes of one picture

`python tools/count_activations.py vgg16`, each of four bytes (float32). None of the usual counts gives 24 million numbers, 93 MB or
93 MiB; we do not know where they come from. 24 million numbers would take {claimed_mb:.1f} MB ({claimed_mib:.1f} MiB).

| counted | numbers | MB | MiB |
|---|---|---|---|
""",
    """### VGG-16 从一张图片产生多少个数

`python tools/count_activations.py vgg16`，每个数四个字节（float32）。没有一种常见的数法得出 2400 万个数、93 MB 或 93 MiB，
我们不知道它们从何而来。2400 万个数应占 {claimed_mb:.1f} MB（{claimed_mib:.1f} MiB）。

| 数法 | 个数 | MB | MiB |
|---|---|---|---|
""",
)
COUNTED = {
    "most alive at once, nothing kept": "推理时同时存在的最多",
    "convolutions": "卷积层的输出",
    "convolutions and pools": "卷积层和池化层的输出",
    "convolutions, pools, fully connected": "卷积层、池化层和全连接层的输出",
    "the same and the picture": "以上再加图片",
    "kept for the backward pass by PyTorch, bytes / 4": "PyTorch 为反向传播保留的，字节数 / 4",
    "all outputs, those of ReLU too": "全部输出，包括 ReLU 的",
    "all outputs and the picture": "全部输出再加图片",
    "all but ReLU, and a gradient of each": "除 ReLU 外的全部输出，每个再加一个梯度",
    "all outputs, and a gradient of each": "全部输出，每个再加一个梯度",
}

GRADIENTS = Words(
    """### Gradients at the start

`python tools/measure_gradients.py`: the norm of the gradient of a convolution's weights, before the first step, on 16 real pictures
of clothes (`fashion-mini`), seed 0, to one figure. With the paper's start and batch norm nothing vanishes: in the plain network of 56
layers the gradient even grows towards the picture. Without batch norm, from Glorot's start, it does vanish in the plain network, and not
in the residual one. This is the start, not the whole of training.

| network | batch norm | first | middle | last |
|---|---|---|---|---|
""",
    """### 开始时的梯度

`python tools/measure_gradients.py`：训练第一步之前，卷积层权重的梯度的范数；16 张真实服装图片（`fashion-mini`），种子 0，保留一位有效数字。
采用论文的初始化和批归一化时，没有梯度消失：在 56 层的普通网络中，越靠近图片梯度反而越大。去掉批归一化并改用 Glorot 初始化后，
普通网络的梯度确实消失，残差网络则没有。这里测量的是训练开始的时刻，不是整个训练过程。

| 网络 | 批归一化 | 第一层 | 中间 | 最后一层 |
|---|---|---|---|---|
""",
)


def write_page(language: Language) -> str:
    """The whole page."""
    findings = {claim.name: measure(claim) for claim in CLAIMS}
    survive = sum(finding.survives for finding in findings.values())
    parts = [_in(language, HEAD).format(survive=survive, all=len(CLAIMS))]
    for section, title in SECTIONS.items():
        rows = [_row(claim, findings[claim.name], language) for claim in CLAIMS if claim.section == section]
        parts.append("\n".join([f"## {_in(language, title)}", "", _in(language, COLUMNS), "|---|---|---|---|", *rows]) + "\n")
        if section == "vgg":
            parts.append(_activations(language))
        if section == "resnet":
            parts.append(_gradients(language))
    return "\n".join(parts)


def measure(claim: Claim) -> Finding:
    """Run its commands, and ask it."""
    return claim.measure(*(read(command) for command in claim.commands))


def read(command: str) -> Any:
    """What the command prints; of `provenet` what it prints with `--json`, after it has run as shown."""
    printed = run(command)
    return json.loads(run(f"{command} --json")) if command.startswith("provenet ") else printed


@cache
def run(command: str) -> str:
    """One command in this process, which is faster -> its standard output. Numbers must not depend on threads, but time does."""
    program, *words = shlex.split(command)
    before, threads = sys.argv, torch.get_num_threads()
    printed = io.StringIO()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(printed):
            status = None
            if program == "provenet":
                status = app(words, exit_on_error=False)
            elif words[0] == "-c":
                exec(words[1], {"__name__": "__main__"})
            else:
                sys.argv = words
                runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    finally:
        sys.argv = before
        torch.set_num_threads(threads)
    assert not status, f"{command}: expected status 0, found {status}"
    return printed.getvalue()


def _row(claim: Claim, finding: Finding, language: Language) -> str:
    verdict = _in(language, SURVIVES if finding.survives else FALLS)
    if finding.why:
        verdict += {"en": ": ", "zh": "："}[language] + _in(language, finding.why)
    commands = "<br>".join(f"`{command}`" for command in claim.commands)
    return f"| {_in(language, claim.statement)} | {commands} | {_in(language, finding.measured)} | {verdict} |"


def _activations(language: Language) -> str:
    lines = []
    for what, count in read_counts(run("python tools/count_activations.py vgg16")).items():
        label = what if language == "en" else COUNTED[what]
        lines.append(f"| {label} | {count:,} | {4 * count / 1e6:.1f} | {4 * count / 2**20:.1f} |")
    claimed = 4 * 24_000_000
    return _in(language, ACTIVATIONS).format(claimed_mb=claimed / 1e6, claimed_mib=claimed / 2**20) + "\n".join(lines) + "\n"


def _gradients(language: Language) -> str:
    yes, no = {"en": ("yes", "no, Glorot's start"), "zh": ("有", "无，Glorot 初始化")}[language]
    rows = read_gradients(run("python tools/measure_gradients.py"))
    lines = [
        f"| `{name}` | {yes if has_norm else no} | " + " | ".join(f"{norm:g}" for norm in norms) + " |"
        for (name, has_norm), norms in rows.items()
    ]
    return _in(language, GRADIENTS) + "\n".join(lines) + "\n"


def _in(language: Language, words: Words) -> str:
    return words.en if language == "en" else words.zh


if __name__ == "__main__":
    for language, page in PAGES.items():
        page.write_text(write_page(language), encoding="utf-8")
        print(f"{page.relative_to(ROOT)} written")
