"""Views: what a network is shown of each picture when it is evaluated, as the papers did it.

    center         the middle, once: what training validates on
    mirror         the middle and its mirror image
    ten            corners and middle of the stored square, each mirrored too (Krizhevsky et al. 2012, section 4.1)
    144            4 sizes x 3 squares x 6 crops x 2 (Szegedy et al. 2014, section 7)
    150            3 sizes x a grid of 5 x 5 crops x 2 (Simonyan and Zisserman 2014, section 3.2)
    dense          fully convolutional over the whole picture, mirrored too (the same, section 3.2)
    dense+crops    150 and dense at the same three sizes, half and half (the same, section 4.3)
    multiscale     fully convolutional at five sizes (He et al. 2015, section 4.1)

Sizes are the pixels of a picture's shorter side, as the papers print them for networks that see 224 pixels; for other networks they are
scaled (a network of 32 pixels sees 37 where the paper has 256), and with them the black border of a network that is shown one. Scores
are averaged as in the papers: class scores over the places of a map, probabilities over crops, mirror images and sizes.

What is left open there: `ten` takes the stored square of the weights where it is larger than the window. The 5 x 5 grid and the maps
span the whole picture. ResNet's scores at several sizes are averaged as probabilities, as VGG's are. Of a picture more than 4 times as
long as wide the middle is shown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from provenet.data.boxes import Part
from provenet.data.canvases import Canvas
from provenet.errors import SettingsError, suggest
from provenet.preprocessing import LARGEST_SIDE_PIXELS, Preprocessing, window_corner

PRINTED_SIZE = 224
"""Pixels that the networks see for which the papers print the other sizes."""
MOST_SIZES = 10


class View(NamedTuple):
    """One thing that a network is shown of a picture."""

    canvas: Canvas
    part: Part
    """Of the canvas; a part of another size than the network's own is resized to it, unless the view is dense."""
    is_mirrored: bool = False
    is_dense: bool = False
    """Whether the network works on it as on a map, fully convolutional."""


Rule = Callable[[int, int, Preprocessing, tuple[int, ...]], Iterator[View]]
"""Width and height of an upright picture, what the network sees, and sizes -> views; some may coincide."""


@dataclass(frozen=True)
class Views:
    """A way to evaluate: `of` says what is shown of a picture."""

    name: str
    about: str
    rules: tuple[tuple[Rule, float], ...]
    """With the weight of each of the rule's views."""
    sizes: tuple[int, ...] = ()
    """Shorter sides in pixels, where the network sees 224."""
    preprocessing: Callable[[Preprocessing], Preprocessing] = lambda preprocessing: preprocessing
    """Of the weights -> of this evaluation."""

    def of(self, width: int, height: int, preprocessing: Preprocessing) -> Mapping[View, float]:
        """The distinct views of an upright picture of that size, each with the weight of all that coincide in it."""
        return _distinct(self, width, height, preprocessing)

    @property
    def is_center(self) -> bool:
        """Whether one window of the stored square is all that is shown."""
        return all(rule is _center for rule, _ in self.rules)

    @property
    def has_maps(self) -> bool:
        """Whether the network works fully convolutional."""
        return any(rule is _dense or rule is _whole for rule, _ in self.rules)

    @property
    def has_windows(self) -> bool:
        """Whether it is shown windows of its own size."""
        return not all(rule is _dense or rule is _whole for rule, _ in self.rules)


@lru_cache(maxsize=256)
def _distinct(views: Views, width: int, height: int, preprocessing: Preprocessing) -> dict[View, float]:
    found: dict[View, float] = {}
    for rule, weight in views.rules:
        for view in rule(width, height, preprocessing, views.sizes):
            found[view] = found.get(view, 0.0) + weight
    return found


