"""The page in a real browser: charts are drawn, nothing is complained of, nothing leaves the page, and every button works."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from made import HOSTILE, evaluate_probabilities, make_evaluation, make_events, make_facts, make_gallery, make_random_rows

from provenet.report.compared import Compared, Entry
from provenet.report.facts import EvaluatedPart
from provenet.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on the path", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra `dev`")

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WATCH_THE_POLICY = "window.broken = []; addEventListener('securitypolicyviolation', (event) => window.broken.push(event.violatedDirective))"

# How many pixels of a canvas are nearly of each named colour of the page, and how many colours it has at all.
COLOURS = """(canvas) => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), all = new Set(), near = {};
  const named = Object.fromEntries(["train", "val", "accent", "warm", "line"].map((name) => {
    const digits = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim().slice(1);
    return [name, [0, 2, 4].map((k) => parseInt(digits.slice(k, k + 2), 16))];
  }));
  for (let k = 0; k < data.length; k += 4) {
    all.add(data[k] << 16 | data[k + 1] << 8 | data[k + 2]);
    for (const [name, rgb] of Object.entries(named))
      if (data[k + 3] > 200 && rgb.every((value, c) => Math.abs(value - data[k + c]) < 16)) near[name] = (near[name] || 0) + 1;
  }
  return {...near, colours: all.size};
}"""
READ_BACK = "Canvas2D: Multiple readback operations"  # of the line above, and not of the page


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """Reports of several kinds, each in a file."""
    folder = tmp_path_factory.mktemp("pages")
    val = make_evaluation(("cat", "dog", "fox"), [(0, 0, 0.9), (1, 1, 0.8), (2, 0, 0.7)])
    facts = make_facts(events=[*make_events()[:-4], {"event": "resume", "step": 200}, *make_events()[6:]])
    facts = replace(facts, parts=[*facts.parts, EvaluatedPart("val", val, make_gallery(val))])
    write_report(folder / "run.html", facts)
    classes = tuple(f"a class with a rather long name {k}" for k in range(120))
    many = make_facts(classes, [*make_random_rows(120, 2_000), *[(7, 9, 0.9)] * 60])
    write_report(folder / "many.html", many)
    write_report(folder / "hostile.html", make_facts((HOSTILE, "-->", "x" * 300), title=HOSTILE, settings={HOSTILE: {"a": HOSTILE * 9}}))
    write_report(folder / "begun.html", make_facts(state="running", parts=[], events=[], settings={}, data={}, machine={}, versions={}))
    write_report(folder / "running.html", make_facts(state="running", events=make_events(num_epochs=2)))
    write_report(folder / "two.html", make_facts(("no", "yes"), [(0, 0, 0.9), (1, 0, 0.8), (1, 1, 0.7)], state="evaluated", events=[]))
    write_report(folder / "views.html", make_facts(state="evaluated", events=[], views="ten", compared=COMPARED))
    mixed = evaluate_probabilities(("ant", "bee", "cat"), TRUE * 20, PROBABILITIES * 20)
    write_report(folder / "mixed.html", make_facts(("ant", "bee", "cat"), parts=[EvaluatedPart("test", mixed, make_gallery(mixed))]))
    write_report(folder / "single.html", make_facts(("no", "yes"), [(0, 1, 0.9)], gone=(), state="evaluated", events=[]))
    return folder


KINDS = ("run", "many", "hostile", "begun", "running", "two", "views", "mixed", "single")
TRUE = [0, 0, 0, 1, 1, 2, 2]
PROBABILITIES = [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3], [0.3, 0.65, 0.05], [0.55, 0.25, 0.2], [0.1, 0.8, 0.1], [0.48, 0.47, 0.05]]
PROBABILITIES += [[0.05, 0.05, 0.9]]
COMPARED = Compared(
    data_name="toys",
    num_images=1_000,
    num_classes=10,
    entries=tuple(
        Entry(network="n", views=views, top1=top1, top5=1, interval=(top1 - 0.02, top1 + 0.02), passes=1, milliseconds=cost, chance=chance)
        for views, top1, cost, chance in (("ten", 0.8, 10, None), ("center", 0.7, 1, 0.01), ("dense:256,384", 0.75, 5, 0.2))
    ),
)


@contextmanager
def opened(browser, path, *, theme="light", language="en-US", viewport=WIDE):
    """The page in a fresh browser profile. Afterwards nothing may have been complained of, asked for or forbidden."""
    context = browser.new_context(color_scheme=theme, locale=language, viewport=viewport)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: None if message.text.startswith(READ_BACK) else complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script(WATCH_THE_POLICY)
    page.goto(path.as_uri())
    try:
        yield page
        assert complaints == []
        assert page.evaluate("window.broken") == []
        assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}
    finally:
        context.close()


def shown(page, english, chinese):
    """Which of two texts can be seen."""
    return page.get_by_text(english, exact=True).first.is_visible(), page.get_by_text(chinese, exact=True).first.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_charts_are_drawn(browser, pages, theme):
    with opened(browser, pages / "run.html", theme=theme) as page:
        assert page.locator("html").get_attribute("data-theme") == theme
        canvases = page.locator(".plot canvas").all()
        assert len(canvases) == 3
        for canvas, lines in zip(canvases, (("train", "val"), ("train", "val"), ("accent",)), strict=True):
            seen = canvas.evaluate(COLOURS)
            assert seen["colours"] > 20  # lines, grid and words, with smooth edges
            assert all(seen.get(line, 0) > 100 for line in lines), seen
        assert page.locator(".reliability svg .bin").first.is_visible()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_opens_and_nothing_is_too_wide_for_a_phone(browser, pages, kind):
    with opened(browser, pages / f"{kind}.html", viewport=PHONE, theme="dark") as page:
        for language in ("en", "zh-CN"):
            assert page.locator("html").get_attribute("lang") == language
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            assert page.evaluate(TOO_WIDE) == []
            levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].filter((h) => h.offsetParent).map((h) => +h.tagName[1])")
            assert levels[0] == 1
            assert levels.count(1) == 1
            assert all(after <= before + 1 for before, after in pairwise(levels))
            page.click("#language")
        assert page.title() != "broken"


TOO_WIDE = """[...document.querySelectorAll("main *, header *, footer *")].filter((node) =>
  !node.closest(".scroll, .plot, .skip") && node.getClientRects().length && node.getBoundingClientRect().right > innerWidth + 1
).map((node) => node.outerHTML.slice(0, 80))"""


def test_the_theme_button_overrides_and_is_remembered(browser, pages):
    with opened(browser, pages / "run.html", theme="dark") as page:
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.locator(".plot canvas").first.evaluate(COLOURS)["train"] > 100
        page.click("#theme")
        assert page.locator("html").get_attribute("data-theme") == "light"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        page.wait_for_timeout(50)
        assert page.locator(".plot canvas").first.evaluate(COLOURS)["train"] > 100  # drawn again: it is another orange in the light
        page.reload()
        assert page.locator("html").get_attribute("data-theme") == "light"
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_system_is_followed_until_the_button_is_used(browser, pages):
    with opened(browser, pages / "run.html", theme="light") as page:
        page.emulate_media(color_scheme="dark")
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.click("#theme")
        page.emulate_media(color_scheme="light")
        page.emulate_media(color_scheme="dark")
        assert page.locator("html").get_attribute("data-theme") == "light"


def test_the_language_follows_the_browser_and_the_button(browser, pages):
    with opened(browser, pages / "run.html", language="zh-CN") as page:
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        assert shown(page, "Look-alike classes", "相似类别") == (False, True)
        assert "训练" in page.locator(".values").first.text_content()
        page.click("#language")
        assert page.locator("html").get_attribute("lang") == "en"
        assert shown(page, "Look-alike classes", "相似类别") == (True, False)
        assert "training" in page.locator(".values").first.text_content()
        assert page.locator("#theme").get_attribute("aria-label") == "Light or dark"
        page.reload()
        assert page.locator("html").get_attribute("lang") == "en"


FORBID_STORAGE = """for (const kind of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, kind, {get() { throw new Error("forbidden"); }})"""


def test_it_works_where_nothing_may_be_remembered(browser, pages):
    with opened(browser, pages / "run.html") as page:
        page.add_init_script(FORBID_STORAGE)
        page.reload()
        assert page.evaluate("(() => { try { localStorage; return false; } catch { return true; } })()")
        page.click("#theme")
        page.click("#language")
        assert (page.locator("html").get_attribute("data-theme"), page.locator("html").get_attribute("lang")) == ("dark", "zh-CN")
        assert page.locator(".plot canvas").count() == 3


def test_sorting(browser, pages):
    def column(number):
        return page.locator(".panel:not([hidden]) table.sortable tbody tr").evaluate_all(
            f"(rows) => rows.map((row) => row.cells[{number}].textContent.trim())"
        )

    with opened(browser, pages / "run.html") as page:
        head = page.locator(".panel:not([hidden]) table.sortable thead button")
        assert column(0) == ["fox", "dog", "cat"]
        head.nth(0).click()
        assert column(0) == ["cat", "dog", "fox"]
        head.nth(0).click()
        assert column(0) == ["fox", "dog", "cat"]
        head.nth(2).focus()
        page.keyboard.press("Enter")
        assert column(3) == ["33.3%", "66.7%", "–"]  # what is not defined comes last
        page.keyboard.press("Enter")
        assert column(3) == ["66.7%", "33.3%", "–"]
        assert page.locator("th[aria-sort]:visible").count() == 1
        head.nth(1).click()
        assert column(2) == ["3", "2", "1"]


def test_the_parts_are_switched(browser, pages):
    with opened(browser, pages / "run.html") as page:
        assert page.locator("#confusion-test").is_visible()
        assert not page.locator("#confusion-val").is_visible()
        page.get_by_role("button", name="Validation").click()
        assert page.locator("#confusion-val").is_visible()
        assert not page.locator("#confusion-test").is_visible()
        assert page.locator(".contents a[data-section=classes]").get_attribute("href") == "#classes-val"
        page.emulate_media(media="print")
        assert page.locator("#confusion-test").is_visible()


def test_the_order_of_the_mistakes_is_switched(browser, pages):
    """Of 20 wrong pictures of each of four kinds the 24 worst are of one kind and four of another; the surest are others."""

    def confidences():
        return [float(text[:-1]) for text in page.locator("#mistakes-test li:visible .taken small").all_text_contents()]

    with opened(browser, pages / "mixed.html") as page:
        assert confidences() == [48.0] * 20 + [60.0] * 4
        assert shown(page, "Worst", "最严重") == (True, False)
        assert not page.locator("[data-of-order=surest]").is_visible()
        page.get_by_role("button", name="Most confident").focus()
        page.keyboard.press("Enter")
        assert confidences() == [65.0] * 20 + [60.0] * 4
        assert page.locator("[data-of-order=surest]").is_visible()
        assert "4 of these 24 are among the worst" in page.locator("[data-of-order=surest]").text_content()
        assert page.get_by_role("button", name="Most confident").get_attribute("aria-pressed") == "true"
        page.reload()
        assert confidences() == [65.0] * 20 + [60.0] * 4  # a page that reads itself again stays as it was
        page.get_by_role("button", name="Worst").click()
        assert confidences() == [48.0] * 20 + [60.0] * 4


IS_DRAWN = """async (node) => {
  const stored = document.querySelector(node.querySelector("use").getAttribute("href"));
  const picture = new Image();
  picture.src = stored.getAttribute("href");
  await picture.decode();
  const box = node.getBoundingClientRect();
  return [picture.naturalWidth, Math.round(box.width) === Math.round(box.height) && box.width > 20];
}"""


@pytest.mark.parametrize("viewport", [WIDE, PHONE])
def test_pictures_are_seen_wherever_they_are_shown(browser, pages, viewport):
    with opened(browser, pages / "mixed.html", viewport=viewport) as page:
        for place, count in (("#mistakes-test li:visible", 24), ("#look-alikes-test .thumb", 21), ("#classes-test .thumb", 9)):
            found = page.locator(f"{place} svg.picture")
            assert found.count() == count, place
            for node in found.all()[:4]:
                assert node.evaluate(IS_DRAWN) == [28, True]
                assert node.evaluate(SEEN) > 50, place


SEEN = """(node) => { // how far what is at its middle is this node
  node.scrollIntoView({block: "center", behavior: "instant"});
  const box = node.getBoundingClientRect(), at = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  return at && node.contains(at) || at === node.querySelector("use") ? 100 : 0;
}"""


def test_without_scripts_every_picture_is_there(browser, pages):
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto((pages / "mixed.html").as_uri())
    assert page.locator("#mistakes-test li:visible").count() == 44
    assert not page.locator(".orders").is_visible()
    for order in ("worst", "surest"):
        assert page.locator(f"[data-of-order={order}]").is_visible()
    assert page.locator("#look-alikes-test .thumb:visible").count() == 21
    label = page.locator("#classes-test .thumb").first.get_attribute("aria-label")
    assert label.startswith("folder/")
    context.close()


def test_the_labels_of_pictures_follow_the_language(browser, pages):
    with opened(browser, pages / "mixed.html", language="zh-CN") as page:
        thumb = page.locator("#look-alikes-test .thumb.wrong").first
        assert thumb.get_attribute("aria-label") == "folder/ant.png：被认成 bee，65.0%"
        assert thumb.get_attribute("title") == thumb.get_attribute("aria-label")
        page.click("#language")
        assert thumb.get_attribute("aria-label") == "folder/ant.png: taken for bee, 65.0%"


def test_views_are_compared_in_a_chart(browser, pages):
    with opened(browser, pages / "views.html", theme="dark") as page:
        marks = {mark.text_content().split()[-1]: mark.locator("circle").bounding_box() for mark in page.locator("#views g.mark").all()}
        assert list(marks) == ["ten", "center", "dense:256,384"]
        assert marks["center"]["x"] < marks["dense:256,384"]["x"] < marks["ten"]["x"]  # cheaper is further left
        assert marks["center"]["y"] < marks["dense:256,384"]["y"] < marks["ten"]["y"]  # and lower is better
        assert page.locator(".contents a[href='#views']").is_visible()


def test_both_diagrams_tell_their_bins(browser, pages):
    with opened(browser, pages / "mixed.html") as page:
        figures = page.locator("#calibration-test .reliability")
        assert figures.locator("h3").all_text_contents() == ["Before校准前", "After: divided by a temperature校准后：除以温度"]
        said = []
        for figure in figures.all():
            figure.locator(".bin").last.focus()
            said.append(figure.locator(".readout").text_content())
        assert said[0].endswith("claims 90.0%, right in 100.0%")
        assert said[1] != said[0]
        assert "claims" in said[1]


def test_values_under_the_pointer_and_by_keyboard(browser, pages):
    with opened(browser, pages / "run.html") as page:
        plot, values = page.locator("[data-chart=accuracy] .plot"), page.locator("[data-chart=accuracy] .values")
        assert "epoch 4" in values.text_content()
        plot.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert values.text_content() == "epoch 2training 75.00%validation 65.00%"
        over = plot.locator(".u-over").bounding_box()
        page.mouse.move(over["x"] + over["width"] * 0.74, over["y"] + 50)
        assert "epoch 3" in values.text_content()
        cells = page.locator("#confusion-test table.matrix tbody td")
        readout = page.locator("#confusion-test .readout")
        cells.nth(1).hover()
        assert readout.text_content() == "cat taken for dog: 1 pictures, 33.3% of the class"
        cells.nth(0).focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        assert readout.text_content() == "dog recognised: 1 pictures, 50.0% of the class"
        page.locator("#calibration-test .bin").last.focus()
        assert "claims 95.0%, right in 0.0%" in page.locator("#calibration-test .reliability .readout").text_content()


def test_zooming(browser, pages):
    with opened(browser, pages / "run.html") as page:
        chart = page.locator("[data-chart=loss]")

        def drawn():
            page.mouse.move(5, 5)
            page.wait_for_timeout(60)
            return chart.locator("canvas").evaluate("(canvas) => canvas.toDataURL()")

        chart.scroll_into_view_if_needed()
        whole = drawn()
        box = chart.locator(".u-over").bounding_box()
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40, steps=4)
        page.mouse.up()
        assert drawn() != whole
        page.locator("[data-zoom='0']").click()
        assert drawn() == whole
        page.locator("[data-zoom='0.5']").click()
        assert drawn() != whole
        chart.locator(".plot").focus()
        page.keyboard.press("Escape")
        assert drawn() == whole


def test_the_map_of_many_classes(browser, pages):
    with opened(browser, pages / "many.html") as page:
        canvas = page.locator("canvas[data-map=test]")
        seen = canvas.evaluate(COLOURS)
        assert seen["colours"] > 20  # as many as there are frequencies
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 9.5 / 120, box["y"] + box["height"] * 7.5 / 120)
        assert "name 7 taken for a class with a rather long name 9: 6" in page.locator("figure.map .readout").text_content()


def test_a_running_report_reads_itself_again_and_stays_where_it_was(browser, pages, tmp_path):
    path = tmp_path / "running.html"
    path.write_text((pages / "running.html").read_text(encoding="utf-8"), encoding="utf-8")
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.clock.install()
    page.goto(path.as_uri())
    assert "no evaluation" not in page.content().lower()
    page.evaluate("scrollTo({top: 700, behavior: 'instant'})")
    page.locator("#curves summary").evaluate("(summary) => summary.click()")
    write_report(path, make_facts(state="running", title="written again"))
    page.clock.run_for(24_000)
    assert page.locator("h1").text_content() == "lenet5 on toys"
    page.clock.run_for(7_000)
    page.get_by_role("heading", name="written again").wait_for()
    assert page.evaluate("scrollY") == 700
    assert page.locator("#curves details").evaluate("(fold) => fold.open")
    write_report(path, make_facts(state="ended"))
    page.clock.run_for(31_000)
    page.get_by_text("training ended", exact=True).wait_for()
    context.close()


def test_print_is_light_and_whole(browser, pages):
    with opened(browser, pages / "run.html", theme="dark") as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("html").get_attribute("data-theme") == "light"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("html").get_attribute("data-theme") == "dark"
        assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("kind", ["run", "views", "mixed"])
def test_text_can_be_read(browser, pages, kind):
    """WCAG AA: 4.5 to 1 between each text and what is behind it, in both themes."""
    with opened(browser, pages / f"{kind}.html") as page:
        for theme in ("light", "dark"):
            assert page.locator("html").get_attribute("data-theme") == theme
            checked, weak = page.evaluate(CONTRAST)
            assert checked > 100
            assert weak == []
            page.click("#theme")


CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const resolve = (colour, under) => {
    paint.fillStyle = `rgb(${under.join(",")})`; paint.fillRect(0, 0, 1, 1);
    paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (node) => node ? resolve(getComputedStyle(node).backgroundColor, behind(node.parentElement)) : [255, 255, 255];
  const weak = [];
  let checked = 0;
  for (const node of document.querySelectorAll("body *:not(script):not(style):not(svg *)")) {
    const words = [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.textContent.trim()).join("");
    if (!words || words === "·" || !node.getClientRects().length) continue;
    const paper = behind(node), ink = resolve(getComputedStyle(node).color, paper);
    const [a, b] = [light(paper), light(ink)].sort((x, y) => y - x);
    checked++;
    if ((a + 0.05) / (b + 0.05) < 4.5) weak.push([words.slice(0, 40), ink, paper]);
  }
  return [checked, weak];
}"""
