"""The data of a recipe's run, from its splits."""

from collections.abc import Mapping

from jax.sharding import Mesh

from jaxrecipes.data.examples import Examples
from jaxrecipes.data.fingerprint import Fingerprint, of_split
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.run_data import RunData, examples_per_step, make_run_data


def recipe_data(
    module: RecipeModule, config: RunConfig, splits: Mapping[str, Examples], mesh: Mesh
) -> RunData:
    """The data of a run of this recipe.

    Args:
      module: the recipe.
      config: the recipe's.
      splits: what `module.load_data` returned, or some of it.
      mesh: the devices.

    Raises: what `make_run_data` raises.
    """
    return make_run_data(
        {name: split.arrays for name, split in splits.items()},
        config,
        mesh,
        order=module.training_order(config, splits["train"], batch_size=examples_per_step(config)),
        fingerprint=fingerprint_of(splits),
    )


def fingerprint_of(splits: Mapping[str, Examples]) -> Fingerprint:
    """How the splits are recognised when a run or a search is resumed."""
    return {
        name: of_split(split.identity, left_out=split.left_out) for name, split in splits.items()
    }
