"""The result of looking at a set of pictures before anybody trains on it: facts, findings, and whether training would work."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenet.checkup.facts import Facts
from provenet.checkup.findings import Finding
from provenet.checkup.quarantine import Quarantine
from provenet.errors import show_path

PAGE_NAME = "check.html"


@dataclass(frozen=True)
class Checkup:
    """What `provenet check` found. `str()` of it is the text that people read, `to_dict()` names every file."""

    facts: Facts = field(repr=False)
    findings: Sequence[Finding]
    train_words: Sequence[str] = field(repr=False)
    """The words of the command that would train on these pictures."""
    folder: Path
    """Where the contact sheets and the page are."""
    sheets: dict[str, str] = field(repr=False, default_factory=dict)
    """Class -> the name of its contact sheet in that folder."""
    thumbnails: dict[tuple[str, str], bytes] = field(repr=False, default_factory=dict)
    """(split, path) -> a small JPEG, for pictures that people should compare."""
    data: Path | None = field(repr=False, default=None)
    """The folder of the pictures, where each has a file of its own in it."""
    quarantine: Quarantine | None = field(repr=False, default=None)
    """What became of the unreadable files, where they were to be moved."""

    def __str__(self) -> str:
        from provenet.checkup.text import describe

        return describe(self)

    @property
    def page(self) -> Path:
        """The page that shows all of it."""
        return self.folder / PAGE_NAME

    @property
    def problems(self) -> list[Finding]:
        """The findings that spoil training, or what it tells."""
        return [finding for finding in self.findings if finding.level == "problem"]

    @property
    def can_train(self) -> bool:
        """Whether `provenet train` would take these pictures as they are."""
        return all(finding.stops == "never" for finding in self.findings)

    @property
    def can_train_without_broken(self) -> bool:
        """Whether it would with --skip-broken."""
        return all(finding.stops != "always" for finding in self.findings)

    @property
    def command(self) -> str:
        """What to type to train, with --skip-broken where it takes that."""
        if self.quarantine and self.quarantine.moved:
            return shlex.join(["provenet", "check", *self.train_words])
        words = ["provenet", "train", *self.train_words]
        if not self.can_train and self.can_train_without_broken:
            words.append("--skip-broken")
        return shlex.join(words)

    @property
    def quarantine_command(self) -> str | None:
        """What to type to move the unreadable files out of the data, where there are any and that can be done."""
        if self.data is None or self.quarantine or not self.facts.broken():
            return None
        aside = self.data.parent / f"{self.data.name}-unreadable"
        return shlex.join(["provenet", "check", *self.train_words, "--quarantine", show_path(aside)])

    @property
    def verdict(self) -> str:
        """One sentence: whether one can train, and with which command."""
        return f"{self.verdict_words}: {self.command}"

    @property
    def verdict_words(self) -> str:
        """The same without the command that follows."""
        if self.quarantine and self.quarantine.moved:
            return "Unreadable files were moved; look again at what is left"
        stopping = sum(finding.stops == "always" for finding in self.findings)
        others = sum(finding.stops == "never" for finding in self.problems)
        if stopping:
            which = _problems(stopping) if stopping == len(self.problems) else f"{stopping:,} of {_problems(len(self.problems))}"
            return f"Training would stop at {which} found; when mended"
        if not self.can_train:
            rest = f" ({_problems(others, 'other ')} found would spoil what it tells)" if others else ""
            return f"Training would stop at the unreadable files; replace or remove them, or go on without{rest}"
        if others:
            return f"Training would run, but {_problems(others)} found would spoil what it tells; when mended"
        return "Ready to train"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every file by name, and everything that was found."""
        facts = self.facts
        return {
            "name": facts.name,
            "verdict": self.verdict,
            "can_train": self.can_train,
            "can_train_with_skip_broken": self.can_train_without_broken,
            "command": self.command,
            "page": show_path(self.page),
            "held_out_from": facts.held_out_from,
            "splits": {split: facts.of_split(split) for split in facts.splits},
            "classes": [self._class_to_dict(label) for label in facts.classes],
            "sizes": facts.sizes(),
            "histograms": {name: histogram.to_dict() for name, histogram in facts.histograms.items()},
            "channels": facts.channels.to_dict() if facts.channels.num_pictures else None,
            "decoding": {"seconds": facts.decode_seconds, "threads": facts.num_threads} if facts.decode_seconds is not None else None,
            "findings": [finding.to_dict() for finding in self.findings],
            "unreadable": [
                {"path": look.path, "split": look.split, "class": look.label, "kind": look.kind, "message": look.message}
                for look in facts.broken()
            ],
            "duplicates": [group.to_dict() for group in facts.duplicates],
            "near_duplicates": facts.alike.to_dict(),
            "quarantine": self.quarantine.to_dict() if self.quarantine else None,
            "ignored": [{"path": item.path, "reason": str(item.reason)} for item in facts.ignored],
            "files": [
                {
                    "path": look.path,
                    "split": look.split,
                    "class": look.label,
                    "width": look.width,
                    "height": look.height,
                    "bytes": look.size_bytes,
                    "problem": look.kind,
                }
                for look in facts.looks
            ],
        }

    def _class_to_dict(self, label: str) -> dict[str, Any]:
        facts = self.facts
        return {
            "name": label,
            "pictures": {split: facts.pictures[label, split] for split in facts.splits},
            "unreadable": {split: facts.unreadable[label, split] for split in facts.splits},
            "sheet": show_path(self.folder / self.sheets[label]) if label in self.sheets else None,
        }


def _problems(number: int, other: str = "") -> str:
    return f"the {other}problem" if number == 1 else f"the {number:,} {other}problems"
