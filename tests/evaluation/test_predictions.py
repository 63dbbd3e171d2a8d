"""Predictions as a table: what is read again is what was written, and what is wrong is said in a line."""

import csv

import numpy as np
import pytest
import torch

from provenet.errors import DataError, SettingsError
from provenet.evaluation.measures import Answers, measure
from provenet.evaluation.predictions import Predictions, load_predictions

CLASSES = ("cat", 'big "dog", brown', "鱼")


def made(num_images=2_500):
    generator = torch.Generator().manual_seed(0)
    logits = 40 * torch.randn(num_images, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 3, (num_images,), generator=generator).numpy()
    return Predictions("made", CLASSES, [f"a, b/{number}.png" for number in range(num_images)], labels, logits)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_what_was_written_is_read(tmp_path, ending):
    written = made()
    written.save(tmp_path / f"p{ending}")
    found, left_out = load_predictions(tmp_path / f"p{ending}")
    assert (found.classes, list(found.paths), left_out) == (CLASSES, written.paths, 0)
    assert np.array_equal(found.labels, written.labels)
    assert torch.allclose(found.logits.exp(), written.probabilities, rtol=1e-12, atol=0)
    ours, theirs = (measure(Answers(each.logits, torch.from_numpy(each.labels))) for each in (written, found))
    assert all(abs(ours[name].value - theirs[name].value) < 1e-12 for name in ours)


def test_people_find_what_they_expect(tmp_path):
    made(3).save(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "predicted", "p(cat)", 'p(big "dog", brown)', "p(鱼)"]
    for row, label, logits in zip(rows, made(3).labels, made(3).logits, strict=True):
        assert row["label"] == ("" if label < 0 else CLASSES[label])
        assert row["predicted"] == CLASSES[int(logits.argmax())]
        assert sum(float(row[f"p({name})"]) for name in CLASSES) == pytest.approx(1)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a column p"),
        ("path,label\na,b\n", "such as p"),
        ("path,label,p(cat),p(dog)\n", "expected rows"),
        ("path,label,p(cat),p(cat)\na,cat,1,0\n", "twice"),
        ("path,label,p(cat),p(dog)\na,cat,1\n", "row 2: expected 4 cells"),
        ("path,label,p(cat),p(dog)\na,cat,1,x\n", "row 2: expected numbers"),
        ("path,label,p(cat),p(dog)\na,cat,1,0\nb,cat,0.4,0.4\n", "row 3: expected probabilities that add up to 1"),
        ("path,label,p(cat),p(dog)\na,cat,1,0\nb,cat,nan,1\n", "row 3: expected probabilities"),
        ("path,label,p(cat),p(dog)\na,cat,-1,2\n", "row 2: expected probabilities"),
        ("path,label,p(cat),p(dog)\na,cow,1,0\n", "row 2: expected a label that has a column"),
        ('path,label,p(cat),p(dog)\n"a,cat,1,0\n', "quote"),
        ("path,label,p(c\x07t),p(dog)\na,dog,1,0\n", "control characters"),
    ],
)
def test_files_that_are_none(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        load_predictions(write(tmp_path / "p.csv", text))


def test_rows_without_numbers_are_left_out_on_request(tmp_path):
    path = write(tmp_path / "p.csv", "label,p(cat),p(dog)\ncat,nan,nan\n,0.25,0.75\ndog,0,1\n")
    found, left_out = load_predictions(path, leave_out_broken=True)
    assert (len(found), left_out) == (2, 1)
    assert found.labels.tolist() == [-1, 1]  # a list of labels with holes


def test_places_that_are_none(tmp_path):
    with pytest.raises(SettingsError, match="ends in"):
        made(2).save(tmp_path / "p.txt")
    with pytest.raises(SettingsError, match="folder"):
        made(2).save(tmp_path / "no" / "p.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(SettingsError, match="something else"):
        made(2).save(tmp_path / "d.csv")
    with pytest.raises(DataError, match="expected predictions"):
        load_predictions(tmp_path / "nothing.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(DataError, match="Parquet"):
        load_predictions(tmp_path / "bad.parquet")
