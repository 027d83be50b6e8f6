"""A trained model's weights as a safetensors file, and what every exported file says of itself."""

import json
import pathlib

from jaxrecipes.config import to_dict
from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.recipes.trained import Trained, Weights


def export_safetensors(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes the weights as `params/...` and `batch_stats/...`, the config as metadata."""
    params, batch_stats = trained.weights(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(
        path, {"params": params, "batch_stats": batch_stats}, metadata=file_metadata(trained)
    )
    return f"{path.stat().st_size} bytes"


def file_metadata(trained: Trained) -> dict[str, str]:
    """Recipe, step and config, for the metadata of a file."""
    return {
        "recipe": trained.recipe.name,
        "step": str(trained.step),
        "config": json.dumps(to_dict(trained.config)),
    }
