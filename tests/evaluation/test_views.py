"""Which views of a picture there are: counts of the papers, places worked out by hand, sizes scaled to small networks."""

import pytest

from provenet.data.boxes import Part
from provenet.data.canvases import Canvas
from provenet.errors import SettingsError
from provenet.evaluation.views import VIEWS, View, find_views, scaled
from provenet.preprocessing import CIFAR_PREPROCESSING, IMAGENET_PREPROCESSING, Preprocessing

LENET = Preprocessing(size=32, resize=28, channels=1, mean=(0.1,), std=(0.3,))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (3000, 20), (1, 1), (225, 224)])
@pytest.mark.parametrize("preprocessing", [IMAGENET_PREPROCESSING, CIFAR_PREPROCESSING, LENET])
def test_as_many_views_as_the_papers_count_all_on_their_canvas(size, preprocessing):
    counts = {"center": 1, "mirror": 2, "ten": 10, "144": 144, "150": 150, "dense": 2, "dense+crops": 300, "multiscale": 5}
    assert list(counts) == list(VIEWS)
    for name, count in counts.items():
        views = VIEWS[name].of(*size, preprocessing)
        assert sum(views.values()) == count
        for view in views:
            width, height = view.canvas.sides(*size)
            left, top, right, bottom = view.part
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            if view.is_dense:
                assert (left, top, right, bottom) == (0, 0, width, height)
                assert min(width, height) >= preprocessing.size
            else:
                assert right - left == bottom - top


def test_dense_and_crops_weigh_the_same():
    views = VIEWS["dense+crops"].of(500, 375, IMAGENET_PREPROCESSING)
    assert sum(weight for view, weight in views.items() if view.is_dense) == 150
    assert sum(weight for view, weight in views.items() if not view.is_dense) == 150


def test_a_square_picture_has_48_distinct_views_of_144():
    assert set(VIEWS["144"].of(300, 300, IMAGENET_PREPROCESSING).values()) == {3.0}
    assert len(VIEWS["144"].of(300, 300, IMAGENET_PREPROCESSING)) == 48
    assert len(VIEWS["144"].of(500, 375, IMAGENET_PREPROCESSING)) == 144


def square(left, top, side=224):
    return Part(left, top, left + side, top + side)


def test_ten_views_by_hand():
    """The stored square is 256: corners at 0 and 256 - 224 = 32, the middle at 16; of any picture."""
    by_hand = [square(0, 0), square(32, 0), square(0, 32), square(32, 32), square(16, 16)]
    for size in ((500, 375), (375, 500)):
        views = VIEWS["ten"].of(*size, IMAGENET_PREPROCESSING)
        assert list(views) == [View(Canvas(256, is_square=True), part, mirrored) for part in by_hand for mirrored in (False, True)]


def test_144_views_by_hand_of_a_wide_and_a_tall_picture():
    """500x375: at 256 it is 341x256 (500 * 256 / 375 = 341.3), the squares begin at 0, (341 - 256) / 2 = 42.5 -> 42, and 85.

    At 352 it is 469x352, squares at 0, 58.5 -> 58, 117, crops in each at 0, 64 and 128.
    """
    views = {view for view in VIEWS["144"].of(500, 375, IMAGENET_PREPROCESSING) if not view.is_mirrored}
    assert len(views) == 72
    for pixels, lefts, far in ((256, (0, 42, 85), 32), (352, (0, 58, 117), 128)):
        by_hand = [
            part
            for left in lefts
            for part in (
                square(left, 0),
                square(left + far, 0),
                square(left, far),
                square(left + far, far),
                square(left + far // 2, far // 2),
                square(left, 0, pixels),
            )
        ]
        assert {view.part for view in views if view.canvas.short_pixels == pixels} == set(by_hand)
    tall = {view for view in VIEWS["144"].of(375, 500, IMAGENET_PREPROCESSING) if not view.is_mirrored}
    turned = {view._replace(part=Part(view.part.top, view.part.left, view.part.bottom, view.part.right)) for view in views}
    assert tall == turned


def test_the_grid_by_hand():
    """500x375 at 512 is 682x512: across 0, 114.5 -> 114, 229, 343.5 -> 344, 458; down 0, 72, 144, 216, 288."""
    views = VIEWS["150"].of(500, 375, IMAGENET_PREPROCESSING)
    largest = [view.part for view in views if view.canvas.short_pixels == 512 and not view.is_mirrored]
    assert largest == [square(left, top) for top in (0, 72, 144, 216, 288) for left in (0, 114, 229, 344, 458)]


def test_small_networks_see_scaled_sizes_with_their_border():
    """256 of 224 is 36.6 -> 37 of 32; LeNet-5's digit of 28 in 32 becomes one of 32 in 37."""
    assert scaled(256, CIFAR_PREPROCESSING) == Canvas(37)
    assert scaled(256, LENET) == Canvas(32, before=2, after=3)
    assert {view.canvas for view in VIEWS["ten"].of(28, 28, LENET)} == {Canvas(32, before=2, after=3, is_square=True)}
    assert {view.part.left for view in VIEWS["ten"].of(28, 28, LENET)} == {0, 5, 2}


def test_views_with_sizes_of_ones_own():
    views = find_views("dense:256,384")
    assert sorted({view.canvas.short_pixels for view in views.of(500, 375, IMAGENET_PREPROCESSING)}) == [256, 384]
    shown = find_views("center:288/256").preprocessing(IMAGENET_PREPROCESSING)
    assert (shown.resize, shown.size) == (288, 256)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tenn", "did you mean 'ten'"),
        ("ten:5", "takes no sizes"),
        ("dense:", "such as dense:256,384"),
        ("dense:100", "224 to 1024"),
        ("dense:9999", "224 to 1024"),
        ("dense:2²4", "such as"),
        ("center:256", "RESIZE/CROP"),
        ("center:256/224/1", "RESIZE/CROP"),
        ("144:" + ",".join(["256"] * 99), "such as"),
        ("", "known: center, mirror, ten"),
    ],
)
def test_names_that_are_none(name, said):
    with pytest.raises(SettingsError, match=said):
        find_views(name)
