"""Pictures and pages of networks in a real browser: nothing overlaps, everything answers, nothing leaves the page."""

import re
import shutil

import pytest

from provenet import draw
from provenet.inspection.summary import summarize
from provenet.inspection.tables import show_bytes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on the path", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra `dev`")

FAMILIES = ["lenet5", "alexnet", "zfnet", "vgg16_bn", "nin_cifar", "googlenet", "googlenet_naive", "resnet50", "resnet34_a", "plain34"]

# Pairs of texts whose boxes lie over one another by more than a pixel, texts outside of the picture, and texts wider than their strip.
MEASURE = """() => {
  const texts = [...document.querySelectorAll("svg text")].filter((text) => text.getClientRects().length);
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const shared = (a, b, from, to) => Math.min(a[to], b[to]) - Math.max(a[from], b[from]);
  const over = (a, b) => shared(a, b, "left", "right") > 1 && shared(a, b, "top", "bottom") > 3;
  const overlapped = ([name, box], k) => boxes.slice(k + 1).filter(([, other]) => over(box, other)).map(([other]) => [name, other]);
  const pairs = boxes.flatMap(overlapped);
  const wide = texts.filter((text) => {
    const strip = text.previousElementSibling;
    return strip?.tagName === "rect" && text.getAttribute("text-anchor") === "middle"
      && text.getBoundingClientRect().width > strip.getBoundingClientRect().width - 4;
  }).map((text) => text.textContent);
  const whole = document.querySelector("svg").getBoundingClientRect();
  const outside = boxes.filter(([, box]) => box.right > innerWidth && box.right > whole.right || box.left < 0).map(([name]) => name);
  return {count: boxes.length, pairs, wide, outside, font: document.fonts.check("12px Inter")};
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a network's page; ends with a look at what the browser complained of and asked for."""
    complaints, asked = [], []

    def open_page(name: str, *, theme="light", language="en-US", width=1440):
        path = tmp_path / f"{name}.html"
        draw(name).save(path)
        context = browser.new_context(color_scheme=theme, locale=language, viewport={"width": width, "height": 900})
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    assert not complaints
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_text_overlaps_another(browser, name):
    page = browser.new_page()
    for unfold in (False, True):
        page.set_content(draw(name, unfold=unfold).svg)
        page.evaluate("document.fonts.ready")
        found = page.evaluate(MEASURE)
        assert found["count"] > 10
        assert found["font"]
        assert (found["pairs"], found["wide"], found["outside"]) == ([], [], [])
    page.close()


def test_the_measure_sees_an_overlap(browser):
    page = browser.new_page()
    page.set_content(re.sub(r"(<text[^>]*>)ReLU", r"\1ReLU ReLU ReLU ReLU ReLU ReLU", draw("alexnet").svg))
    assert page.evaluate(MEASURE)["wide"]
    svg = draw("alexnet").svg
    label = re.search(r"<text[^>]*>55×55×96</text>", svg)[0]
    page.set_content(svg.replace(label, label + label.replace("55×55×96", "27×27×96")))
    assert page.evaluate(MEASURE)["pairs"] == [["55×55×96", "27×27×96"]]
    page.close()


def test_a_block_unfolds_where_it_stands(opened):
    page = opened("resnet50")
    block = page.locator('[data-block="conv3_x.block2"]')
    assert block.get_attribute("aria-expanded") == "false"
    assert "×3" in block.locator(".folded").inner_text()
    inside = block.locator('.unfolded [data-rows*="conv3_x.block2.conv2"]')
    assert not inside.is_visible()
    block.click()
    assert inside.is_visible()
    assert page.locator('[data-block][aria-expanded="true"]').count() == 1
    block.press("Enter")
    assert not inside.is_visible()
    page.locator("#all").click()
    assert page.locator('[data-block][aria-expanded="true"]').count() == page.locator("[data-block]").count() == 8
    assert page.locator("#all").get_attribute("aria-pressed") == "true"
    found = page.evaluate(MEASURE)
    assert (found["pairs"], found["wide"]) == ([], [])
    page.locator("#all").click()
    assert page.locator('[data-block][aria-expanded="true"]').count() == 0


def test_hovering_tells_what_the_summary_tells(opened):
    row = next(row for row in summarize("resnet50").rows if row.name == "conv3_x.block1.conv2")
    page = opened("resnet50")
    page.locator('[data-block="conv3_x.block1"]').click()
    page.locator('.unfolded [data-rows*="conv3_x.block1.conv2"]').hover()
    told = page.locator("#tip").inner_text()
    assert told.startswith("conv3_x.block1.conv2\nconvolution 3x3\n")
    values = ("28×28×128", f"{row.parameters:,}", f"{row.macs:,}", show_bytes(row.activation_bytes), show_bytes(row.training_bytes))
    assert all(value in told for value in (*values, f"{row.receptive_field} pixels", show_bytes(row.inference_bytes)))
    norm = next(row for row in summarize("resnet50").rows if row.name == "conv3_x.block1.bn2")
    assert norm.training_bytes != norm.activation_bytes
    assert re.search(rf"conv3_x.block1.bn2\n.*kept in training\s+{re.escape(show_bytes(norm.training_bytes))}\n", told, re.DOTALL)
    assert page.locator(".bar.on .name").all_inner_texts() == ["conv3_x"] * 4
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()
    page.locator('[data-stage="conv5_x"] .folded .node').first.hover()
    told = page.locator("#tip").inner_text()
    block = sum(row.parameters for row in summarize("resnet50").rows if row.name.startswith("conv5_x.block1."))
    assert told.startswith("conv5_x.block1")
    assert f"{block:,}" in told


def test_bars_show_where_it_goes(opened):
    summary = summarize("vgg16")
    page = opened("vgg16")
    shown = page.locator('figure[data-measure="parameters"] .bar').all_inner_texts()
    assert [line.split("\n")[0] for line in shown] == [stage.name for stage in summary.stages]
    (fc6,) = [line for line in shown if line.startswith("fc6")]
    assert "74 %" in fc6  # 102,764,544 of 138,357,544
    widths = page.locator('figure[data-measure="parameters"] .fill').evaluate_all("(bars) => bars.map((bar) => bar.offsetWidth)")
    largest = max(stage.parameters for stage in summary.stages)
    for width, stage in zip(widths, summary.stages, strict=True):
        assert width == pytest.approx(max(widths) * stage.parameters / largest, abs=1.6)


def test_it_speaks_chinese_and_goes_dark(opened):
    page = opened("googlenet", language="zh-CN", theme="dark")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    shown = page.locator("body").inner_text()
    assert "展开所有块" in shown
    assert "次乘加" in shown
    assert "Unfold" not in shown
    labels = " ".join(page.locator("svg text").all_text_contents())
    assert "全连接 1000" in labels
    assert "仅训练时使用" in labels
    assert "fully connected" not in labels
    page.locator('[data-rows="fc"]').hover()
    assert "全连接" in page.locator("#tip").inner_text()
    found = page.evaluate(MEASURE)
    assert (found["pairs"], found["wide"]) == ([], [])
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.locator("#language").click()
    assert "Unfold all blocks" in page.locator("body").inner_text()
    assert "fully connected 1000" in page.locator("svg text").all_text_contents()


def test_it_fits_a_telephone(opened):
    page = opened("resnet18", width=390)
    page.locator("#all").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
