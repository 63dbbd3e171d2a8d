"""Evaluate every published set of weights that is on this machine against its published accuracy: `make accuracy DATA=FOLDER`.

DATA is ImageNet's validation set, as class folders by WordNet number (n01440764 …) or by name; the weights are looked for where
`provenet weights fetch` puts them and in PROVENET_WEIGHTS, nothing is fetched. Words after DATA are tags, or patterns of them. One crop of
the middle, as the preprocessing of each set says. The standard error is that of a share of so many pictures; published numbers that were
measured with other crops or decoders differ by a few tenths.
"""

import sys
import time

from provenet.console import Terminal
from provenet.errors import ProvenetError, WeightsError, complain
from provenet.runs.evaluate import evaluate_bundle
from provenet.runtime import prepare_process
from provenet.weights.create import open_weights
from provenet.weights.sources import list_sets
from provenet.weights.store import find_file

ROW = "{:40} {:>8} {:>11} {:>7} {:>9} {:>11} {:>7} {:>8}"


def main(words: list[str]) -> int:
    """DATA and patterns of tags; prints one row per set of weights that is here."""
    if not words or not words[0]:
        raise ProvenetError("expected ImageNet's validation pictures, found none named: make accuracy DATA=FOLDER")
    prepare_process()
    data, patterns = words[0], words[1:] or ["*"]
    sets = {found.tag: found for pattern in patterns for found in list_sets(pattern)}
    there = [found for found in sets.values() if find_file(found) is not None and found.dialect != "provenet"]  # ours knows clothes
    if not there:
        raise ProvenetError("expected files of weights in PROVENET_WEIGHTS, found none; `provenet weights fetch TAG` gets them")
    print(ROW.format("tag", "top-1 %", "published", "differ", "top-5 %", "published", "differ", "seconds"))
    images, unusable = 0, []
    for found in there:
        try:
            bundle = open_weights(found.tag, found.network)  # with its published preprocessing; its hash is looked at again
        except WeightsError as error:
            complain(error)
            unusable.append(found.tag)
            continue
        started = time.perf_counter()
        with Terminal() as terminal:
            result = evaluate_bundle(bundle, data, watcher=terminal)
        seconds = time.perf_counter() - started
        cells = []
        for measured, published in ((result.top1, found.top1), (result.top5, found.top5)):
            percent = 100 * measured
            cells += [f"{percent:.2f}", *(["", ""] if published is None else [f"{published:.2f}", f"{percent - published:+.2f}"])]
        print(ROW.format(found.tag, *cells, f"{seconds:.0f}"), flush=True)
        images = result.images
    if images:
        largest = 100 * (0.25 / images) ** 0.5
        print(f"{images:,} pictures: the standard error of a share is at most {largest:.2f}; {len(sets) - len(there)} sets are not here")
    return 2 if unusable else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ProvenetError as error:
        complain(error)
        sys.exit(2)
