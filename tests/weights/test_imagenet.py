"""The thousand classes, and data that calls them by number."""

import torch
from PIL import Image

from provenet import evaluate
from provenet.models.catalog import build_network
from provenet.weights.bundle import Bundle
from provenet.weights.imagenet import imagenet_classes, imagenet_synsets, named_as_in


def test_the_classes_are_in_the_order_of_their_numbers():
    names, numbers = imagenet_classes(), imagenet_synsets()
    assert len(set(names)) == len(set(numbers)) == 1000
    assert list(numbers) == sorted(numbers)
    known = {
        "n01440764": "tench",
        "n02123045": "tabby",
        "n02504458": "African elephant",
        "n07747607": "orange",
        "n15075141": "toilet tissue",
    }
    assert {number: names[numbers.index(number)] for number in known} == known
    assert (names.index("crane bird"), names.index("crane")) == (134, 517)  # of one name in the published list


def test_only_folders_of_numbers_are_joined_by_number():
    names, numbers = imagenet_classes(), imagenet_synsets()
    assert named_as_in(numbers[3:9], names) == numbers
    assert named_as_in(("tench", "goldfish"), names) == names
    assert named_as_in(("n01440764",), ("cat", "dog")) == ("cat", "dog")


def test_a_folder_of_imagenet_is_evaluated(tmp_path):
    torch.manual_seed(0)
    for number, colour in (("n01440764", (200, 10, 10)), ("n07747607", (250, 150, 0))):
        (tmp_path / "val" / number).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (40, 40), (*colour[:2], colour[2] + k)).save(tmp_path / "val" / number / f"{k}.png")
    net = build_network("resnet8_cifar", num_classes=1000)
    with torch.no_grad():
        net.fc.bias[imagenet_classes().index("orange")] = 1e4
    found = evaluate(Bundle(net.eval(), imagenet_classes(), net.input_spec.preprocessing), tmp_path, split="val")
    scores = {score.name: score.top1 for score in found.classes if score.images}
    assert scores == {"tench": 0.0, "orange": 1.0}
