"""Universal face: pose-invariant identity."""

from jaxrecipes.recipes.faces.data import training_order
from jaxrecipes.recipes.faces.report import prediction_columns, write_report, write_samples
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig as CONFIG
from jaxrecipes.recipes.universal_face.data import load_inputs, load_splits
from jaxrecipes.recipes.universal_face.deploy import deployed
from jaxrecipes.recipes.universal_face.original import export_torch, import_torch
from jaxrecipes.recipes.universal_face.recipe import check_config, make_recipe

__all__ = [
    "CONFIG",
    "check_config",
    "deployed",
    "export_torch",
    "import_torch",
    "load_inputs",
    "load_splits",
    "make_recipe",
    "prediction_columns",
    "training_order",
    "write_report",
    "write_samples",
]
