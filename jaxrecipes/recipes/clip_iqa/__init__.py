"""Quality and prompt consistency of generated images."""

from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig as CONFIG
from jaxrecipes.recipes.clip_iqa.data import load_inputs, load_splits, training_order
from jaxrecipes.recipes.clip_iqa.deploy import deployed
from jaxrecipes.recipes.clip_iqa.original import export_torch, import_torch
from jaxrecipes.recipes.clip_iqa.recipe import check_config, make_recipe
from jaxrecipes.recipes.clip_iqa.report import prediction_columns, write_report, write_samples

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
