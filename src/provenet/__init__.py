"""Provenet: the landmark convolutional image classifiers, each as published.

Importing it is cheap; torch is imported when something that needs it is first used.

    import provenet as pn
    run = pn.train("fashion-mini", "lenet5")
    for prediction in pn.Predictor.load(run.folder)(["shoe.png"]):
        print(prediction.label, prediction.probability)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from provenet.version import __version__

if TYPE_CHECKING:
    from provenet.comparison.difference import difference
    from provenet.data.distortion import Distortion
    from provenet.data.index import ImageSet
    from provenet.data.loader import Loader, Share
    from provenet.data.sources import open_data
    from provenet.data.squares import open_squares
    from provenet.deploy.predictor import Predictor
    from provenet.drawing.diagram import draw
    from provenet.errors import ProvenetError
    from provenet.inspection.summary import summarize
    from provenet.models import blocks
    from provenet.models.catalog import list_models
    from provenet.preprocessing import Preprocessing
    from provenet.runs.calibrate import calibrate
    from provenet.runs.check import check_data as check
    from provenet.runs.compare import compare
    from provenet.runs.engines import probe
    from provenet.runs.ensemble import make_ensemble as ensemble
    from provenet.runs.evaluate import evaluate_bundle as evaluate
    from provenet.runs.features import extract_features
    from provenet.runs.pack import pack
    from provenet.runs.resume import resume
    from provenet.runs.survey import survey
    from provenet.runs.train import train
    from provenet.verify.verify import verify
    from provenet.weights.bundle import load_bundle
    from provenet.weights.create import create_model
    from provenet.weights.export import export_weights
    from provenet.weights.importer import import_weights

__all__ = [
    "Distortion",
    "ImageSet",
    "Loader",
    "Predictor",
    "Preprocessing",
    "ProvenetError",
    "Share",
    "__version__",
    "blocks",
    "calibrate",
    "check",
    "compare",
    "create_model",
    "difference",
    "draw",
    "ensemble",
    "evaluate",
    "export_weights",
    "extract_features",
    "import_weights",
    "list_models",
    "load_bundle",
    "open_data",
    "open_squares",
    "pack",
    "probe",
    "resume",
    "summarize",
    "survey",
    "train",
    "verify",
]

_HOMES = {
    "Distortion": "provenet.data.distortion:Distortion",
    "ImageSet": "provenet.data.index:ImageSet",
    "Loader": "provenet.data.loader:Loader",
    "Predictor": "provenet.deploy.predictor:Predictor",
    "Preprocessing": "provenet.preprocessing:Preprocessing",
    "ProvenetError": "provenet.errors:ProvenetError",
    "Share": "provenet.data.loader:Share",
    "blocks": "provenet.models.blocks:",
    "calibrate": "provenet.runs.calibrate:calibrate",
    "check": "provenet.runs.check:check_data",
    "compare": "provenet.runs.compare:compare",
    "create_model": "provenet.weights.create:create_model",
    "difference": "provenet.comparison.difference:difference",
    "draw": "provenet.drawing.diagram:draw",
    "ensemble": "provenet.runs.ensemble:make_ensemble",
    "evaluate": "provenet.runs.evaluate:evaluate_bundle",
    "extract_features": "provenet.runs.features:extract_features",
    "export_weights": "provenet.weights.export:export_weights",
    "import_weights": "provenet.weights.importer:import_weights",
    "list_models": "provenet.models.catalog:list_models",
    "load_bundle": "provenet.weights.bundle:load_bundle",
    "open_data": "provenet.data.sources:open_data",
    "open_squares": "provenet.data.squares:open_squares",
    "pack": "provenet.runs.pack:pack",
    "probe": "provenet.runs.engines:probe",
    "resume": "provenet.runs.resume:resume",
    "summarize": "provenet.inspection.summary:summarize",
    "survey": "provenet.runs.survey:survey",
    "train": "provenet.runs.train:train",
    "verify": "provenet.verify.verify:verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'provenet' has no attribute {name!r}")
    module_name, _, attribute = _HOMES[name].partition(":")
    module = import_module(module_name)
    found = getattr(module, attribute) if attribute else module
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
