"""What is planned: a recipe with its config, and its data as shapes alone."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.sharding import abstract_mesh, batch_sharding, check_batch_divides, replicated
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.programs import TrainProgram
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.run_data import DEVICE_SHARE, examples_per_step
from jaxrecipes.train.state import TrainState, create_state

_STEPS_PER_EPOCH = 100  # schedules alone look at it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A run that is to be planned.

    Attributes:
      config: of the run.
      recipe: made for it.
      arrays: some examples; of their values nothing is used.
      examples: how many there will be to train on; None where nobody knows.
    """

    config: RunConfig
    recipe: Recipe
    arrays: Mapping[str, Any]
    examples: int | None

    @property
    def batch_size(self) -> int:
        """The global batch."""
        return self.config.data.batch_size

    def bytes_per_example(self) -> float:
        """As a device holds them."""
        return sum(array.nbytes for array in self.arrays.values()) / self.loaded

    @property
    def loaded(self) -> int:
        """How many examples `arrays` has."""
        return len(next(iter(self.arrays.values())))

    def abstract_mesh(self, num_devices: int) -> AbstractMesh:
        """Of so many devices, as the config says.

        Raises:
          ValueError: their number does not fit the batch or `parallel.fsdp_devices`.
        """
        mesh = abstract_mesh(self.config.parallel.fsdp_devices, num_devices)
        check_batch_divides(self.batch_size, mesh)
        return mesh

    def data_bytes(self, usable_bytes: float | None) -> tuple[str, int]:
        """Where the examples are kept in a run, `device` or `stream`, and their bytes there."""
        whole = math.ceil((self.examples or self.loaded) * self.bytes_per_example())
        placement = self.config.data.placement
        if placement == "auto":
            fits = usable_bytes is None or whole <= DEVICE_SHARE * usable_bytes
            placement = "device" if fits else "stream"
        return placement, whole if placement == "device" else 0


def make_subject(module: RecipeModule, config: RunConfig, *, examples: int | None) -> Subject:
    """Loads a few examples to see their shapes, and makes the recipe.

    A recipe with the hook `stand_in` is planned without its files: the hook's config has the same
    network, no weights to read and a few made examples. Others load their data as a run does.

    Args:
      module: the recipe.
      config: of the run.
      examples: how many there will be to train on; None: as many as the config makes itself, if
        it does.

    Raises: what the recipe raises.
    """
    little, made = module.stand_in(config)
    little_is_all = little is config
    little = dataclasses.replace(little, init_from=None, first_stage=None)
    module.check_config(little)
    train = module.load_data(little, train=True)["train"]
    recipe = module.make_recipe(little, DataInfo.of(train, steps_per_epoch=_STEPS_PER_EPOCH))
    if recipe.later_stages:  # the last one trains most
        recipe = recipe.stage_at(recipe.later_stages[-1].first_step)
    return Subject(
        config=little,
        recipe=recipe,
        arrays=dict(train.arrays),
        examples=examples or made or (len(train) if little_is_all else None),
    )


def abstract_state(recipe: Recipe) -> TrainState:
    """The shapes of the state."""
    return jax.eval_shape(lambda key: create_state(recipe, key), jax.random.key(0))


def lowered_step(subject: Subject, mesh: Mesh, usable_bytes: float | None) -> jax.stages.Lowered:
    """The program of one step on these devices, as a run has it, from shapes alone."""
    state = abstract_state(subject.recipe)
    program = TrainProgram(subject.recipe, mesh=mesh, abstract_state=state)
    state = jax.tree.map(_shape, state, program.shardings)
    source, items = _data_shapes(subject, mesh, usable_bytes)
    sums = jax.tree.map(
        lambda leaf: _shape(leaf, replicated(mesh)), program.sum_shapes(state, source, items)
    )
    return program.lower(state, sums, source, items, np.int32(1))


def _data_shapes(subject: Subject, mesh: Mesh, usable_bytes: float | None) -> tuple[Any, Any]:
    """Source and items of `Feed` for a single step."""
    steps = subject.config.optim.accumulation_steps
    batch = (1, steps, subject.batch_size) if steps > 1 else (1, examples_per_step(subject.config))
    split = batch_sharding(mesh, axis=len(batch) - 1)
    if subject.data_bytes(usable_bytes)[0] == "stream":
        items = {
            name: _shape(array, split, (*batch, *array.shape[1:]))
            for name, array in subject.arrays.items()
        }
        return {}, items
    loaded = subject.loaded
    count = max(subject.examples or 0, examples_per_step(subject.config))

    def grown(array: Any) -> Any:
        if isinstance(array, IndexedRows):
            return IndexedRows(grown(array.table), grown(array.rows))
        length = math.ceil(len(array) * count / loaded)
        return _shape(np.asarray(array), replicated(mesh), (length, *array.shape[1:]))

    source = {name: grown(array) for name, array in subject.arrays.items()}
    return source, jax.ShapeDtypeStruct(batch, np.int32, sharding=split)


def _shape(leaf: Any, sharding: Any, shape: tuple[int, ...] | None = None) -> Any:
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
    return jax.ShapeDtypeStruct(leaf.shape if shape is None else shape, dtype, sharding=sharding)
