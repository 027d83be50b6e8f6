"""Face 3D transformer: side view to frontal embedding."""

from jaxrecipes.recipes.face3d.config import Face3DRunConfig as CONFIG
from jaxrecipes.recipes.face3d.data import load_inputs, load_splits
from jaxrecipes.recipes.face3d.deploy import deployed
from jaxrecipes.recipes.face3d.original import export_torch, import_torch
from jaxrecipes.recipes.face3d.recipe import check_config, make_recipe
from jaxrecipes.recipes.faces.data import training_order
from jaxrecipes.recipes.faces.report import prediction_columns, write_report, write_samples

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
