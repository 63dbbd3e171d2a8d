"""Write docs/networks.md from the papers' data: `make docs`. A test compares the page with them."""

from pathlib import Path

from provenet.papers.listing import show_count
from provenet.papers.paper import Paper, read_papers

PAGE = Path(__file__).parent.parent / "docs/networks.md"
SOURCES = {"paper": "the paper's", "world": "the world's", "notes": "of courses"}

HEAD = """# The networks, paper by paper

Written from the data in `src/provenet/papers/` (`make docs`), with which `provenet verify` compares the networks as they are built. The
published network has the plain name; a relative says what differs. "Errors" are the papers' own, in percent, on their data; we
have trained none of these on ImageNet. Multiply-adds are those of convolutions and matrix products, for one picture.
"""

FOOT = """
## What Inception's reductions save

One module on the input that Table 1 gives it, with its 1x1 reductions and without (figure 2a), in weights:

| module | with | without | times |
|---|---|---|---|
"""


def write_page() -> str:
    """The whole page."""
    parts = [HEAD, *(_write_paper(paper) for paper in read_papers().values()), FOOT.rstrip("\n"), _write_savings()]
    return "\n".join(parts) + "\n"


def _write_paper(paper: Paper) -> str:
    lines = [f"## {', '.join(name.split()[-1] for name in paper.authors)} {paper.year}", ""]
    where = f"[{paper.title}]({paper.address})" if paper.address else paper.title
    lines.append(f"{where}, {paper.venue}.")
    if paper.contest:
        contest = paper.contest
        place = {1: "first", 2: "second", 3: "third"}[contest["place"]]
        note = f" ({contest['note']})" if contest.get("note") else ""
        lines.append(f"{contest['name']} {contest['year']}: {place}, top-5 error {contest['top5_error_percent']:g} %{note}.")
    lines += ["", "| network | whose | parameters | multiply-adds | input | what it is |", "|---|---|---|---|---|---|"]
    for network in paper.networks.values():
        size = "x".join(map(str, network.input))
        numbers = f"{network.totals['parameters']:,} | {show_count(network.totals['macs'])} | {size}"
        lines.append(f"| `{network.name}` | {SOURCES[network.source]} | {numbers} | {network.about} |")
    lines += ["", "| network | views | networks averaged | top-1 error | top-5 error | on |", "|---|---|---|---|---|---|"]
    for entry in paper.accuracies:
        errors = " | ".join(f"{entry[key]:g}" if key in entry else "" for key in ("top1_error_percent", "top5_error_percent"))
        lines.append(f"| `{entry['network']}` | {entry['views']} | {entry['networks']} | {errors} | {entry['data']} |")
    if paper.misprints:
        lines += ["", "Where it contradicts itself or arithmetic:", ""]
        for misprint in paper.misprints:
            reading = f"Read as {misprint.reading}."
            lines.append(f"* {misprint.where}: printed {misprint.printed}. {misprint.arithmetic}. {reading}")
    return "\n".join(lines) + "\n"


def _write_savings() -> str:
    rows = read_papers()["googlenet"].networks["googlenet_naive"].rows
    pairs = {name: (row["reduced_weights"], row["naive_weights_on_paper_input"]) for name, row in rows.items() if "reduced_weights" in row}
    pairs["all nine"] = (sum(reduced for reduced, _ in pairs.values()), sum(naive for _, naive in pairs.values()))
    return "\n".join(
        f"| {name.removeprefix('inception_')} | {reduced:,} | {naive:,} | {naive / reduced:.2f} |"
        for name, (reduced, naive) in pairs.items()
    )


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"{PAGE.relative_to(Path.cwd())} written")
