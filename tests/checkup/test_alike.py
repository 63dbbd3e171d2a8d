"""Pictures that are nearly the same: real ones, changed as people change them, among others that are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from provenet.checkup import alike
from provenet.checkup.alike import LEAST_LIKENESS, SURE_LIKENESS, find_alike
from provenet.checkup.examine import Look, hash_pixels
from provenet.checkup.sketch import sketch

CELLS = 4
SIDE = 160


@pytest.fixture(scope="module")
def mosaics(mini):
    """Two hundred pictures of real clothes, sixteen on each, enlarged: no two have a garment in common."""
    pixels = mini["train"].pictures.pixels[..., 0]
    chosen = pixels[: 200 * CELLS**2].reshape(200, CELLS, CELLS, 28, 28).transpose(0, 1, 3, 2, 4).reshape(200, CELLS * 28, CELLS * 28)
    return [Image.fromarray(mosaic).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for mosaic in chosen]


def compress(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def reduce(picture):
    return picture.resize((round(picture.width * 0.9), round(picture.height * 0.9)), Image.Resampling.BICUBIC)


def look_at(picture, path, split="train", label="a"):
    return Look(str(path), split, label, None, picture.width, picture.height, digest=hash_pixels(picture), sketch=sketch(picture))


@pytest.mark.parametrize(
    ("change", "is_mirrored"),
    [(compress, False), (reduce, False), (ImageOps.mirror, True), (lambda picture: compress(reduce(ImageOps.mirror(picture))), True)],
    ids=["q60", "90 %", "mirrored", "all three"],
)
def test_a_changed_copy_is_found_and_nothing_else(mosaics, change, is_mirrored):
    originals = [look_at(picture, number) for number, picture in enumerate(mosaics)]
    copies = [look_at(change(picture), number, "test") for number, picture in enumerate(mosaics)]
    found = find_alike(originals + copies)
    assert found.num_compared == 400
    assert sorted((pair.one.path, pair.other.path) for pair in found.pairs) == sorted((look.path, look.path) for look in originals)
    assert {pair.splits for pair in found.pairs} == {frozenset(("train", "test"))}
    assert {pair.is_mirrored for pair in found.pairs} == {is_mirrored}
    assert all(LEAST_LIKENESS <= pair.likeness <= 1 for pair in found.pairs)
    assert np.mean([pair.is_sure for pair in found.pairs]) > 0.95


def test_candidates_are_what_comparing_each_with_each_finds(mosaics):
    """Two roads, on pictures that shade into each other: a garment's neighbours by blending."""
    blends = [Image.blend(one, other, share) for one, other in zip(mosaics[:40], mosaics[40:80], strict=True) for share in (0, 0.05, 0.1)]
    looks = [look_at(picture, number) for number, picture in enumerate(blends)]
    vectors, brightness, colours, _ = alike._prepare([look.sketch for look in looks])
    ones, others = np.triu_indices(len(looks), 1)
    likeness = np.maximum(
        *(alike._compare(vectors, brightness, colours, ones, others, np.full(len(ones), turned)) for turned in (False, True))
    )
    expected = {(one, other) for one, other, value in zip(ones, others, likeness, strict=True) if value >= SURE_LIKENESS}
    assert len(expected) > 60
    links = {(one, other) for pair in alike._candidates(vectors) for one, other in zip(pair[0].tolist(), pair[1].tolist(), strict=True)}
    assert expected <= {tuple(sorted(link)) for link in links}


def test_other_colours_and_other_light_are_other_pictures(mosaics):
    red, green = (ImageOps.colorize(mosaics[0].convert("L"), "black", colour) for colour in ("#d04040", "#30a030"))
    dark = mosaics[1].point(lambda level: level // 2)
    looks = [look_at(picture, number) for number, picture in enumerate((red, green, mosaics[1], dark))]
    assert find_alike(looks).pairs == []


def test_what_is_small_or_plain_or_equal_is_not_compared(mosaics):
    tiny = mosaics[0].resize((47, 47))
    plain = Image.new("RGB", (160, 160), "gray")
    looks = [look_at(tiny, 0), look_at(reduce(tiny), 1), look_at(plain, 2), look_at(compress(plain.resize((90, 90))), 3)]
    looks += [look_at(mosaics[1], 4), look_at(mosaics[1], 5), look_at(mosaics[1], 6, "test")]
    found = find_alike(looks)
    assert (found.num_small, found.num_plain, found.num_compared) == (2, 2, 2)
    assert found.pairs == []
    assert not find_alike([]).pairs


def test_a_thousand_of_a_kind_stay_few_pairs(mosaics):
    """A camera that does not move: the pairs that are kept grow with the pictures, not with their square."""
    random = np.random.default_rng(0)
    scene = np.asarray(mosaics[0]).astype(np.int16)
    frames = [Image.fromarray((scene + random.integers(-9, 10, scene.shape)).clip(0, 255).astype(np.uint8)) for _ in range(300)]
    found = find_alike([look_at(frame, number, ("train", "test")[number % 2]) for number, frame in enumerate(frames)])
    assert {look.path for pair in found.pairs for look in (pair.one, pair.other)} == {str(number) for number in range(300)}
    assert len(found.pairs) <= 2 * 300


def test_findings_page_and_json(mosaics, tmp_path, check):
    root = tmp_path / "clothes"
    for split, first in (("train", 0), ("test", 100), ("val", 150)):
        for label, offset in (("a", 0), ("b", 25)):
            (root / split / label).mkdir(parents=True)
            for number in range(first + offset, first + offset + 22):
                mosaics[number].save(root / split / label / f"{number}.png")
    compress(ImageOps.mirror(mosaics[0])).save(root / "test" / "a" / "leak.png")
    reduce(mosaics[1]).save(root / "train" / "a" / "again.png")
    compress(mosaics[2]).save(root / "train" / "b" / "other label.png")
    checkup = check(root)
    found = {finding.kind: finding for finding in checkup.findings}
    levels = {kind: finding.level for kind, finding in found.items()}
    assert levels == {
        "near leak: train and test": "problem", "nearly the same in two classes": "warning", "nearly repeated in train": "warning",
    }  # fmt: skip
    leak = found["near leak: train and test"]
    assert leak.message.startswith("1 picture of test nearly the same as one of train (almost surely)")
    assert ", mirrored: " in leak.details[0]
    assert set(leak.files) == {str(root / "train/a/0.png"), str(root / "test/a/leak.png")}
    assert not any("the same picture" in finding.message.replace("nearly the same", "") for finding in checkup.findings)
    assert checkup.can_train
    told = checkup.to_dict()["near_duplicates"]
    assert told["compared"] == 135
    assert sorted(pair["mirrored"] for pair in told["pairs"]) == [False, False, True]
    page = checkup.page.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 6
    assert leak.message in page
