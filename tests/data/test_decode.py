"""Every kind of picture people have, made here as a real file."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from provenet.data.boxes import place_square
from provenet.data.decode import KINDS, LARGEST_PIXELS, read_picture, to_square
from provenet.errors import ImageError
from provenet.preprocessing import Preprocessing

GRADIENT = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
SMALL = Preprocessing(size=8, resize=8, channels=1, mean=(0.0,), std=(1.0,))
SQUASHED = Preprocessing(size=57, resize=64, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, fit="squash")


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif", "webp", "pgm", "PNG"])
def test_lossless_formats_keep_every_grey_value(tmp_path, ending):
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(GRADIENT).save(path, **({"lossless": True} if ending == "webp" else {}))
    assert np.array_equal(np.asarray(read_picture(path, channels=1)), GRADIENT)
    assert np.asarray(read_picture(path, channels=3)).shape == (40, 60, 3)


def test_a_jpeg_decodes_exactly_as_pillow_does(tmp_path):
    Image.fromarray(np.stack([GRADIENT] * 3, -1)).save(tmp_path / "a.jpg", quality=80)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.jpg", 3)), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    Image.fromarray(GRADIENT.astype(np.uint16) * 256 + 77).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "deep.png", 1)), GRADIENT)


def test_transparency_is_laid_over_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (10, 20, 30, 255)
    pixels[:, 2:] = (200, 0, 0, 0)  # a colour that nobody sees
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    seen = np.asarray(read_picture(tmp_path / "clear.png", 3))
    assert seen[0, 0].tolist() == [10, 20, 30]
    assert seen[0, 3].tolist() == [255, 255, 255]


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((0, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    seen = np.asarray(read_picture(tmp_path / "p.png", 3))
    assert seen[0, 0].tolist() == [0, 255, 0]
    assert seen[1, 1].tolist() == [255, 255, 255]


def test_cmyk_one_bit_and_grey_with_alpha(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    assert np.abs(np.asarray(read_picture(tmp_path / "print.jpg", 3))[4, 4].astype(int) - [255, 0, 0]).max() < 12
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    assert (np.asarray(read_picture(tmp_path / "bit.png", 1)) == 255).all()
    Image.new("LA", (8, 8), (100, 255)).save(tmp_path / "la.png")
    assert (np.asarray(read_picture(tmp_path / "la.png", 1)) == 100).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise
    Image.fromarray(GRADIENT).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "turned.png", 1)), np.rot90(GRADIENT, -1))


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("L", (8, 8), value) for value in (50, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (np.asarray(read_picture(tmp_path / "moving.gif", 1)) == 50).all()


def test_one_pixel_and_very_long_pictures(tmp_path):
    Image.new("L", (1, 1), 9).save(tmp_path / "dot.png")
    assert (to_square(read_picture(tmp_path / "dot.png", 1), SMALL) == 9).all()
    Image.new("L", (20_000, 1), 9).save(tmp_path / "line.png")
    assert (to_square(read_picture(tmp_path / "line.png", 1), SMALL) == 9).all()
    Image.new("L", (20_000, 400), 9).save(tmp_path / "wide.jpg")
    assert to_square(read_picture(tmp_path / "wide.jpg", 1), SMALL).shape == (8, 8, 1)


def test_the_square_is_the_middle():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    preprocessing = Preprocessing(size=10, resize=10, channels=1, mean=(0.0,), std=(1.0,))
    assert (to_square(Image.fromarray(wide), preprocessing) == 255).all()
    assert (to_square(Image.fromarray(wide.T.copy()), preprocessing) == 255).all()


@pytest.mark.parametrize(
    ("width", "height", "resize", "size", "whole", "corner"),
    [
        # Short side to `resize`, the other rounded down; the window's middle, a half to the even number. By hand:
        (500, 375, 256, 224, (341, 256), (42, 0)),  # 341.33; (341 - 224) / 2 = 58.5 -> 58, of which the square's own 16
        (375, 500, 256, 224, (256, 341), (0, 42)),
        (451, 300, 256, 224, (384, 256), (64, 0)),  # 384.85; 80 - 16
        (100, 100, 64, 57, (64, 64), (0, 0)),  # 3.5 -> 4 in both
        (130, 100, 64, 57, (83, 64), (9, 0)),  # 83.2; 13 - 4
        (60, 28, 28, 32, (60, 28), (16, 0)),  # 14 + 2: the window is larger than the square
    ],
)
def test_the_square_lies_where_others_look_for_it(width, height, resize, size, whole, corner):
    preprocessing = Preprocessing(size=size, resize=resize, channels=1, mean=(0.0,), std=(1.0,))
    assert place_square(width, height, preprocessing) == (whole, corner)
    random = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    resized = np.asarray(Image.fromarray(random).resize(whole, Image.Resampling.BILINEAR))
    left, top = corner
    square = to_square(Image.fromarray(random), preprocessing)[..., 0]
    assert np.array_equal(square, resized[top : top + resize, left : left + resize])


@pytest.mark.parametrize(("width", "height"), [(451, 300), (300, 451), (100, 100), (40, 25), (90, 20), (2000, 1), (1, 1)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_all_of_a_picture_may_be_squashed_into_the_square(width, height, interpolation):
    preprocessing = replace(SQUASHED, interpolation=interpolation)
    assert place_square(width, height, preprocessing) == ((64, 64), (0, 0))
    random = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = random.resize((64, 64), Image.Resampling[interpolation.upper()])
    assert np.array_equal(to_square(random, preprocessing), np.asarray(expected))


def test_a_long_strip_is_not_resized_whole():
    preprocessing = Preprocessing(size=57, resize=64, channels=1, mean=(0.0,), std=(1.0,))
    strip = np.random.default_rng(0).integers(0, 256, (20, 90), dtype=np.uint8)
    (wide, high), (left, _) = place_square(90, 20, preprocessing)
    assert (wide, high, left) == (288, 64, 112)  # (288 - 57) / 2 = 115.5 -> 116, less 4
    whole = np.asarray(Image.fromarray(strip).resize((wide, high), Image.Resampling.BILINEAR))[:, left : left + 64].astype(int)
    assert abs(to_square(Image.fromarray(strip), preprocessing)[..., 0] - whole).max() <= 1


def test_resizing_is_pillows_own():
    preprocessing = Preprocessing(size=16, resize=16, channels=1, mean=(0.0,), std=(1.0,))
    expected = Image.fromarray(GRADIENT).crop((10, 0, 50, 40)).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(to_square(Image.fromarray(GRADIENT), preprocessing)[..., 0], np.asarray(expected))


def broken_files(folder):
    """Name -> kind, and what the message must say; each file is written."""
    Image.fromarray(np.stack([GRADIENT] * 3, -1)).save(folder / "whole.jpg")
    Image.effect_noise((64, 64), 90).save(folder / "noise.png")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-400])
    (folder / "cut.png").write_bytes((folder / "noise.png").read_bytes()[:900])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(hello) show\n")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    Image.new("F", (8, 8), 0.5).save(folder / "float.tif")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "bomb.pgm").write_bytes(b"P5\n20000 10000\n255\n" + bytes(64))
    (folder / "medium-bomb.pgm").write_bytes(b"P5\n15000 10000\n255\n" + bytes(64))
    (folder / "larger-bomb.pgm").write_bytes(b"P5\n2000000 2000000\n255\n" + bytes(64))
    with (folder / "huge.tif").open("wb") as file:
        file.truncate(2**30 + 1)  # nothing but a hole
    too_many = ("too many pixels", f"one of more than {LARGEST_PIXELS:,} pixels")
    return {
        "cut.jpg": ("damaged", "a damaged one ("),
        "cut.png": ("damaged", "a damaged one"),
        "empty.jpg": ("empty", "an empty file (0 bytes)"),
        "text.jpg": ("unknown format", "18 bytes in no known image format"),
        "script.jpg": ("unknown format", "in no known image format"),
        "gone.jpg": ("missing", "nothing readable"),
        "huge.tif": ("too large", "one of 1,073,741,825 bytes"),
        "float.tif": ("floating point", "floating-point"),
        "pipe.jpg": ("no file", "something that is no file"),
        "bomb.pgm": too_many,
        "medium-bomb.pgm": too_many,
        "larger-bomb.pgm": too_many,
    }


def test_broken_files_are_named_with_what_is_wrong(tmp_path):
    expected = broken_files(tmp_path)
    assert len(expected) == 12
    for name, (kind, message) in expected.items():
        with pytest.raises(ImageError) as caught:
            read_picture(tmp_path / name, 3)
        text = str(caught.value)
        assert message in text, text
        assert caught.value.kind == kind
        assert str(tmp_path / name) in text
        assert "\n" not in text
    assert {kind for kind, _ in expected.values()} == set(KINDS) - {"not permitted"}


def test_a_file_that_may_not_be_read_is_told_from_a_damaged_one(tmp_path, monkeypatch):
    Image.fromarray(GRADIENT).save(tmp_path / "closed.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the superuser, as whom tests may run, may read everything
    with pytest.raises(ImageError, match="may not be read") as caught:
        read_picture(tmp_path / "closed.png", 3)
    assert caught.value.kind == "not permitted"


def test_a_smaller_picture_where_that_is_faster(tmp_path):
    picture = Image.linear_gradient("L").resize((1600, 900))
    picture.save(tmp_path / "a.jpg", quality=95)
    picture.save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.jpg", 1).size == (1600, 900)
    assert read_picture(tmp_path / "a.jpg", 1, at_least_pixels=201).size == (400, 225)  # JPEG halves: 800x450, 400x225, 200x113
    assert read_picture(tmp_path / "a.jpg", 1, at_least_pixels=1_000).size == (1600, 900)
    assert read_picture(tmp_path / "a.png", 1, at_least_pixels=200).size == (1600, 900)
