"""The colours of a picture of a network, light and dark, and the font that it carries."""

import base64
from importlib.resources import files

from provenet.inspection.summary import Row

COLOURS = {
    "convolution": ("convolution", {"convolution", "sparse_convolution"}),
    "pooling": ("pool, mean", {"max_pool", "average_pool", "adaptive_average_pool", "mean", "subsampling"}),
    "activation": ("activation", {"relu", "squash", "tanh", "sigmoid", "gelu", "silu", "leaky_relu", "hardtanh", "softmax"}),
    "norm": ("normalisation", {"batch_norm", "response_norm", "layer_norm", "group_norm"}),
    "linear": ("fully connected", {"linear", "rbf", "matrix_product"}),
    "other": ("other", set()),
}
"""Class of a strip -> its name in the legend, and the kinds it colours."""

LIGHT = {
    "ink": "#1d2733", "soft": "#5c6b7c", "paper": "#ffffff", "frame": "#f5f7fa", "edge": "#d5dce5", "flow": "#7c8a9a", "card": "#ffffff",
    "shortcut": "#b0358c", "convolution": "#d3e4ff", "pooling": "#ffdccb", "activation": "#fff0c2", "norm": "#e7e0f8", "linear": "#d2eed8",
    "other": "#e6eaef", "v1": "#8db4ea", "v2": "#c3d9f7", "v3": "#6a97d6",
}  # fmt: skip
DARK = {
    "ink": "#e8edf3", "soft": "#9fb0c2", "paper": "#12181f", "frame": "#1a222c", "edge": "#364352", "flow": "#8495a8", "card": "#202a35",
    "shortcut": "#f08ad0", "convolution": "#274a7a", "pooling": "#7a4028", "activation": "#6b5617", "norm": "#4b3d78", "linear": "#255c37",
    "other": "#3b4653", "v1": "#4a78b8", "v2": "#6d97d0", "v3": "#35598c",
}  # fmt: skip


def class_of(row: Row) -> str:
    """The colour of a strip."""
    return next((name for name, (_, kinds) in COLOURS.items() if row.kind in kinds), "other")


def font_bytes(weight: str, kind: str) -> bytes:
    """One of the two font files."""
    return files("provenet.drawing").joinpath(f"fonts/Inter-{weight}.{kind}").read_bytes()


def style(*, dark: str = "@media(prefers-color-scheme:dark)") -> str:
    """The font, and the colours: light ones, and dark ones inside `dark`, a condition or the beginning of a selector."""
    faces = "".join(
        f"@font-face{{font-family:Inter;font-weight:{number};src:url(data:font/woff2;base64,{_base64(weight)})}}"
        for number, weight in ((400, "Regular"), (600, "SemiBold"))
    )
    shapes = {
        "text": "font-family:Inter,'Helvetica Neue',Arial,sans-serif;fill:INK",
        ".b": "font-weight:600",
        ".s": "fill:SOFT",
        ".c": "fill:SHORTCUT",
        ".flow,.shortcut,.cross,.training": "fill:none;stroke:FLOW;stroke-width:1.6",
        ".head": "fill:FLOW",
        ".shortcut": "fill:none;stroke:SHORTCUT;stroke-width:2.2",
        ".padded": "stroke-dasharray:5 4",
        ".tip": "fill:SHORTCUT",
        ".training": "fill:none;stroke:FLOW;stroke-dasharray:3 4",
        ".cross": "fill:none;stroke:INK",
        ".join": "fill:CARD;stroke:INK;stroke-width:1.6",
        ".paper": "fill:PAPER",
        ".frame": "fill:FRAME;stroke:EDGE",
        ".card": "fill:CARD;stroke:EDGE",
        ".aside": "fill:CARD;stroke:FLOW;stroke-dasharray:3 4",
    } | {f".{name}": f"fill:{name.upper()}" for name in (*COLOURS, "v1", "v2", "v3")}
    light = "".join(f"{selector}{{{_coloured(rule, LIGHT)}}}" for selector, rule in shapes.items())
    if dark.startswith("@"):
        return faces + light + dark + "{" + "".join(f"{selector}{{{_coloured(rule, DARK)}}}" for selector, rule in shapes.items()) + "}"
    prefixed = {",".join(f"{dark} {part}" for part in selector.split(",")): rule for selector, rule in shapes.items()}
    return faces + light + "".join(f"{selector}{{{_coloured(rule, DARK)}}}" for selector, rule in prefixed.items())


def _base64(weight: str) -> str:
    return base64.b64encode(font_bytes(weight, "woff2")).decode()


def _coloured(rule: str, colours: dict[str, str]) -> str:
    for name in sorted(colours, key=len, reverse=True):
        rule = rule.replace(f":{name.upper()}", f":{colours[name]}")
    return rule
