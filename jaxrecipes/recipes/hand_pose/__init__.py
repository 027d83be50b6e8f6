"""Pose, shape, place and joints of hands."""

from jaxrecipes.recipes.hand_pose.config import HandRunConfig as CONFIG
from jaxrecipes.recipes.hand_pose.data import load_inputs, load_splits, training_order
from jaxrecipes.recipes.hand_pose.deploy import deployed
from jaxrecipes.recipes.hand_pose.original import export_torch, import_torch
from jaxrecipes.recipes.hand_pose.recipe import check_config, make_recipe
from jaxrecipes.recipes.hand_pose.report import prediction_columns, write_report, write_samples

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
