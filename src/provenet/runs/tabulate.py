"""What several networks and views answered to the same pictures, as a table of errors and costs."""

from collections.abc import Sequence

import torch

from provenet.errors import DataError
from provenet.evaluation.combine import average, join
from provenet.evaluation.measures import Answers, mcnemar
from provenet.evaluation.predictions import Predictions
from provenet.metrics import TOP
from provenet.outcomes import wilson_interval
from provenet.report.compared import Compared, Entry
from provenet.runs.scores import Scored


def tabulate(scored: Sequence[Scored], data_name: str) -> Compared:
    """The results as a table, in their order; averages of networks last."""
    answers = [answers_of(kept(each)) for each in scored]
    first = answers[0]
    entries = [_entry(kept(each).name, [each], found, first) for each, found in zip(scored, answers, strict=True)]
    for name in dict.fromkeys(each.views.name for each in scored):
        members = [each for each in scored if each.views.name == name]
        if len(members) > 1:
            joined = join([kept(each) for each in members])
            found = Answers(average(joined.probabilities), torch.from_numpy(joined.labels))
            entries.append(_entry(f"all {len(members)} averaged", members, found, first))
    return Compared(data_name=data_name, num_images=len(first), num_classes=len(scored[0].images.classes), entries=tuple(entries))


def kept(scored: Scored) -> Predictions:
    """Its predictions. Raises DataError where they were too many to be kept."""
    if scored.predictions is None:
        raise DataError(f"{scored.images.name}: expected fewer pictures or classes, found more than fit into memory; take a part")
    return scored.predictions


def answers_of(predictions: Predictions) -> Answers:
    """What was answered to those with labels. Raises DataError where there are none."""
    found = Answers(predictions.logits, torch.from_numpy(predictions.labels))
    if not len(found):
        raise DataError(f"{predictions.name}: expected pictures with labels, found none; give labelled ones")
    return found


def _entry(name: str, members: Sequence[Scored], answers: Answers, first: Answers) -> Entry:
    return Entry(
        network=name,
        views=members[0].views.name,
        top1=answers.top(1),
        top5=answers.top(TOP),
        interval=wilson_interval(int(answers.is_right.sum()), len(answers)),
        passes=sum(each.passes for each in members),
        milliseconds=sum(each.milliseconds for each in members),
        chance=None if answers is first else mcnemar(answers.is_right, first.is_right).p_value,
        is_average=len(members) > 1,
    )
