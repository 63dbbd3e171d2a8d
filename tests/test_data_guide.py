"""The guide to pictures, in both languages: its code and commands are run, its tables are compared with what they tell of."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import provenet
from provenet.data.decode import KINDS, LARGEST_PIXELS, convert_picture, decode_picture
from provenet.data.distortion import Distortion
from provenet.data.preset_names import PRESET_NAMES
from provenet.errors import ImageError, SettingsError

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_readme import find_blocks  # noqa: E402

GUIDES = ("data.md", "data.zh-CN.md")
STEP = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<printed>.*?)^```$", re.MULTILINE | re.DOTALL)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def read_page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def run_python(name: str) -> None:
    namespace: dict[str, object] = {}
    steps = [(match["code"], match["printed"]) for match in STEP.finditer(read_page(name))]
    assert len(steps) == 2
    for number, (code, printed) in enumerate(steps, start=1):
        output = io.StringIO()
        with redirect_stdout(output):
            exec(compile(code, f"{name}, block {number}", "exec"), namespace)
        assert output.getvalue() == printed, f"{name}, block {number}"


def test_the_code_prints_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(GUIDES[0])


@pytest.mark.slow
def test_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(GUIDES[0])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    blocks = [code for language, code, _ in find_blocks(read_page(GUIDES[0])) if language == "bash"]
    assert len(blocks) == 4
    for code in blocks:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], env=environment, check=True)
    for made in (
        "sheet.png",
        "clothes.toml",
        "colours.png",
        "checks/clothes/check.html",
        "subtracted/model.safetensors",
        "packed/all-000000.tar",
    ):
        assert Path(made).exists()


def test_the_translation_has_the_same_code_headings_and_tables():
    english, chinese = map(read_page, GUIDES)
    for pattern in (r"```[^`]*```", r"^#+ ", r"^\| `\w+`", r"^\| \d+x\d+ \|.*$", r"\| -?[\d.]+ to [^|]+ \|"):
        of_english, of_chinese = (re.findall(pattern, text, re.MULTILINE) for text in (english, chinese))
        assert of_english == of_chinese
        assert of_english
    assert [line.count("|") for line in english.splitlines() if line[:1] == "|"] == [
        line.count("|") for line in chinese.splitlines() if line[:1] == "|"
    ]
    assert english.splitlines()[2] == "[中文](data.zh-CN.md)"
    assert chinese.splitlines()[2] == "[English](data.md)"
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 1_000


def test_every_preset_and_every_setting_is_there():
    english = read_page(GUIDES[0])
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", english, re.MULTILINE))
    assert rows == PRESET_NAMES
    settings = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", english, re.MULTILINE)
    assert [name for name, _ in settings] == [field.name for field in fields(Distortion)]
    for name, range_ in settings:
        if numbers := re.fullmatch(r"(?:0, or )?(-?[\d.]+) to ([\d.]+)(, \w+)?", range_):
            low, high, many = float(numbers[1]), float(numbers[2]), numbers[3]
            whole = int if name in ("shift_pixels", "short_sides") else float
            times = {None: 0, ", two": 2, ", three": 3, ", nine": 9}[many]
            for value, is_right in ((low, True), (high, True), (low - 0.005, False), (high + 1, False)):
                value = whole(value) if is_right else value
                given = {name: (value,) * times if times else value}
                if is_right:
                    Distortion(**given)
                else:
                    with pytest.raises(SettingsError, match=name):
                        Distortion(**given)


def encode(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def png_of_48_bits(red: int, green: int, blue: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + struct.pack(">HHH", red, green, blue)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def unusual_pictures() -> dict[str, tuple[bytes, tuple[int, ...]]]:
    size, exif = (8, 8), Image.Exif()
    exif[0x0112] = 3  # upside down
    upside_down = Image.new("RGB", size, RED)
    upside_down.paste(BLUE, (0, 4, 8, 8))
    palette = Image.new("P", size, 1)
    palette.putpalette([0, 0, 0, *RED])
    return {
        "CMYK": (encode(Image.new("CMYK", size, (0, 255, 255, 0)), "TIFF"), RED),
        "16-bit grey": (encode(Image.fromarray(np.full(size, 0x80FF, np.uint16)), "PNG"), (128, 128, 128)),
        "32-bit whole numbers": (encode(Image.new("I", size, 70_000), "TIFF"), (255, 255, 255)),
        "16-bit RGB (PNG)": (png_of_48_bits(0x80FF, 0x40FF, 0x20FF), (128, 64, 32)),
        "palette": (encode(palette, "PNG"), RED),
        "transparent": (encode(palette, "PNG", transparency=1), (255, 255, 255)),
        "animated": (encode(Image.new("RGB", size, RED), "GIF", save_all=True, append_images=[Image.new("RGB", size, BLUE)]), RED),
        "EXIF orientation": (encode(upside_down, "PNG", exif=exif), BLUE),
        "1-bit": (encode(Image.new("1", size, 1), "PNG"), (255, 255, 255)),
        "grey where": (encode(Image.new("L", size, 77), "PNG"), (77, 77, 77)),
    }


@pytest.mark.parametrize("row", unusual_pictures())
def test_unusual_pictures_become_what_the_table_says(row):
    assert f"\n| {row}" in read_page(GUIDES[0])
    content, colour = unusual_pictures()[row]
    assert decode_picture(content, 3, where="x").getpixel((0, 0)) == colour


def test_the_refused_ones_are_named_by_their_kind():
    kinds = re.findall(r"refused[^`|]*`([a-z ]+)`", read_page(GUIDES[0]))
    assert kinds == re.findall(r"拒绝：`([a-z ]+)`", read_page(GUIDES[1]))
    assert set(kinds) == set(KINDS) - {"missing", "no file", "not permitted"}
    assert f"{LARGEST_PIXELS:,}" in read_page(GUIDES[0])
    with pytest.raises(ImageError) as refused:
        convert_picture(Image.new("F", (2, 2)), 3)
    assert refused.value.kind == "floating point"
    cut_short = encode(Image.effect_noise((64, 64), 99), "JPEG")[:-400]
    for content, kind in ((cut_short, "damaged"), (b"", "empty"), (b"%!PS-Adobe", "unknown format")):
        with pytest.raises(ImageError) as refused:
            decode_picture(content, 3, where="x.jpg")
        assert refused.value.kind == kind


def test_every_public_name_is_there():
    assert sorted(provenet._HOMES) == sorted(set(provenet.__all__) - {"__version__"})
    for name in (*provenet.__all__, *provenet._HOMES):
        assert getattr(provenet, name) is not None
    assert {"Distortion", "Loader", "Preprocessing", "Share"} <= set(provenet.__all__)
