"""A survey as a page: one HTML file without script and without network."""

from pathlib import Path

from provenet.errors import printable
from provenet.surveying.found import HEADINGS, Survey, cells, conclude, draw_chart

TEMPLATE = Path(__file__).with_name("survey.html.jinja")


def render_page(survey: Survey) -> str:
    """The whole of the page. Names come from strangers: each is escaped, and freed of control characters."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        survey=survey,
        headings=HEADINGS,
        rows=[(cells(each), number == 0, survey.is_as_good(each)) for number, each in enumerate(survey.backbones)],
        chart=draw_chart(survey) if survey.backbones else None,
        conclusion=conclude(survey, "in colour"),
    )
