"""Boxes and crops: what the papers say of them, and what Pillow shows of the same box."""

import io
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from provenet.data.boxes import Box, Part, choose_reduction, draw_box, needed_part, place_on_grid
from provenet.data.decode import LARGEST_PIXELS
from provenet.data.distortion import Distortion
from provenet.data.jpeg import Jpeg, UnusualJpegError, _find_frame
from provenet.data.pictures import PictureFiles, PixelArray
from provenet.data.sources import open_data
from provenet.errors import ImageError
from provenet.preprocessing import Preprocessing

COLOUR = Preprocessing(size=64, resize=72, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
AREA = Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
WORDS = np.random.default_rng(0).integers(0, 2**32, (4_000, 4), dtype=np.uint64).tolist()


@pytest.fixture(scope="module")
def photograph():
    """A picture of real photographs, 900x660: the embedded clothes side by side, enlarged, as sharp as a photograph is, and tinted."""
    shown = open_data("fashion-mini").splits["train"].pictures
    tiles = [np.concatenate([shown.pixels[8 * row + column] for column in range(8)], axis=1) for row in range(6)]
    grey = Image.fromarray(np.concatenate(tiles)[..., 0]).resize((900, 660), Image.Resampling.BICUBIC)
    return ImageOps.colorize(grey, (10, 20, 60), (255, 240, 220), (150, 120, 110))


def encoded(picture, **options):
    out = io.BytesIO()
    picture.save(out, **{"format": "JPEG", "quality": 90} | options)
    return out.getvalue()


def files(tmp_path, contents):
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return PictureFiles(tmp_path, list(contents))


# Which box


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (4000, 20), (1, 1), (64, 64)])
@pytest.mark.parametrize("distortion", [AREA, Distortion(crop="scale", short_sides=(64, 128)), Distortion(crop="area", aspect=(9, 10))])
def test_a_box_lies_inside_its_picture(width, height, distortion):
    for words in [*WORDS[:300], [0] * 4, [2**32 - 1] * 4]:
        box = draw_box(distortion, COLOUR, words, width, height)
        assert min(box.left, box.top) >= 0
        assert min(box.width, box.height) > 0
        assert box.left + box.width <= width + 1e-6
        assert box.top + box.height <= height + 1e-6


def test_areas_are_uniform_and_aspects_too_in_their_logarithm():
    """Szegedy et al. 2014, section 6: area distributed evenly between 8 and 100 percent, aspect between 3/4 and 4/3."""
    boxes = [draw_box(AREA, COLOUR, words, 500, 375) for words in WORDS]
    parts = np.array([box.width * box.height / (500 * 375) for box in boxes])
    aspects = np.array([box.width / box.height for box in boxes])
    assert abs(parts.mean() - 0.54) < 0.02
    assert abs(np.quantile(parts, [0.25, 0.75]) - [0.31, 0.77]).max() < 0.03
    assert aspects.min() >= 0.75 - 1e-9
    assert aspects.max() <= 4 / 3 + 1e-9
    small = np.log(aspects[parts < 0.3])  # these fit in any aspect
    assert abs(np.quantile(small, [0.25, 0.5, 0.75]) - np.log(4 / 3) * np.array([-0.5, 0, 0.5])).max() < 0.03


