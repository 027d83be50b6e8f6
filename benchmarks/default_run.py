"""A recipe's own training program on its own data, without the loop around it."""

import itertools
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from timing import Contestant

from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.run_data import RunData, examples_per_step, make_run_data

RECIPES = ("ocec", "universal_face", "face3d", "clip_iqa", "hand_pose")
_CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"
# A step does not depend on how much data there is; making it takes longer than all steps.
_LITTLE = {
    name: ("--data.embedded_train", "512", "--data.embedded_val", "64")
    for name in ("ocec", "clip_iqa", "hand_pose")
}


def prepared(name: str, flags: Sequence[str] = ()) -> tuple[RunConfig, Recipe, RunData]:
    """(config, recipe, data) of `configs/NAME.py` under these flags, on one device."""
    flags = [*_LITTLE.get(name, ()), *flags]
    module, config = recipe_and_config(str(_CONFIGS / f"{name}.py"), flags)
    splits = module.load_data(config, report_dir=None, train=True)
    batch_size = examples_per_step(config)
    order = module.training_order(config, splits["train"], batch_size=batch_size)
    arrays = {"train": splits["train"].arrays}
    data = make_run_data(arrays, config, make_mesh(1), order=order)
    info = DataInfo(steps_per_epoch=data.steps_per_epoch, train=splits["train"])
    return config, module.make_recipe(config, info), data


def contestant(config: RunConfig, recipe: Recipe, data: RunData) -> Contestant:
    """As many steps as go into a call, on other examples each time."""
    programs = Programs(recipe, data, steps_per_call=config.loop.steps_per_call, mesh=make_mesh(1))
    state = programs.initial_state(recipe, jax.random.key(0))
    carry = [state, programs.train.zeros(programs.sum_shapes)]
    most = programs.steps_per_call.count
    starts = itertools.count(0, most)

    def call() -> None:
        items = data.train.training_items(next(starts), most, padded_to=most)
        source, count = data.train.source, np.int32(most)
        carry[0], carry[1], log = programs.train(carry[0], carry[1], source, items, count)
        jax.block_until_ready((carry, log))

    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return Contestant(call, most, {"params": size})
