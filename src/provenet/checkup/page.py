"""A checkup as a page: one HTML file beside its contact sheets, without script and without network."""

from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

from provenet.checkup.checkup import Checkup
from provenet.checkup.findings import LEVELS
from provenet.checkup.text import by_reason, describe_pixels, describe_sizes, table_rows
from provenet.page_template import fill_template

FEW_DETAILS = 5
MOST_DETAILS = 200
MOST_PAIRS = 12
"""Pairs of each finding that are shown as pictures."""
TEMPLATE = Path(__file__).with_name("checkup.html.jinja")


def render_page(checkup: Checkup) -> str:
    """The whole of the page."""
    facts = checkup.facts
    head, rows = table_rows(facts)
    return fill_template(
        TEMPLATE,
        checkup=checkup,
        facts=facts,
        state="ready" if not checkup.problems else "stop" if not checkup.can_train else "doubt",
        tally=_tally(checkup),
        sizes=describe_sizes(facts),
        pixels=list(describe_pixels(facts)),
        histograms=[histogram for histogram in facts.histograms.values() if histogram.shown],
        picture_of=lambda look: _as_address(checkup.thumbnails.get((look.split, look.path))),
        most_pairs=MOST_PAIRS,
        quarantine=list(checkup.quarantine.lines()) if checkup.quarantine else [],
        head=head,
        rows=rows,
        ignored=by_reason(facts.ignored),
        sheets=[(label, quote(name), facts.of_class(label)) for label, name in checkup.sheets.items()],
        few=FEW_DETAILS,
        most=MOST_DETAILS,
    )


def _as_address(thumbnail: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{b64encode(thumbnail).decode()}" if thumbnail else None


def _tally(checkup: Checkup) -> str:
    counts = {level: sum(finding.level == level for finding in checkup.findings) for level in LEVELS}
    return ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count)
