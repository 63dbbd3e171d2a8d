"""Which pictures a report shows, in which order, each embedded once and within a budget; by hand where that can be."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from made import HOSTILE, evaluate_probabilities, make_evaluation, make_facts, make_gallery, make_images, make_random_rows
from PIL import Image
from reading import Page, check_languages

from conftest import take, write_class_folders
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.evaluation.evaluate import evaluate
from provenet.report import gallery
from provenet.report.arranged import show_examples, show_look_alikes, show_mistakes
from provenet.report.chosen import EXAMPLE_SIDE, MISTAKE_SIDE, MOST_EXAMPLES, MOST_LOOK_ALIKES, NUM_MISTAKES, choose
from provenet.report.facts import EvaluatedPart
from provenet.report.findings import find
from provenet.report.gallery import LARGEST_LOSSLESS_BYTES, MOST_BYTES, encode, gather_pictures
from provenet.report.page import render_report
from provenet.weights.bundle import load_bundle

ABC = ("ant", "bee", "cat")
TRUE = [0, 0, 0, 1, 1, 2]
PROBABILITIES = [
    [0.90, 0.05, 0.05],
    [0.10, 0.60, 0.30],  # wrong: its class has 0.10, the answer 0.60
    [0.30, 0.65, 0.05],  # wrong: 0.30 and 0.65
    [0.55, 0.25, 0.20],  # wrong: 0.25 and 0.55
    [0.10, 0.80, 0.10],
    [0.48, 0.47, 0.05],  # wrong: 0.05 and 0.48
]


def small(**changes):
    """A report of six pictures, four of them wrong."""
    evaluation = evaluate_probabilities(ABC, TRUE, PROBABILITIES)
    return make_facts(ABC, parts=[EvaluatedPart("test", evaluation, make_gallery(evaluation))], **changes)


def section(text, name, split="test"):
    """One section of a page."""
    return re.search(rf'<section id="{name}-{split}".*?</section>', text, re.S)[0]


def used(text):
    """The places of the pictures that are shown, in their order, again and again."""
    return [int(place) for place in re.findall(r'<use href="#p0-(\d+)"/>', text)]


def test_two_orders_of_one_gallery():
    found = section(render_report(small()), "mistakes")
    assert re.findall(r'<li data-worst="(\d*)" data-surest="(\d*)">', found) == [("1", "4"), ("2", "2"), ("3", "3"), ("4", "1")]
    assert used(found) == [5, 1, 3, 2]  # by what the true class had: 0.05, 0.10, 0.25, 0.30; by confidence 2, 1, 3, 5
    assert "Worst: wrong pictures to whose true class" in Page(found).text
    assert "4 of these 4 are among the worst, too." in Page(found).text


def test_mistakes_of_one_order_only():
    """Thirty mistakes, of which 24 are the worst and 24 the surest: 18 are both, and 6 of each are only one of them."""
    probabilities = [[0.9, 0.05, 0.05]] * 2 + [[0.10 + 0.001 * k, 0.55 - 0.002 * k, 0.35 + 0.001 * k] for k in range(15)]
    probabilities += [[0.01 + 0.001 * k, 0.51 - 0.0005 * k, 0.48 - 0.0005 * k] for k in range(15)]
    evaluation = evaluate_probabilities(ABC, [0] * 32, probabilities)
    mistakes = show_mistakes(make_gallery(evaluation))
    assert (mistakes.surest, mistakes.in_both, mistakes.has_two_orders) == (NUM_MISTAKES, 18, True)
    assert len(mistakes.shown) == 30
    worst, surest = ([(row[k], row.mistake) for row in mistakes.shown if row[k]] for k in (1, 2))
    assert [rank for rank, _ in worst] == list(range(1, 25))  # these come first: so it reads without scripts
    assert [shown.own for _, shown in worst] == sorted(shown.own for _, shown in worst)
    by_rank = [shown.confidence for _, shown in sorted(surest, key=lambda pair: pair[0])]
    assert by_rank == sorted(by_rank, reverse=True)
    assert min(by_rank) >= max(row.mistake.confidence for row in mistakes.shown if not row.surest)


def test_one_order_where_both_are_the_same():
    found = section(render_report(make_facts()), "mistakes")
    assert "data-order" not in found
    assert "in the same order" in Page(found).text


def test_look_alikes_side_by_side():
    """Of 3 ants two were taken for bees, of 2 bees one for an ant: three of five."""
    text = render_report(small())
    check_languages(text)
    found = section(text, "look-alikes")
    assert "ant and bee" in Page(found).text
    assert "3 of 5 pictures were taken for the other class: 60.0%." in Page(found).text
    for words in ("ant, recognised", "ant, taken for bee: 2", "bee, taken for ant: 1", "bee, recognised"):
        assert words in Page(found).text, words
    assert "ant 与 bee" in Page(found, "zh").text
    assert used(found) == [0, 2, 1, 3, 4]  # the surest of the mistakes first
    assert "cat" not in Page(found).text  # one picture, once: that is no look-alike
    nobody = evaluate_probabilities(ABC, [0, 1, 2], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3]])
    assert (
        "None: no two classes were mixed up more than once."
        in Page(render_report(make_facts(ABC, parts=[EvaluatedPart("test", nobody)]))).text
    )


def test_typical_pictures_are_spread_over_the_recognised():
    """Seven recognised ones of 0.61 to 0.67 and two mistakes: the middle one, one of the surest, the worst mistake between them."""
    rows = [(0, 0, 0.61 + 0.01 * k) for k in range(7)] + [(0, 1, 0.9), (0, 1, 0.7), (1, 1, 0.8)]
    evaluation = make_evaluation(ABC, rows)
    choice = choose(find(evaluation), evaluation.outcomes)
    assert [place for number, place in choice.examples if number == 0] == [3, 7, 5]
    (beside,) = choice.side_by_side
    assert (beside.one, beside.one_as_other, beside.other_as_one, beside.other) == ([3, 5, 1], [7, 8], [], [9])
    assert [shown.place for shown in show_examples(make_gallery(evaluation))[0]] == [3, 5, 7]  # recognised ones first
    assert [number for number, _ in choice.examples] == [1, 0, 0, 0]  # F1 of 0.5 and 0.875: the harder first, and in rounds


def test_examples_stand_in_the_table_of_classes():
    text = render_report(small())
    rows = dict(re.findall(r'<tr><th scope="row">(\w+)</th><td class="examples">(.*?)</td>', section(text, "classes")))
    assert {name: used(row) for name, row in rows.items()} == {"ant": [0, 1], "bee": [4, 3], "cat": [5]}
    assert re.findall(r'<span class="thumb( wrong)?"', rows["ant"]) == ["", " wrong"]
    assert 'data-label-zh="folder/ant.png：被认成 bee，60.0%"' in rows["ant"]
    assert 'aria-label="folder/ant.png: recognised, 90.0%"' in rows["ant"]


def test_a_class_without_pictures_is_not_said_to_be_left_out():
    evaluation = make_evaluation(("a", "b", "c"), [(0, 1, 0.9)])
    text = render_report(make_facts(("a", "b", "c"), parts=[EvaluatedPart("test", evaluation, make_gallery(evaluation))]))
    assert "So that the page stays small" not in text
    assert used(section(text, "classes")) == [0]
    assert "None: no two classes were mixed up more than once." in Page(text).text


def test_every_picture_is_embedded_once():
    text = render_report(small())
    stored = re.findall(r'<image id="p0-(\d+)" width="28" height="28" href="(data:image/png;base64,[^"]*)"/>', text)
    assert len(stored) == text.count("data:image/png;base64") == len({content for _, content in stored}) == 6
    shown = used(text)
    assert {int(place) for place, _ in stored} == set(shown)
    assert len(shown) == 4 + 5 + 5  # mistakes, look-alikes, examples


def test_hostile_names_of_files_and_classes_are_text():
    evaluation = evaluate_probabilities((HOSTILE, "b", "c"), TRUE, PROBABILITIES)
    text = render_report(make_facts((HOSTILE, "b", "c"), parts=[EvaluatedPart("test", evaluation, make_gallery(evaluation))]))
    page = Page(text)
    names = [name for name, _ in page.elements]
    assert (names.count("script"), names.count("img"), names.count("image")) == (4, 0, 6)
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert f"{HOSTILE} and b" in page.text
    labels = [attributes["data-label-zh"] for _, attributes in page.elements if attributes.get("class", "").startswith("thumb")]
    assert f"folder/{HOSTILE}.png：被认成 b，60.0%" in labels


def test_many_classes_are_bounded():
    """Of 1,000 classes the page has no more pictures and bytes than of a few hundred, and says so."""
    classes = tuple(f"class {k}" for k in range(1_000))
    evaluation = make_evaluation(classes, make_random_rows(1_000, 10_000))
    choice = choose(find(evaluation), evaluation.outcomes)
    assert len(choice.examples) == MOST_EXAMPLES
    assert len({number for number, _ in choice.examples}) == MOST_EXAMPLES  # one for each of so many classes, before a second
    hardest = [row.number for row in find(evaluation).weakest[:MOST_EXAMPLES]]
    assert [number for number, _ in choice.examples] == hardest
    assert len(choice.side_by_side) <= MOST_LOOK_ALIKES
    part = EvaluatedPart("test", evaluation, make_gallery(evaluation))
    text = render_report(make_facts(classes, parts=[part]))
    said = int(re.search(r"only (\d+) classes have some, the hardest first", Page(text).text)[1])
    rows = re.findall(r'<td class="examples">(.*?)</td>', text)
    assert [bool(row) for row in rows[:300]] == [True] * 300  # and a few more that stand elsewhere on the page
    assert sum(bool(row) for row in rows) == said
    assert said < MOST_EXAMPLES + 100
    assert sum(map(len, re.findall(r'href="data:[^"]*"', text))) < MOST_BYTES * 1.02


def test_the_budget_of_bytes_is_kept_and_mistakes_come_first():
    evaluation = make_evaluation(tuple(map(str, range(100))), make_random_rows(100, 2_000))
    images = make_images(evaluation)
    whole = gather_pictures(evaluation, images)
    sizes = [len(shown.picture.data) for shown in whole.pictures.values()]
    assert sum(sizes) < MOST_BYTES
    some = gather_pictures(evaluation, images, most_bytes=sum(sizes[:30]))
    assert list(some.pictures) == list(whole.pictures)[:30]
    assert {*whole.choice.worst[:10], *whole.choice.surest[:10]} <= set(some.pictures)
    mistakes = show_mistakes(some)
    assert [row.worst for row in mistakes.shown if row.worst] == list(range(1, 1 + sum(bool(row.worst) for row in mistakes.shown)))
    assert show_examples(some) == {} or all(show_examples(some).values())
    beside = [shown.place for alike in show_look_alikes(some, find(evaluation)) for kind in alike["kinds"] for shown in kind["shown"]]
    assert {*beside} < set(some.pictures)
    none = gather_pictures(evaluation, images, most_bytes=0)
    assert none.pictures == {}
    text = render_report(make_facts(tuple(map(str, range(100))), parts=[EvaluatedPart("test", evaluation, none)]))
    assert "The pictures were not kept." in Page(text).text
    assert "Examples" not in Page(text).text


def test_pictures_are_no_larger_than_they_are_shown(monkeypatch):
    evaluation = make_evaluation(("a", "b"), [(0, 0, 0.9), (0, 1, 0.8), (1, 1, 0.7), (1, 1, 0.75), (1, 1, 0.8)])
    asked = []
    embed = gallery._embed
    monkeypatch.setattr(gallery, "_embed", lambda images, row, side: (asked.append(side), embed(images, row, side))[1])
    found = gather_pictures(evaluation, make_images(evaluation, side=300))
    assert {place: shown.picture[:2] for place, shown in found.pictures.items()} == {
        1: (MISTAKE_SIDE, MISTAKE_SIDE),
        0: (EXAMPLE_SIDE, EXAMPLE_SIDE),
        3: (EXAMPLE_SIDE, EXAMPLE_SIDE),
        4: (EXAMPLE_SIDE, EXAMPLE_SIDE),
    }
    assert sorted(asked) == [EXAMPLE_SIDE] * 3 + [MISTAKE_SIDE]


def test_small_pictures_are_kept_to_the_bit_and_small_copies_of_large_ones_are_not():
    def decode(embedded):
        kind, content = re.fullmatch(r"data:image/(\w+);base64,(.*)", embedded.data).groups()
        return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))

    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    tiny = encode(Image.fromarray(pixels[:32, :32]))
    assert tiny.is_lossless
    assert decode(tiny)[0] == "png"
    assert np.array_equal(decode(tiny)[1], pixels[:32, :32])
    assert len(base64.b64decode(tiny.data.partition(",")[2])) <= LARGEST_LOSSLESS_BYTES
    copy = encode(Image.fromarray(pixels))
    assert (copy.is_lossless, decode(copy)[0], copy[:2]) == (False, "jpeg", (96, 96))


@pytest.mark.parametrize(("side_pixels", "is_lossless"), [(512, False), (511, False), (64, True), (65, False), (40, True)])
def test_what_was_made_small_is_not_to_the_bit(side_pixels, is_lossless, tmp_path):
    (tmp_path / "data" / "one").mkdir(parents=True)
    Image.linear_gradient("L").resize((side_pixels, side_pixels)).save(tmp_path / "data" / "one" / "a.jpg", quality=95)
    embedded = gallery._embed(open_data(tmp_path / "data").splits["all"], 0, 64)
    assert embedded.is_lossless == is_lossless
    assert embedded[:2] == (min(side_pixels, 64),) * 2


@pytest.fixture
def evaluated_files(trained, tmp_path, mini):
    """A hundred files of which nearly every one is a mistake, and one of them wide."""
    write_class_folders(tmp_path / "pictures", take(mini["test"], per_class=10))
    wide = next((tmp_path / "pictures").glob("Bag/*.png"))
    with Image.open(wide) as picture:
        picture.resize((500, 250)).save(wide)
    files = open_data(tmp_path / "pictures").splits["all"]
    bundle = load_bundle(trained.folder)
    files = replace(files, classes=bundle.classes, labels=(files.labels + 1) % 10)
    squares, _ = open_squares(files.pictures, bundle.preprocessing, num_threads=1)
    loader = Loader(squares, files.labels, bundle.preprocessing, batch_size=64)
    return evaluate(bundle.network, loader.evaluation_batches(), bundle.classes), files, wide


def test_pictures_are_whole_and_their_names_relative(evaluated_files, tmp_path, monkeypatch):
    evaluation, files, wide = evaluated_files
    monkeypatch.setattr("provenet.report.chosen.NUM_MISTAKES", 100)
    found = gather_pictures(evaluation, files)
    mistakes = show_mistakes(found).shown
    assert len(mistakes) == 100 - sum(score.correct for score in evaluation.classes) > 80
    assert all(shown.name == files.pictures.paths[shown.place] for shown in found.pictures.values())
    sizes = {shown.name: shown.picture[:2] for shown in found.pictures.values()}
    assert sizes[f"Bag/{wide.name}"] == (192, 96)
    first = found.choice.worst[0]
    (tmp_path / "pictures" / found.pictures[first].name).unlink()
    again = gather_pictures(evaluation, files)
    assert [place for place, shown in again.pictures.items() if shown.picture is None] == [first]
    assert gather_pictures(replace(evaluation, outcomes=None), files).pictures == {}