def test_the_short_side_is_of_any_length_asked_for():
    """He et al. 2015, section 3.4: the shorter side randomly sampled in [256, 480], a 224x224 crop."""
    preprocessing = Preprocessing(size=224, resize=256, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    distortion = Distortion(crop="scale", short_sides=(256, 480))
    boxes = [draw_box(distortion, preprocessing, words, 640, 400) for words in WORDS]
    assert all(box.width == box.height for box in boxes)
    sides = np.array([224 * 400 / box.width for box in boxes])
    assert np.allclose(sides, sides.round())
    assert (sides.min(), sides.max()) == (pytest.approx(256), pytest.approx(480))
    assert abs(sides.mean() - 368) < 4
    places = np.array([box.left / (640 - box.width) for box in boxes])
    assert abs(places.mean() - 0.5) < 0.02


def test_a_picture_is_reduced_while_the_box_keeps_one_and_a_half_times_the_pixels():
    assert [choose_reduction(Box(0, 0, side, side), 224) for side in (100, 671, 672, 1_343, 1_344, 2_687, 2_688, 9_999)] == [
        1,
        1,
        2,
        2,
        4,
        4,
        8,
        8,
    ]
    assert choose_reduction(Box(0, 0, 9_999, 300), 224) == 1
    assert place_on_grid(Box(17.9, 8.2, 100.5, 90.25), 8) == Box(16, 8, 100.5, 90.25)


# What is seen of it


@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_a_crop_is_what_pillow_shows_of_the_box(tmp_path, photograph, times):
    """Below one grey step in the mean, for boxes that begin and end between pixels, whether decoded whole or reduced."""
    photograph = photograph.resize((900 * times // 2, 660 * times // 2), Image.Resampling.BICUBIC)
    pictures, used, differences = files(tmp_path, {"a.jpg": encoded(photograph)}), set(), []
    for words in WORDS[:40]:
        chosen = []

        def choose(width, height, words=words, chosen=chosen):
            chosen.append(draw_box(AREA, COLOUR, words, width, height))
            return chosen[-1]

        seen = pictures.crop(0, choose, 64, COLOUR).astype(int)
        reduction = choose_reduction(chosen[-1], 64)
        box = place_on_grid(chosen[-1], reduction)
        shown = pictures.rgb(0).resize(
            (64, 64), Image.Resampling.BILINEAR, box=(box.left, box.top, min(box.left + box.width, photograph.width), box.top + box.height)
        )
        differences.append(np.abs(seen - np.asarray(shown)).mean())
        used.add(reduction)
    assert np.mean(differences) < 1
    assert max(differences) < 1.5
    assert max(used) == min(8, 2 * times)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), [(451, 300), (300, 452), (72, 72), (73, 72), (100, 71), (900, 660), (300, 60)])
@pytest.mark.parametrize("fit", ["short side", "squash"])
def test_the_square_of_training_is_nearly_evaluation_s(tmp_path, photograph, width, height, interpolation, fit):
    preprocessing = replace(COLOUR, interpolation=interpolation, fit=fit)
    contents = {
        "a.jpg": encoded(photograph.resize((width, height)), subsampling=0),
        "a.png": encoded(photograph.crop((0, 0, width, height)), format="PNG"),
    }
    pictures = files(tmp_path, contents)
    differences = [abs(pictures.quick_square(i, preprocessing).astype(int) - pictures.square(i, preprocessing)) for i in range(2)]
    assert differences[0].mean() < 1  # 900x660 is decoded at a quarter
    assert differences[1].max() == 0
    with pytest.raises(ImageError, match=r"no\.jpg"):
        PictureFiles(tmp_path, ["no.jpg"]).quick_square(0, preprocessing)


@pytest.mark.parametrize("side", [60.5, 61.3, 62, 62.5, 63, 63.9, 64, 64.5, 66])
def test_boxes_of_about_the_window_s_size(tmp_path, photograph, side):
    """Torch leaves a side that is right already as it is, whatever its scale."""
    pictures = files(tmp_path, {"a.png": encoded(photograph, format="PNG")})
    for left, top in ((0, 0), (300, 200), (900 - 67, 660 - 67), (900 - 64, 660 - 66)):
        box = Box(left, top, min(side, 900 - left), min(side, 660 - top))
        seen = pictures.crop(0, lambda *_, box=box: box, 64, COLOUR)
        shown = photograph.resize((64, 64), Image.Resampling.BILINEAR, box=(left, top, left + box.width, top + box.height))
        assert np.abs(seen.astype(int) - np.asarray(shown)).mean() < 0.3, box


def test_a_box_of_the_window_s_size_is_copied(tmp_path, photograph):
    pictures = files(tmp_path, {"a.png": encoded(photograph, format="PNG")})
    seen = pictures.crop(0, lambda *_: Box(100, 50, 64, 64), 64, COLOUR)
    assert np.array_equal(seen, np.asarray(photograph)[50:114, 100:164])
    array = PixelArray(np.asarray(photograph)[None], "array")
    assert np.array_equal(array.crop(0, lambda *_: Box(100, 50, 64, 64), 64, COLOUR), seen)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"restart_marker_blocks": 5}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoding_that_stops_below_the_part_gives_the_same_pixels(photograph, mode, options):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(photograph.convert(mode), exif=exif, **options)
        jpeg = Jpeg(content)
        for reduction, left, top, side in (
            (1, 100, 50, 64.5),
            (1, 0, 0, 200),
            (2, 300, 200, 150.3),
            (4, 8, 16, 590),
            (8, 400, 400, 200),
            (1, 600, 0, 60),
        ):
            part = needed_part(Box(left, top, side, side), 64, reduction)
            for channels in (1, 3):
                whole = jpeg.decode(channels, reduction)
                some = jpeg.decode(channels, reduction, part)
                here = slice(part.top, part.bottom), slice(part.left, part.right)
                assert np.array_equal(some[here], whole[here]), (orientation, part, reduction)


