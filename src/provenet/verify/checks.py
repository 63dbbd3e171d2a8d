"""What a verification says: one check for each number, and the misprints of the papers beside them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from provenet.papers.paper import Misprint


@dataclass(frozen=True)
class Check:
    """One number of a paper and the network's."""

    what: str
    expected: str
    found: str
    ok: bool


@dataclass(frozen=True)
class NetworkVerification:
    """Every check of one network."""

    name: str
    paper: str
    checks: tuple[Check, ...]
    misprints: tuple[Misprint, ...]

    @property
    def failures(self) -> list[Check]:
        """What disagrees."""
        return [check for check in self.checks if not check.ok]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        misprints = [{key: value for key, value in asdict(misprint).items() if key != "networks"} for misprint in self.misprints]
        return {"name": self.name, "paper": self.paper, "checks": [asdict(check) for check in self.checks], "misprints": misprints}

    def table(self) -> str:
        """Every check on a line of its own."""
        widths = [max(len(getattr(check, column)) for check in self.checks) for column in ("what", "expected", "found")]
        widths = [min(width, limit) for width, limit in zip(widths, (56, 40, 40), strict=True)]
        header = f"{'what':{widths[0]}}  {'expected':{widths[1]}}  {'found':{widths[2]}}  verdict"
        lines = [
            f"{check.what:{widths[0]}}  {_short(check.expected, widths[1])}  {_short(check.found, widths[2])}  {'ok' if check.ok else 'NO'}"
            for check in self.checks
        ]
        return "\n".join([header, *lines])


@dataclass(frozen=True)
class Verification:
    """Networks against their papers."""

    networks: tuple[NetworkVerification, ...]

    @property
    def ok(self) -> bool:
        """Whether every check of every network agrees."""
        return not any(network.failures for network in self.networks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: {"ok", "networks": [{"name", "paper", "checks": [{"what", "expected", "found", "ok"}], "misprints"}]}."""
        return {"ok": self.ok, "networks": [network.to_dict() for network in self.networks]}

    def __str__(self) -> str:
        """A line a network; for a single one every check; then what disagrees, and the papers' misprints with their arithmetic."""
        lines = [self.networks[0].table()] if len(self.networks) == 1 else []
        for network in self.networks:
            bad, count = len(network.failures), len(network.checks)
            verdict = f"{count:>5,} checks, all agree" if not bad else f"{count:>5,} checks, {bad} DISAGREE"
            lines.append(f"{network.name:20} {verdict}" + (f"  ({_count(network.misprints)} below)" if network.misprints else ""))
        for network in self.networks:
            lines += [f"{network.name}: {check.what}: expected {check.expected}, found {check.found}" for check in network.failures]
        misprints = dict.fromkeys((network.paper, misprint) for network in self.networks for misprint in network.misprints)
        if misprints:
            lines += ["", "Where the papers contradict themselves or arithmetic, and how it is read here:"]
            lines += [
                f"* {paper}, {misprint.where}: printed {misprint.printed}; {misprint.arithmetic}; read as {misprint.reading}"
                for paper, misprint in misprints
            ]
        total, bad = sum(len(network.checks) for network in self.networks), sum(len(network.failures) for network in self.networks)
        lines += ["", f"{len(self.networks)} verified, {total:,} checks: " + (f"{bad} disagree" if bad else "all agree")]
        return "\n".join(lines)


def _count(misprints: Sequence[Misprint]) -> str:
    return f"{len(misprints)} misprint{'s' if len(misprints) > 1 else ''} of its paper"


def _short(text: str, width: int) -> str:
    return f"{text if len(text) <= width else text[: width - 1] + '…':{width}}"
