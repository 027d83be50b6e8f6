"""Universal face: pose-invariant identity. Offers what `jaxrecipes.recipes.RecipeModule` names."""

from jaxrecipes.recipes.face_data import training_order
from jaxrecipes.recipes.face_report import prediction_columns, write_report, write_samples
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig as CONFIG
from jaxrecipes.recipes.universal_face.data import load_inputs, load_splits
from jaxrecipes.recipes.universal_face.deploy import deployed
from jaxrecipes.recipes.universal_face.recipe import check_config, make_recipe
from jaxrecipes.recipes.universal_face.torch_checkpoint import export_torch, import_torch

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
