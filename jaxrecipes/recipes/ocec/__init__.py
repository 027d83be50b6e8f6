"""OCEC: open or closed eyes."""

from jaxrecipes.recipes.ocec.config import OcecRunConfig as CONFIG
from jaxrecipes.recipes.ocec.data import load_inputs, load_splits, training_order
from jaxrecipes.recipes.ocec.deploy import deployed
from jaxrecipes.recipes.ocec.original import export_torch, import_torch
from jaxrecipes.recipes.ocec.recipe import check_config, make_recipe
from jaxrecipes.recipes.ocec.report import prediction_columns, write_report, write_samples

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
