"""Calibration before and after a temperature, as the page shows it: the two diagrams, the numbers, and what to do."""

import re
from dataclasses import replace

import torch
from made import evaluate_probabilities, make_evaluation, make_facts
from reading import Page, check_languages

from provenet.outcomes import calibration
from provenet.report.facts import EvaluatedPart
from provenet.report.findings import find
from provenet.report.page import render_report
from provenet.report.wording import percent


def drawn(scale, num_pictures=2_000, seed=3):
    """A network whose logits are `scale` times what they should be."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_pictures, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return evaluate_probabilities(("a", "b", "c", "d"), labels, (scale * logits).softmax(1))


def shown(evaluation, language="en", **changes):
    """The section, and its text."""
    text = render_report(make_facts(("a", "b", "c", "d"), parts=[EvaluatedPart("test", evaluation)], **changes))
    check_languages(text)
    section = re.search(r'<section id="calibration-test".*?</section>', text, re.S)[0]
    return section, Page(section, language).text


def test_before_and_after():
    evaluation = drawn(3.0)
    before, after = calibration(evaluation.outcomes), calibration(evaluation.outcomes.when_calibrated)
    assert after.error < 0.03 < 0.15 < before.error
    section, text = shown(evaluation)
    assert section.count("<svg") == 2
    least, most = find(evaluation).calibrated.temperatures
    assert 2.7 < least < most < 3.3
    said = f"{least:.2f}–{most:.2f}"
    assert text.count("Overconfident") == 1
    assert (
        f"divided by a temperature of {said}, the calibration error falls from {percent(before.error, 2)} to {percent(after.error, 2)}."
        in text
    )
    assert "provenet calibrate MODEL DATA finds such a number" in text
    rows = {row[0]: row[1:] for row in (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", section))}
    numbers = list(rows.values())[1:5]
    assert numbers == [
        [percent(each, 2) for each in (before.error, after.error)],
        [percent(each, 2) for each in (before.confidence, after.confidence)],
        [percent(each, 2) for each in (before.accuracy, after.accuracy)],
        ["1", said],
    ]
    # Each diagram has the bins of its own confidence.
    figures = re.findall(r"<figure.*?</figure>", section, re.S)
    for figure, measured in zip(figures, (before, after), strict=True):
        counts = [int(count.replace(",", "")) for count in re.findall(r'data-images="([\d,]+)"', figure)]
        assert counts == [bar.images for bar in measured.bins if bar.images]
    assert "校准误差便从" in shown(evaluation, "zh")[1]


def test_an_underconfident_network_is_made_surer():
    text = shown(drawn(0.4))[1]
    assert "Underconfident" in text
    assert "falls from" in text
    assert "provenet calibrate MODEL DATA" in text
    assert find(drawn(0.4)).calibrated.temperatures[1] < 0.5


def test_a_fair_network_is_left_alone():
    text = shown(drawn(1.0))[1]
    assert "Its probabilities can be taken at their word" in text
    assert "That can be mended" not in text
    assert "provenet calibrate" not in text
    assert "That is no gain" in text


def test_without_enough_pictures_there_is_no_after():
    few = make_evaluation(("a", "b", "c", "d"), [(k % 4, k % 3, 0.9) for k in range(99)])
    section, text = shown(few)
    assert section.count("<svg") == 1
    assert "temperature" not in text.lower()
    assert "Overconfident" in text


def test_where_all_are_right_no_temperature_is_found():
    sure = make_evaluation(("a", "b", "c", "d"), [(k % 4, k % 4, 0.7) for k in range(200)])
    assert sure.outcomes.calibrated is not None
    assert find(sure).calibrated is None
    assert shown(sure)[0].count("<svg") == 1


def test_a_temperature_that_the_network_already_keeps_is_said():
    evaluation = drawn(3.0)
    assert "already keeps a temperature of 1.50" in shown(evaluation, temperature=1.5)[1]
    assert "already keeps" not in shown(evaluation)[1]
    bare = replace(evaluation, outcomes=replace(evaluation.outcomes, calibrated=None, temperature=None))
    assert shown(bare)[0].count("<svg") == 1