def scaled(pixels: int, preprocessing: Preprocessing) -> Canvas:
    """The whole picture, its shorter side so many of 224ths of what the network sees, border included."""
    size, shown = preprocessing.size, min(preprocessing.size, preprocessing.resize)
    content = round(pixels * shown / PRINTED_SIZE)
    border = round(pixels * size / PRINTED_SIZE) - content
    return Canvas(content, border // 2, border - border // 2)


def stored_square(preprocessing: Preprocessing) -> Canvas:
    """What the centred window is cut from, black beyond its edge."""
    missing = max(0, preprocessing.size - preprocessing.resize)
    return Canvas(preprocessing.resize, missing // 2, missing - missing // 2, is_square=True)


def _center(width: int, height: int, preprocessing: Preprocessing, _: tuple[int, ...]) -> Iterator[View]:
    canvas = stored_square(preprocessing)
    corner = window_corner(canvas.sides(width, height)[0], preprocessing.size)
    yield View(canvas, _window(corner, corner, preprocessing.size))


def _mirror(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    return _both(_center(width, height, preprocessing, sizes))


def _ten(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    size = preprocessing.size
    larger = stored_square(preprocessing) if preprocessing.resize > size else scaled(sizes[0], preprocessing)._replace(is_square=True)
    side = larger.sides(width, height)[0]
    return _both(View(larger, part) for part in _five(Part(0, 0, side, side), size))


def _144(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    for pixels in sizes:
        canvas = scaled(pixels, preprocessing)
        wide, high = canvas.sides(width, height)
        side = min(wide, high)
        for number in range(3):  # left, centre, right; of an upright picture top, centre, bottom
            left, top = ((0, window_corner(length, side), length - side)[number] if length > side else 0 for length in (wide, high))
            square = _window(left, top, side)
            yield from _both(View(canvas, part) for part in (*_five(square, preprocessing.size), square))


def _grid(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    size, steps = preprocessing.size, 4
    for pixels in sizes:
        canvas = scaled(pixels, preprocessing)
        wide, high = canvas.sides(width, height)
        places = ((round(i * (wide - size) / steps), round(k * (high - size) / steps)) for k in range(steps + 1) for i in range(steps + 1))
        yield from _both(View(canvas, _window(left, top, size)) for left, top in places)


def _whole(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    for pixels in sizes:
        canvas = scaled(pixels, preprocessing)
        yield View(canvas, Part(0, 0, *canvas.sides(width, height)), is_dense=True)


def _dense(width: int, height: int, preprocessing: Preprocessing, sizes: tuple[int, ...]) -> Iterator[View]:
    return _both(_whole(width, height, preprocessing, sizes))


def _both(views: Iterator[View]) -> Iterator[View]:
    """Each, and its mirror image."""
    for view in views:
        yield view
        yield view._replace(is_mirrored=True)


def _five(square: Part, size: int) -> list[Part]:
    """The corners and the middle of a square."""
    far, middle = square.right - square.left - size, window_corner(square.right - square.left, size)
    corners = ((0, 0), (far, 0), (0, far), (far, far), (middle, middle))
    return [_window(square.left + across, square.top + down, size) for across, down in corners]


def _window(left: int, top: int, side: int) -> Part:
    return Part(left, top, left + side, top + side)


_VGG_SIZES = (256, 384, 512)

VIEWS = {
    views.name: views
    for views in (
        Views("center", "the middle, once", ((_center, 1.0),)),
        Views("mirror", "the middle and its mirror image", ((_mirror, 1.0),)),
        Views("ten", "AlexNet: corners and middle, mirrored too", ((_ten, 1.0),), (256,)),
        Views("144", "GoogLeNet: 4 sizes x 3 squares x 6 crops x 2", ((_144, 1.0),), (256, 288, 320, 352)),
        Views("150", "VGG: 3 sizes x a grid of 5 x 5 crops x 2", ((_grid, 1.0),), _VGG_SIZES),
        Views("dense", "VGG: fully convolutional over the whole picture, mirrored too", ((_dense, 1.0),), (256,)),
        Views("dense+crops", "VGG: 150 crops, and dense at the same 3 sizes, half and half", ((_grid, 1.0), (_dense, 25.0)), _VGG_SIZES),
        Views("multiscale", "ResNet: fully convolutional at 5 sizes", ((_whole, 1.0),), (224, 256, 384, 480, 640)),
    )
}


def find_views(name: str) -> Views:
    """The views of that name. `center:288/256` resizes and crops otherwise; `dense:256,384` and the like take other sizes.

    Raises SettingsError for a name that is none.
    """
    plain, colon, numbers = name.partition(":")
    if plain not in VIEWS:
        raise SettingsError(f"--views: expected a way to evaluate, found {name!r}; {suggest(plain, VIEWS)}")
    views = VIEWS[plain]
    if not colon:
        return views
    if views.is_center or plain == "mirror":
        found = _numbers(numbers.split("/"), name, f"{plain}:RESIZE/CROP such as {plain}:288/256", least=1)
        if len(found) != 2:
            raise SettingsError(f"--views: expected {plain}:RESIZE/CROP such as {plain}:288/256, found {name!r}")
        return Views(name, f"{views.about}: {found[1]} of {found[0]} pixels", views.rules, preprocessing=_other_window(*found))
    if plain == "ten":
        raise SettingsError(f"--views: expected ten, which takes no sizes, found {name!r}")
    sizes = _numbers(numbers.split(","), name, f"{plain}:SIZE,SIZE … such as {plain}:256,384", least=PRINTED_SIZE)
    return Views(name, f"{views.about}; {', '.join(map(str, sizes))}", views.rules, sizes)


def _numbers(words: list[str], name: str, expected: str, *, least: int) -> tuple[int, ...]:
    """Some pixels."""
    are_numbers = len(words) <= MOST_SIZES and all(word.isascii() and word.isdigit() and len(word) <= 4 for word in words)
    found = tuple(int(word) for word in words) if are_numbers else ()
    if not found or not all(least <= number <= LARGEST_SIDE_PIXELS for number in found):
        raise SettingsError(f"--views: expected {expected}, of {least} to {LARGEST_SIDE_PIXELS} pixels, found {name!r}")
    return found


def _other_window(resize: int, size: int) -> Callable[[Preprocessing], Preprocessing]:
    return lambda preprocessing: preprocessing.with_size(size).stored_at(resize)
