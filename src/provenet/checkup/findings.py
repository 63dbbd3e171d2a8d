"""What is wrong with a set of pictures, or worth knowing before it is trained on: a list of rules, each a function of the facts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from provenet.checkup.alike import Pair
from provenet.checkup.duplicates import Duplicates
from provenet.checkup.examine import Look
from provenet.checkup.facts import Facts
from provenet.data.decode import KINDS, LARGE_PIXELS, LARGEST_FILE_BYTES, LARGEST_PIXELS
from provenet.errors import suggest

Level = Literal["problem", "warning", "remark"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "remark")

FEWEST_TO_TRAIN_ON = 2
FEW_TO_TRAIN_ON = 20
LARGEST_IMBALANCE = 10
SMALL_SIDE_PIXELS = 32
EXTREME_ASPECT = 4

KIND_WORDS = {
    "missing": "with nothing there, such as a link that leads nowhere",
    "no file": "neither file nor folder, such as a pipe",
    "empty": "empty (0 bytes)",
    "not permitted": "which this user may not read",
    "too large": f"of more than {LARGEST_FILE_BYTES:,} bytes",
    "unknown format": "in no known image format",
    "too many pixels": f"of more than {LARGEST_PIXELS:,} pixels",
    "floating point": "of floating-point pixels",
    "damaged": "damaged or cut off",
}
"""`data.decode.KINDS` in words that follow "3 unreadable files"."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found. A problem spoils training or what it tells; a warning may; a remark is worth knowing."""

    level: Level
    kind: str
    message: str
    """One sentence: what was expected, what was found, what to do."""
    details: tuple[str, ...] = ()
    """A line for each file, group or class that is meant."""
    files: tuple[str, ...] = ()
    stops: Literal["never", "unless skipped", "always"] = "never"
    """Whether `provenet train` stops at it; `unless skipped` where --skip-broken goes on without."""
    pairs: tuple[Pair, ...] = field(default=(), repr=False)
    """Pictures for people to compare."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level,
            "kind": self.kind,
            "message": self.message,
            "details": list(self.details),
            "files": list(self.files),
            "stops_training": self.stops,
        }


def judge(facts: Facts) -> list[Finding]:
    """Everything that the rules find, worst first."""
    found = [finding for rule in RULES for finding in rule(facts)]
    return [finding for level in LEVELS for finding in found if finding.level == level]


def refused_folders(facts: Facts) -> Iterator[Finding]:
    """What training says of the folders themselves, in its own words."""
    for refusal in facts.refusals:
        yield Finding("problem", refusal.kind, str(refusal), stops="always")


def nothing_to_train_on(facts: Facts) -> Iterator[Finding]:
    """No training pictures, one class only, or nothing that could be held out."""
    if "train" not in facts.splits:
        there = ", ".join(facts.splits) or "none"
        message = f"expected {facts.wording.to_train_on}, found only {there}; add what is missing"
        yield Finding("problem", "nothing to train on", message, stops="always")
        return
    present = [label for label in facts.classes if facts.pictures[label, "train"]]
    if len(present) < 2:
        message = f"expected at least two classes to train on, found {present}; add {facts.wording.another_class}"
        yield Finding("problem", "one class", message, stops="always")
    elif facts.held_out_from and not facts.of_split("val"):
        message = "expected at least two pictures in some class, to validate on one, found none; add pictures"
        yield Finding("problem", "nothing to validate on", message, stops="always")


def classes_lost_to_damage(facts: Facts) -> Iterator[Finding]:
    """Classes, and splits, of which not one picture can be decoded: even --skip-broken cannot go on."""
    lost = [label for label in facts.classes if facts.pictures[label, "train"] and not facts.sound(label, "train")]
    if lost:
        message = f"expected a training picture that can be decoded in each class, found none in {_classes(lost)}; add or repair some"
        yield Finding("problem", "class lost", message, _in_split(facts, lost, "train"), stops="always")
    for split in facts.splits:
        if split != "train" and facts.of_split(split) and not any(facts.sound(label, split) for label in facts.classes):
            message = f"expected a picture that can be decoded in {split}, found none; add or repair some, or remove it"
            yield Finding("problem", "split lost", message, stops="always")


def classes_that_train_lacks(facts: Facts) -> Iterator[Finding]:
    """Classes with pictures in val or test of which nothing was learned; they are joined by name."""
    known = [label for label in facts.classes if facts.pictures[label, "train"]]
    for split in facts.splits:
        strange = [label for label in facts.classes if facts.pictures[label, split] and label not in known]
        if strange and split != "train" and known:
            message = (
                f"expected the classes of train in {split}, found {_classes(strange)} that train lacks; {suggest(strange[0], known)}; "
                "rename or remove, or add training pictures"
            )
            files = tuple(look.path for look in facts.looks if look.split == split and look.label in strange)
            yield Finding("problem", f"class that train lacks in {split}", message, _in_split(facts, strange, split), files, stops="always")


def unreadable_files(facts: Facts) -> Iterator[Finding]:
    """Files that cannot be decoded, by what is wrong with them."""
    for kind in KINDS:
        looks = [look for look in facts.looks if look.kind == kind]
        if looks:
            message = f"{_count(looks, 'unreadable file')}, {KIND_WORDS[kind]}; replace or remove, or train without by --skip-broken"
            details = tuple(look.message or look.path for look in looks)
            yield Finding("problem", f"unreadable: {kind}", message, details, _paths(looks), stops="unless skipped")


def leaks(facts: Facts) -> Iterator[Finding]:
    """The same picture in two splits: what was learned by heart is then taken for known."""
    for one, other in combinations(facts.splits, 2):
        groups = [group for group in facts.duplicates if one in group.splits and other in group.splits]
        if groups:
            message = f"{_count(groups, 'picture')} of {one} found in {other} too, so that {other} measures memory; keep one of each"
            yield _of_groups("problem", f"leak: {one} and {other}", message, groups)


def pictures_in_two_classes(facts: Facts) -> Iterator[Finding]:
    """The same picture with two labels, one of which is wrong."""
    groups = [group for group in facts.duplicates if len(group.labels) > 1]
    if groups:
        message = f"{_count(groups, 'picture')} found in more than one class, where one label must be wrong; keep the right one"
        yield _of_groups("problem", "picture in two classes", message, groups)


def classes_with_too_few(facts: Facts) -> Iterator[Finding]:
    """Classes with hardly anything to learn from."""
    sound = {label: facts.sound(label, "train") for label in facts.classes if "train" in facts.splits}
    held_out = ", beside those held out for val" if facts.held_out_from else ""
    hardly = [label for label, count in sound.items() if 0 < count < FEWEST_TO_TRAIN_ON]
    if hardly:
        message = f"expected at least {FEWEST_TO_TRAIN_ON} pictures to train on in each class{held_out}, found {_classes(hardly)}; add some"
        yield Finding("problem", "too few pictures", message, _in_split(facts, hardly, "train"))
    few = [label for label, count in sound.items() if FEWEST_TO_TRAIN_ON <= count < FEW_TO_TRAIN_ON]
    if few:
        message = f"fewer than {FEW_TO_TRAIN_ON} pictures to train on{held_out}, found in {_classes(few)}; more would help"
        yield Finding("warning", "few pictures", message, _in_split(facts, few, "train"))


def classes_only_in_train(facts: Facts) -> Iterator[Finding]:
    """Classes that are learned and never measured."""
    for split in facts.splits:
        unseen = [label for label in facts.classes if facts.pictures[label, "train"] and not facts.pictures[label, split]]
        if unseen and not (split == "val" and facts.held_out_from):
            message = f"{_classes(unseen)} of train not found in {split}, so nobody learns how well it is known; add pictures"
            yield Finding("warning", f"class that {split} lacks", message, _in_split(facts, unseen, "train"))


def repeated_pictures(facts: Facts) -> Iterator[Finding]:
    """The same picture twice in one class of one split: it only counts double."""
    for split in facts.splits:
        groups = [group for group in facts.duplicates if group.splits == (split,) and len(group.labels) == 1]
        if groups:
            message = f"{_count(groups, 'picture')} found more than once in {split}, and counted each time; keep one of each"
            yield _of_groups("warning", f"repeated in {split}", message, groups)


def near_leaks(facts: Facts) -> Iterator[Finding]:
    """Pictures of one class that are nearly the same in two splits: another copy of what was learned by heart, or a moment later."""
    for one, other in combinations(facts.splits, 2):
        pairs = [pair for pair in facts.alike.pairs if pair.splits == {one, other} and pair.one.label == pair.other.label]
        if pairs:
            theirs = {look.path for pair in pairs for look in (pair.one, pair.other) if look.split == other}
            told = f"{len(pairs):,} pairs, " * (len(pairs) > len(theirs)) + _certainties(pairs)
            message = (
                f"{_count(list(theirs), 'picture')} of {other} nearly the same as one of {one} ({told}), "
                f"so that {other} would measure memory; look at them, and keep one of each"
            )
            yield _of_pairs("problem" if pairs[0].is_sure else "warning", f"near leak: {one} and {other}", message, pairs)


def nearly_in_two_classes(facts: Facts) -> Iterator[Finding]:
    """Pictures that are nearly the same with two labels. Not always wrong: what is mirrored may be another thing."""
    pairs = [pair for pair in facts.alike.pairs if pair.one.label != pair.other.label]
    if pairs:
        message = (
            f"{_count(pairs, 'pair')} of pictures nearly the same in two classes ({_certainties(pairs)}); look whether a label is wrong"
        )
        yield _of_pairs("warning", "nearly the same in two classes", message, pairs)


def nearly_repeated(facts: Facts) -> Iterator[Finding]:
    """Pictures of one class and split that are nearly the same: they nearly count double."""
    for split in facts.splits:
        pairs = [pair for pair in facts.alike.pairs if pair.splits == {split} and pair.one.label == pair.other.label]
        if pairs:
            message = f"{_count(pairs, 'pair')} of pictures nearly the same in {split} ({_certainties(pairs)}); look whether one is enough"
            yield _of_pairs("warning" if pairs[0].is_sure else "remark", f"nearly repeated in {split}", message, pairs)


def pictures_of_no_class(facts: Facts) -> Iterator[Finding]:
    """Pictures beside the class folders, which somebody may have meant to be read."""
    paths = tuple(item.path for item in facts.ignored if item.is_picture)
    if paths:
        message = f"{_count(paths, 'picture')} found beside the class folders, of no class and not read; move into a class folder"
        yield Finding("warning", "pictures of no class", message, paths, paths)


def imbalance(facts: Facts) -> Iterator[Finding]:
    """Classes of very different numbers of pictures."""
    sound = sorted((count, label) for label in facts.classes if (count := facts.sound(label, "train")))
    if sound and sound[-1][0] > LARGEST_IMBALANCE * sound[0][0]:
        (least, rare), (most, common) = sound[0], sound[-1]
        message = f"{common!r} has {most / least:.0f} times the training pictures of {rare!r} ({most:,} and {least:,}); rare classes suffer"
        yield Finding("remark", "imbalance", message)


def unusual_sizes(facts: Facts) -> Iterator[Finding]:
    """Tiny, huge and very long pictures."""
    sides = [(look, look.width or 0, look.height or 0) for look in facts.looks if look.width]
    tiny = [look for look, width, height in sides if min(width, height) < SMALL_SIDE_PIXELS]
    if tiny and len({(width, height) for _, width, height in sides}) > 1:  # a set of one size is meant to be so
        message = f"{_count(tiny, 'picture')} of less than {SMALL_SIDE_PIXELS} pixels a side, to be enlarged; is it meant so?"
        yield _of_looks("remark", "small", message, tiny)
    large = [look for look, width, height in sides if width * height > LARGE_PIXELS]
    if large:
        message = f"{_count(large, 'picture')} of more than {LARGE_PIXELS:,} pixels, decoded one at a time, which is slow; reduce them"
        yield _of_looks("remark", "large", message, large)
    long = [look for look, width, height in sides if max(width, height) > EXTREME_ASPECT * min(width, height)]
    if long:
        message = f"{_count(long, 'picture')} more than {EXTREME_ASPECT} times as long as wide, of which only the middle square is seen"
        yield _of_looks("remark", "long", message, long)


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    refused_folders,
    nothing_to_train_on,
    classes_that_train_lacks,
    classes_lost_to_damage,
    unreadable_files,
    leaks,
    pictures_in_two_classes,
    near_leaks,
    nearly_in_two_classes,
    classes_with_too_few,
    classes_only_in_train,
    repeated_pictures,
    nearly_repeated,
    pictures_of_no_class,
    imbalance,
    unusual_sizes,
)


def _of_groups(level: Level, kind: str, message: str, groups: Sequence[Duplicates]) -> Finding:
    lines = []
    for group in groups:
        same = " (the same file)" if group.are_identical_files else ""
        lines.append(" = ".join(f"{look.path} [{look.split}, {look.label}]" for look in group.looks) + same)
    return Finding(level, kind, message, tuple(lines), tuple(look.path for group in groups for look in group.looks))


def _of_pairs(level: Level, kind: str, message: str, pairs: Sequence[Pair]) -> Finding:
    lines = tuple(
        f"{pair.likeness:.1%} alike, {pair.certainty}{', mirrored' * pair.is_mirrored}: "
        + " ~ ".join(f"{look.path} [{look.split}, {look.label}]" for look in (pair.one, pair.other))
        for pair in pairs
    )
    files = tuple(dict.fromkeys(look.path for pair in pairs for look in (pair.one, pair.other)))
    return Finding(level, kind, message, lines, files, pairs=tuple(pairs))


def _certainties(pairs: Sequence[Pair]) -> str:
    sure = sum(pair.is_sure for pair in pairs)
    counts = {"almost surely": sure, "probably": len(pairs) - sure}
    return ", ".join(words if count == len(pairs) else f"{count:,} {words}" for words, count in counts.items() if count)


def _of_looks(level: Level, kind: str, message: str, looks: Sequence[Look]) -> Finding:
    return Finding(level, kind, message, tuple(f"{look.path}: {look.width}x{look.height}" for look in looks), _paths(looks))


def _in_split(facts: Facts, labels: Iterable[str], split: str) -> tuple[str, ...]:
    return tuple(f"{label}: {_say_count(facts.pictures[label, split], 'picture')} in {split}" for label in labels)


def _paths(looks: Iterable[Look]) -> tuple[str, ...]:
    return tuple(look.path for look in looks)


def _classes(labels: Sequence[str]) -> str:
    named = ", ".join(map(repr, labels[:3]))
    return f"{_count(labels, 'class', 'classes')} ({named}{' …' if len(labels) > 3 else ''})"


def _count(things: Sequence[object], one: str, many: str | None = None) -> str:
    return _say_count(len(things), one, many)


def _say_count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
