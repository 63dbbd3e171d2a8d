"""What is done to training pictures, each by hand; and that it depends on the sample alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from provenet.data.colour import LUMA, ColourMaps, apply_maps, change_colour, compose, mean_luma, principal_offsets
from provenet.data.distort import distort
from provenet.data.distortion import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS, Distortion
from provenet.data.erasing import boxes_to_erase
from provenet.data.geometry import bend, displacements, inverse_maps, resample
from provenet.data.geometry import compose as compose_geometry
from provenet.data.random import Places, Purpose, draw, normals, uniforms
from provenet.preprocessing import IMAGENET_PREPROCESSING, MEAN_ONLY, Preprocessing

GREY = Preprocessing(size=28, resize=28, channels=1, mean=(0.3,), std=(0.4,))
PLAIN = Preprocessing(size=12, resize=12, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
EVERYTHING = Distortion(
    rotation_degrees=20.0,
    scale_fraction=0.1,
    squeeze_fraction=0.1,
    shear_degrees=10.0,
    warp_pixels=3.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue_degrees=20.0,
    pca_colour=0.1,
    noise=0.05,
    erase=0.7,
)
ALONE = [
    Distortion(),
    *(
        replace(Distortion(), **{name: getattr(EVERYTHING, name)})
        for name in (
            "rotation_degrees",
            "scale_fraction",
            "squeeze_fraction",
            "shear_degrees",
            "warp_pixels",
            "brightness",
            "contrast",
            "saturation",
            "hue_degrees",
            "pca_colour",
            "noise",
            "erase",
        )
    ),
    EVERYTHING,
]


def places(count, epoch=0, seed=3):
    return Places(seed, np.full(count, epoch), np.arange(count))


def noise_windows(count, side, channels=3, seed=0):
    numbers = np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return torch.from_numpy(numbers)


@pytest.fixture(params=[1, 2])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "distortion", ALONE, ids=lambda d: "+".join(n for n, v in vars(d).items() if v != getattr(Distortion(), n)) or "none"
)
@pytest.mark.parametrize(
    "preprocessing",
    [replace(IMAGENET_PREPROCESSING, size=61, resize=61), replace(MEAN_ONLY, size=96, resize=96, channel_order="BGR"), GREY],
    ids=["colour", "bgr", "grey"],
)
def test_a_sample_does_not_know_its_batch(distortion, preprocessing, num_threads):
    """Seven at once, each alone, and in parts of three, three and one; on one thread and on two."""
    windows = noise_windows(7, preprocessing.size, preprocessing.channels)
    where = Places(5, np.array([0, 0, 0, 1, 1, 1, 1]), np.array([997, 998, 999, 0, 1, 2, 3]))
    whole = distort(windows, distortion, where, preprocessing)
    assert whole.dtype == torch.float32
    assert whole.shape == (7, preprocessing.channels, preprocessing.size, preprocessing.size)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    for part in [*(slice(row, row + 1) for row in range(7)), slice(0, 3), slice(3, 6), slice(2, 7)]:
        assert torch.equal(distort(windows[part], distortion, where.select(part), preprocessing), whole[part])
    torch.set_num_threads(3 - num_threads)
    assert torch.equal(distort(windows, distortion, where, preprocessing), whole)


def test_nothing_asked_is_normalisation_to_the_bit():
    windows = noise_windows(3, 224)
    assert torch.equal(distort(windows, Distortion(), places(3), IMAGENET_PREPROCESSING), IMAGENET_PREPROCESSING.normalise(windows))


def test_another_epoch_is_another_picture():
    windows = noise_windows(4, 28, 1)
    for distortion in ALONE[1:]:
        first, second = (distort(windows, distortion, places(4, epoch), GREY) for epoch in (0, 1))
        colours_of_grey = distortion.saturation or distortion.hue_degrees or distortion.pca_colour
        only_colour = colours_of_grey and distortion != EVERYTHING
        assert torch.equal(first, second) == bool(only_colour)  # of grey pictures there is nothing to saturate


def maps_of(angle=0.0, width=1.0, height=1.0, tangent=0.0):
    return compose_geometry(*(np.array([value]) for value in (angle, width, height, tangent)))


@pytest.mark.parametrize("side", [7, 28, 224])
def test_a_quarter_turn_is_that_of_numpy(side):
    windows = noise_windows(1, side)
    for quarters in range(-2, 3):
        turned = resample(windows, maps_of(np.pi / 2 * quarters))
        assert np.array_equal(turned[0].numpy(), np.rot90(windows[0].numpy(), quarters))


def test_geometry_by_hand():
    line = torch.zeros(1, 9, 9, 1, dtype=torch.uint8)
    line[:, :, 4] = 200  # an upright line through the centre
    dot = torch.zeros(1, 9, 9, 1, dtype=torch.uint8)
    dot[:, 4, 6] = 200
    doubled = resample(dot, maps_of(width=2.0, height=2.0))[0, ..., 0]
    assert doubled[4].tolist()[7:] == [100, 200]  # two pixels right of the centre is four of them now
    slanted = resample(line, maps_of(tangent=1.0))[0, ..., 0]
    assert (slanted == 200).nonzero().tolist() == [[row, row] for row in range(9)]  # its lower end to the right
    squeezed = resample(dot, maps_of(width=0.5, height=2.0))[0, ..., 0]
    assert squeezed[4].argmax() == 5
    ramp = torch.arange(0, 90, 10, dtype=torch.uint8).view(1, 1, 9, 1).repeat(1, 9, 1, 1)
    right = np.zeros((1, 2, 9, 9), np.float32)
    right[:, 0] = 2.5
    shifted = resample(ramp, maps_of(), right)[0, 0, :, 0]
    assert shifted.tolist() == [25, 35, 45, 55, 65, 75, 80, 75, 65]  # reflected about the edge of the last pixel, 80


def test_the_size_of_turns_and_slants_is_that_asked_for():
    where = places(10_000)
    maps = inverse_maps(Distortion(rotation_degrees=30.0), where)
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert (angles.min() > -30, angles.max() < 30) == (True, True)
    assert abs(angles.mean()) < 0.6
    assert angles.std() == pytest.approx(30 / 3**0.5, rel=0.02)
    areas = 1 / np.linalg.det(inverse_maps(Distortion(squeeze_fraction=0.3, shear_degrees=20.0, rotation_degrees=90.0), where))
    np.testing.assert_allclose(areas, 1)  # none of them changes the area
    scales = 1 / np.sqrt(np.linalg.det(inverse_maps(Distortion(scale_fraction=0.2), where)))
    assert (scales.min(), scales.max()) == pytest.approx((0.8, 1.2), abs=1e-3)
    tangents = -inverse_maps(Distortion(shear_degrees=20.0), where)[:, 0, 1]
    assert np.degrees(np.arctan(tangents)).std() == pytest.approx(20 / 3**0.5, rel=0.02)


def test_warping_is_smooth_and_bounded():
    fields = displacements(Distortion(warp_pixels=4.0), places(300), 64)
    assert fields.shape == (300, 2, 64, 64)
    assert np.abs(fields).max() < 4
    assert fields.std() == pytest.approx(0.29 * 4, rel=0.05)
    assert abs(fields.mean()) < 0.05
    assert np.abs(np.diff(fields, n=2, axis=3)).max() < 4 * 4 * (4 / 64) ** 2  # second differences: at most 4 coefficients a cell squared
    assert not np.array_equal(fields[:, 0], fields[:, 1])
    windows = noise_windows(2, 64)
    assert torch.equal(resample(windows, np.repeat(np.eye(2)[None], 2, 0)), windows)
    assert not torch.equal(bend(windows, Distortion(warp_pixels=4.0), places(2)), windows)


def coloured(windows, preprocessing=PLAIN, **factors):
    """Windows changed by given factors, the same for all."""
    planes = windows.permute(3, 0, 1, 2).contiguous().float()
    ones = np.ones(len(windows))
    wanted = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0} | factors
    return apply_maps(planes, compose(mean_luma(planes), **{name: value * ones for name, value in wanted.items()}), preprocessing)


def test_colours_by_hand():
    windows = noise_windows(3, 12)
    values = windows.permute(0, 3, 1, 2).double() / 255
    luma = torch.einsum("c,bchw->bhw", torch.from_numpy(LUMA), values)[:, None]
    for factors, expected in (
        ({}, values),
        ({"hue": 2 * np.pi}, values),
        ({"brightness": 1.5}, (1.5 * values).clamp(0, 1)),
        ({"brightness": 0.0}, 0 * values),
        ({"saturation": 0.0}, luma.expand_as(values)),
        ({"saturation": 1.4}, (luma + 1.4 * (values - luma)).clamp(0, 1)),
        ({"contrast": 0.3}, luma.mean((1, 2, 3), keepdim=True) + 0.3 * (values - luma.mean((1, 2, 3), keepdim=True))),
        ({"contrast": 0.0, "brightness": 0.5}, 0.5 * luma.mean((1, 2, 3), keepdim=True).expand_as(values)),
    ):
        torch.testing.assert_close(coloured(windows, **factors).double(), expected, atol=2e-6, rtol=0)
    middling = windows // 4 + 96  # away from black and white, where colours are cut off
    luma = torch.einsum("c,bchw->bhw", torch.from_numpy(LUMA), middling.permute(0, 3, 1, 2).double() / 255)
    turned = coloured(middling, hue=1.0)
    torch.testing.assert_close(torch.einsum("c,bchw->bhw", torch.from_numpy(LUMA), turned.double()), luma, atol=1e-6, rtol=0)
    opposite = coloured(middling, hue=np.pi).double() + middling.permute(0, 3, 1, 2) / 255.0
    torch.testing.assert_close(opposite, 2 * luma[:, None].expand_as(opposite), atol=1e-6, rtol=0)


@pytest.mark.parametrize("preprocessing", [replace(IMAGENET_PREPROCESSING, size=12), replace(MEAN_ONLY, size=12, channel_order="BGR")])
def test_normalising_afterwards_is_the_same(preprocessing):
    windows = noise_windows(4, 12)
    factors = {"brightness": 1.3, "contrast": 1.2, "saturation": 0.7, "hue": 0.3}
    plain = coloured(windows, **factors)
    plain = plain.flip(1) if preprocessing.channel_order == "BGR" else plain
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    torch.testing.assert_close(
        coloured(windows, preprocessing, **factors), (plain * preprocessing.white - mean) / std, atol=3e-5, rtol=1e-5
    )
    same = ColourMaps(np.repeat(np.eye(3)[None], 4, 0), np.zeros((4, 3)))
    found = apply_maps(windows.permute(3, 0, 1, 2).contiguous().float(), same, preprocessing)
    torch.testing.assert_close(found, preprocessing.normalise(windows), atol=3e-5, rtol=1e-5)


def test_principal_components_by_the_papers_formula():
    alphas = np.array([[0.1, 0.0], [-0.2, 0.0], [0.05, 1.0]])
    vectors, values = np.array(IMAGENET_EIGENVECTORS).reshape(3, 3), np.array(IMAGENET_EIGENVALUES)
    expected = [vectors @ (alphas[:, n] * values) for n in (0, 1)]
    np.testing.assert_allclose(principal_offsets(Distortion(), alphas), expected, rtol=1e-12)
    assert principal_offsets(Distortion(), alphas)[1] == pytest.approx([0.0045 * 0.4009, 0.0045 * -0.8140, 0.0045 * 0.4203])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-4)  # the published ones are orthonormal
    windows = torch.full((2_000, 1, 1, 3), 128, dtype=torch.uint8)
    changed = change_colour(windows, Distortion(pca_colour=0.1), places(2_000), PLAIN)[:, :, 0, 0].double() - 128 / 255
    covariance = (vectors * (0.1 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(changed.T.numpy()), covariance, rtol=0.1)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_uniform_about_one(name):
    where = places(10_000)
    windows = torch.tensor([[60, 100, 90], [100, 90, 60]], dtype=torch.uint8).view(1, 1, 2, 3).expand(10_000, 1, 2, 3)
    changed = change_colour(windows, replace(Distortion(), **{name: 0.4}), where, PLAIN).double().numpy()
    plain = windows[0, 0].double().numpy().T / 255
    if name == "brightness":
        factors = changed[:, 0, 0, 0] / plain[0, 0]
    elif name == "contrast":
        factors = (changed[:, 0, 0, 0] - changed[:, 0, 0, 1]) / (plain[0, 0] - plain[0, 1])
    else:
        factors = (changed[:, 0, 0, 0] - changed[:, 1, 0, 0]) / (plain[0, 0] - plain[1, 0])
    assert (factors.min(), factors.max()) == pytest.approx((0.6, 1.4), abs=2e-3)
    assert factors.mean() == pytest.approx(1, abs=0.01)
    assert factors.std() == pytest.approx(0.8 / 12**0.5, rel=0.02)


def test_grey_pictures_get_lighter_and_flatter():
    windows = noise_windows(5, 28, 1)
    strong = replace(
        EVERYTHING, noise=0.0, erase=0.0, rotation_degrees=0.0, scale_fraction=0.0, squeeze_fraction=0.0, shear_degrees=0.0, warp_pixels=0.0
    )
    plain = Preprocessing(size=28, resize=28, channels=1, mean=(0.0,), std=(1.0,))
    found = distort(windows, replace(strong, saturation=0.0, hue_degrees=0.0, pca_colour=0.0), places(5), plain)
    assert torch.equal(found, distort(windows, strong, places(5), plain))
    brightness, contrast = (1 + 0.3 * (2 * uniforms(draw(3, Purpose.COLOUR, *places(5)[1:])[k]) - 1) for k in (0, 1))
    values = windows[..., 0].double() / 255
    b, c = (torch.from_numpy(numbers).view(-1, 1, 1) for numbers in (brightness, contrast))
    expected = (b * (c * values + (1 - c) * values.mean((1, 2), keepdim=True))).clamp(0, 1)
    torch.testing.assert_close(found[:, 0].double(), expected, atol=2e-6, rtol=0)


def test_noise_has_the_deviation_asked_for():
    windows = torch.full((4, 64, 64, 3), 100, dtype=torch.uint8)
    normalised = IMAGENET_PREPROCESSING.normalise(windows)
    std = torch.tensor(IMAGENET_PREPROCESSING.std).view(-1, 1, 1)
    noise = (distort(windows, Distortion(noise=0.1), places(4), IMAGENET_PREPROCESSING) - normalised) * std
    assert noise.mean().item() == pytest.approx(0, abs=2e-3)
    assert noise.std((0, 2, 3)).tolist() == pytest.approx([0.1] * 3, rel=0.02)
    flat = noise.flatten()
    assert abs(torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1]) < 0.02
    assert not torch.equal(noise[0], noise[1])


def test_normal_numbers_are_normal():
    numbers = normals(draw(1, Purpose.NOISE, np.zeros(50_000, np.int64), np.arange(50_000)))
    assert numbers.shape == (4, 50_000)
    assert numbers.mean() == pytest.approx(0, abs=0.01)
    assert [float((numbers**power).mean()) for power in (2, 3, 4)] == pytest.approx([1, 0, 3], abs=0.06)
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 0.02


def test_boxes_that_are_erased():
    distortion = Distortion(erase=0.25, erase_area=(0.02, 0.33))
    boxes = boxes_to_erase(distortion, places(10_000), 100)
    areas = boxes.areas() / 100**2
    erased = areas > 0
    assert erased.mean() == pytest.approx(0.25, abs=0.015)
    assert (areas[erased].min() > 0.018, areas[erased].max() < 0.34) == (True, True)
    assert areas[erased].mean() == pytest.approx(0.175, rel=0.03)
    assert min(edge.min() for edge in boxes) == 0
    assert max(boxes.bottom.max(), boxes.right.max()) == 100
    aspects = ((boxes.right - boxes.left) / np.maximum(1, boxes.bottom - boxes.top))[erased]
    assert (aspects.min() > 0.27, aspects.max() < 3.7) == (True, True)
    assert np.log(aspects).mean() == pytest.approx(0, abs=0.05)
    whole = boxes_to_erase(Distortion(erase=1.0, erase_area=(1.0, 1.0)), places(50), 31)
    assert (whole.areas() == 31**2).all()
    images = distort(noise_windows(20, 100), replace(distortion, erase=1.0), places(20), IMAGENET_PREPROCESSING)
    zeros = (images == 0).all(1).sum((1, 2))
    assert torch.equal(zeros, torch.from_numpy(boxes_to_erase(replace(distortion, erase=1.0), places(20), 100).areas()))
