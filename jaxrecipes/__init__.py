"""PyTorch training recipes as pure, jitted, sharded JAX, where every hyperparameter is data.

For Python and notebooks: `fit` trains as `jaxrecipes train` does, `load_run` opens a run's folder;
docs/from_python.md describes both, and the functions behind the other commands.
"""

from etils import epy

# Imported when first used, so that `import jaxrecipes.schedules` loads schedules alone.
with epy.lazy_api_imports(globals()):
    from jaxrecipes.commands.compare import compare
    from jaxrecipes.commands.convert import import_torch
    from jaxrecipes.commands.find_lr import find_lr
    from jaxrecipes.commands.train import fit
    from jaxrecipes.commands.tune import search
    from jaxrecipes.runs.loaded import load_run
    from jaxrecipes.runs.new_recipe import new_recipe

__version__ = "0.1.0"
__all__ = ["compare", "find_lr", "fit", "import_torch", "load_run", "new_recipe", "search"]
