"""The views of one network compared in its report, and what the page says of what a network was shown."""

import re

import pytest
from made import make_facts
from reading import Page, check_languages, embedded

from provenet.errors import SettingsError
from provenet.report.compared import Compared, Entry
from provenet.report.compared_page import describe_views, render_comparison
from provenet.report.page import render_report
from provenet.runs.compare import compare
from provenet.runs.evaluate import evaluate_bundle, score_models


def entry(views, top1, milliseconds, chance=0.01, network="/home/someone/model.safetensors"):
    interval = (top1 - 0.02, top1 + 0.02)
    return Entry(network=network, views=views, top1=top1, top5=0.99, interval=interval, passes=10, milliseconds=milliseconds, chance=chance)


ENTRIES = (entry("center", 0.80, 1.0, None), entry("ten", 0.85, 10.0, 0.0002), entry("144", 0.84, 50.0, 0.04))
COMPARED = Compared(data_name="toys", num_images=1_000, num_classes=10, entries=ENTRIES)


def test_the_section_that_compares():
    text = render_report(make_facts(state="evaluated", compared=COMPARED))
    found = re.search(r'<section id="views".*?</section>', text, re.S)[0]
    page = Page(found)
    assert "ten is wrong least often: in 15.00% of the pictures instead of 20.00%, at 10.0 times the time." in page.text
    assert "All of the rest of this page is about the first row, center" in page.text
    rows = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", found)[1:]]
    assert rows == [
        ["center", "20.00%", "18.00%–22.00%", "1.00%", "10.0", "1.00", ""],
        ["ten", "15.00%", "13.00%–17.00%", "1.00%", "10.0", "10", "&lt;0.001"],
        ["144", "16.00%", "14.00%–18.00%", "1.00%", "10.0", "50", "0.040"],
    ]
    assert found.count("<circle") == 3
    assert "AlexNet: corners and middle, mirrored too" in page.text
    assert "本页其余部分都以第一行 center 为准" in Page(found, "zh").text
    assert "someone" not in text  # the report is sent to others
    assert 'href="#views"' in text
    assert 'id="confusion-test"' in text


def test_the_pieces_are_those_of_the_page_of_a_comparison():
    found = re.search(r'<section id="views".*?</section>', render_report(make_facts(compared=COMPARED)), re.S)[0]
    page = render_comparison(COMPARED)
    for shared in (r"<svg class=\"compared\".*?</svg>", r'<dl class="facts">.*?</dl>'):
        assert re.search(shared, found, re.S)[0] == re.search(shared, page, re.S)[0]
    assert "Network" in Page(page).text
    assert "/home/someone/model.safetensors, ten is wrong least often" in Page(page).text  # networks have names there


def test_a_page_says_what_the_network_was_shown():
    page = Page(render_report(make_facts(state="evaluated", views="ten")))
    assert "Shown of each picture: AlexNet: corners and middle, mirrored too ten" in page.text
    assert "每张图片所看的部分： AlexNet：四角与中央，各加镜像 ten" in Page(render_report(make_facts(views="ten")), "zh").text
    assert "Shown of each picture" not in Page(render_report(make_facts())).text
    check_languages(render_report(make_facts(state="evaluated", views="ten", compared=COMPARED)))
    assert describe_views("dense:256,384").chinese == "VGG：在整张图片上全卷积计算，加镜像；256、384 像素"


def test_one_network_in_several_views_leaves_its_report(trained, tmp_path):
    path = tmp_path / "report.html"
    compared = compare([trained.folder], "fashion-mini", views=["ten", "center"], report=path)
    text = path.read_text(encoding="utf-8")
    (part,) = embedded(text)["parts"]
    assert part["top1"] == compared.entries[0].top1 != compared.entries[1].top1 == trained.test.top1
    page = Page(text)
    assert "All of the rest of this page is about the first row, ten" in page.text
    assert "Shown of each picture: AlexNet" in page.text
    assert f"{1 - trained.test.top1:.2%}" in re.search(r'<section id="views".*?</section>', text, re.S)[0]
    assert str(tmp_path) not in text
    assert str(trained.folder) not in text


def test_the_views_of_a_single_evaluation_are_said(trained, tmp_path):
    evaluate_bundle(trained.folder, "fashion-mini", views="mirror", report=tmp_path / "report.html")
    assert "Shown of each picture: the middle and its mirror image mirror" in Page((tmp_path / "report.html").read_text()).text


def test_several_networks_have_a_page_of_their_own(trained, tmp_path):
    path = tmp_path / "compared.html"
    compare([trained.folder, trained.bundle_path], "fashion-mini", views=["center"], report=path)
    assert 'id="confusion-test"' not in path.read_text(encoding="utf-8")
    assert "all 2 averaged" in Page(path.read_text(encoding="utf-8")).text
    with pytest.raises(SettingsError, match="--report: expected one network, found several"):
        score_models([trained.folder, trained.bundle_path], "fashion-mini", report=path)