def test_decoding_stops_below_the_part(photograph, monkeypatch):
    """Else it would be of no use."""
    content, rows, decode = encoded(photograph), [], simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda content, *args, **named: rows.append(named["min_height"]) or decode(content, *args, **named)
    )
    for reduction, bottom in ((1, 100), (2, 100), (1, 650)):
        Jpeg(content).decode(3, reduction, Part(0, 0, 10, bottom))
    assert rows == [128, 112, 660]  # 96 + 32; (192 + 32) / 2; all
    frame = _find_frame(content)
    assert frame.offset > 0
    with Image.open(io.BytesIO(frame.shorten(content, 32))) as opened:
        assert opened.size == (900, 32)
    progressive, cut_off = encoded(photograph, progressive=True), content[:-20_000]
    assert _find_frame(progressive) is None  # every scan has all rows
    assert _find_frame(cut_off) is None
    with pytest.raises(UnusualJpegError):
        Jpeg(cut_off).decode(3, 1, Part(0, 0, 10, 10))  # what follows is missing: the file is damaged, whatever is asked of it
    assert _find_frame(content[:2] + b"\xff\xe0\x00\x02" * 10_000 + content[2:]) is None  # nobody looks through millions of these
    for short in range(0, 400, 7):
        assert _find_frame(content[:short]) is None
    several_scans = content.replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x0c\x01")
    assert several_scans != content
    assert _find_frame(several_scans) is None


def test_every_kind_of_file_is_cropped_alike(tmp_path, photograph):
    """Lossless files give the same bytes; others, and those that Pillow must look at, the same picture."""
    contents = {f"a.{ending}": encoded(photograph, format=kind) for ending, kind in (("png", "PNG"), ("bmp", "BMP"), ("tif", "TIFF"))}
    contents |= {
        "whole.jpg": encoded(photograph, quality=100, subsampling=0),
        "inks.jpg": encoded(photograph.convert("CMYK"), quality=100),
        "steps.jpg": encoded(photograph, quality=100, subsampling=0, progressive=True),
        "palette.png": encoded(photograph.quantize(256), format="PNG"),
        "clear.png": encoded(photograph.convert("RGBA"), format="PNG"),
    }
    pictures = files(tmp_path, contents)
    box = Box(32, 20, 401.5, 312.25)  # on the grid of a reduction by four
    seen = {name: pictures.crop(place, lambda *_: box, 64, COLOUR) for place, name in enumerate(contents)}
    for name in ("a.bmp", "a.tif", "clear.png"):
        assert np.array_equal(seen[name], seen["a.png"])
    for name in ("whole.jpg", "inks.jpg", "steps.jpg", "palette.png"):
        assert np.abs(seen[name].astype(int) - seen["a.png"]).mean() < 3, name
    grey = Preprocessing(size=64, resize=72, channels=1, mean=(0.0,), std=(1.0,))
    shown = [pictures.crop(place, lambda *_: box, 64, grey) for place in range(len(contents))]
    assert all(np.abs(one.astype(int) - shown[0]).mean() < 3 for one in shown)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera(tmp_path, photograph, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photograph, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    jpeg = Jpeg(content)
    assert (jpeg.width, jpeg.height) == upright.size
    assert np.array_equal(jpeg.decode(3, 1), np.asarray(upright))
    assert jpeg.decode(1, 8).shape == (-(-upright.height // 8), -(-upright.width // 8), 1)


def test_what_is_unusual_is_left_to_pillow(photograph):
    whole = encoded(photograph)
    for content in (whole[:100], whole[: len(whole) // 2], b"\xff\xd8\xff" + bytes(100), encoded(photograph.convert("CMYK"))):
        with pytest.raises(UnusualJpegError):
            Jpeg(content).decode(3, 1)
    wide = whole.replace(photograph.height.to_bytes(2) + photograph.width.to_bytes(2), (60_000).to_bytes(2) * 2)
    with pytest.raises(UnusualJpegError):
        Jpeg(wide)
    assert LARGEST_PIXELS < 60_000**2


def test_a_damaged_picture_is_named(tmp_path, photograph):
    whole = encoded(photograph)
    pictures = files(tmp_path, {"cut.jpg": whole[: len(whole) // 2], "none.jpg": b"", "text.jpg": b"\xff\xd8\xff no"})
    for place, name in enumerate(("cut.jpg", "none.jpg", "text.jpg")):
        with pytest.raises(ImageError, match=rf"{name}: expected an image, found .*; replace or remove it"):
            pictures.crop(place, lambda *_: Box(0, 0, 1, 1), 64, COLOUR)
