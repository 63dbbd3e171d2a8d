"""A survey as a page: one HTML file without script and without network."""

from pathlib import Path

from provenet.page_template import fill_template
from provenet.surveying.found import HEADINGS, Survey, cells, conclude, draw_chart

TEMPLATE = Path(__file__).with_name("survey.html.jinja")


def render_page(survey: Survey) -> str:
    """The whole of the page."""
    return fill_template(
        TEMPLATE,
        survey=survey,
        headings=HEADINGS,
        rows=[(cells(each), number == 0, survey.is_as_good(each)) for number, each in enumerate(survey.backbones)],
        chart=draw_chart(survey) if survey.backbones else None,
        conclusion=conclude(survey, "in colour"),
    )
