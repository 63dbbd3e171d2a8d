"""What fitting int8 in other ways does to a trained network's answers, and its speed with all threads on each layer.

    python bench/int8.py RUN DATA

A third of 1,152 test pictures of DATA is there to fit to, of which 128 are taken; the others are compared with float32.
"""

import argparse
import logging
import os
import time
from typing import Any

import torch

from provenet.data.sources import open_data
from provenet.engines.engine import reference, relative_error
from provenet.engines.openvino_requests import run_whole
from provenet.engines.with_openvino import CALIBRATION_BATCH, _convert
from provenet.runs.engines import sample_of
from provenet.runtime import count_cores, place, prepare_process
from provenet.weights.bundle import load_bundle
from turns import print_setting, print_table

COUNT, FITTED_TO, BATCH_SIZE = 1_152, 128, 16


def main() -> None:
    """Fit in each way, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder or bundle")
    parser.add_argument("data", help="pictures that it was not trained on, as a test split")
    asked = parser.parse_args()
    os.environ["NNCF_CI"] = "1"
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    prepare_process()
    torch.set_num_threads(count_cores())
    bundle, device = load_bundle(asked.run), torch.device("cpu")
    net = bundle.network.eval()
    place(net, device)
    images = sample_of(open_data(asked.data).splits["test"], bundle.preprocessing, device)(COUNT)
    is_fitted_to = torch.arange(len(images)) % 3 == 0
    fitted_to = torch.split(images[is_fitted_to][:FITTED_TO], CALIBRATION_BATCH)
    others = [batch for batch in torch.split(images[~is_fitted_to], BATCH_SIZE) if len(batch) == BATCH_SIZE]
    expected = torch.cat([reference(net)(batch) for batch in others])
    model = _convert(net, images[:BATCH_SIZE])
    model.reshape([-1, *images.shape[1:]])
    zero_points: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED}
    layer_after_layer: dict[str, Any] = {"fast_bias_correction": False}
    ways = {
        "as NNCF does by itself": {},
        "zero points": zero_points,
        "biases layer after layer": layer_after_layer,
        "both, as we do": zero_points | layer_after_layer,
    }
    print_setting(f"int8: {bundle.network.name}, fitted to {FITTED_TO} pictures, compared on {len(expected)}")
    rows = []
    for name, options in ways.items():
        started_at = time.perf_counter()
        data = nncf.Dataset([batch.contiguous().numpy() for batch in fitted_to])
        fitted = nncf.quantize(model.clone(), data, subset_size=len(fitted_to), **options)
        fit_seconds = time.perf_counter() - started_at
        run = run_whole(fitted, others[0].shape, "int8")
        run(others[0])
        started_at = time.perf_counter()
        found = torch.cat([run(batch) for batch in others])
        speed = len(found) / (time.perf_counter() - started_at)
        same = (found.argmax(1) == expected.argmax(1)).double().mean()
        rows.append([name, f"{same:.1%}", f"{relative_error(found, expected):.1%}", f"{speed:.0f}", f"{fit_seconds:.1f}"])
    print_table(["fitted", "same labels", "logits change by", "images/s", "seconds to fit"], rows)


if __name__ == "__main__":
    main()
