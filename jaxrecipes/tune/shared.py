"""What the trials of one process share: the data, and the programs of trials that differ in numbers
alone.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.config import to_dict
from jaxrecipes.data.examples import Examples
from jaxrecipes.data.fingerprint import Fingerprint
from jaxrecipes.fields import data_paths
from jaxrecipes.runs.data import fingerprint_of, recipe_data
from jaxrecipes.runs.init_from import with_init_from
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.train.config import DataConfig, RunConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.run_data import RunData, examples_per_step, reordered

_MOST_KEPT = 4


class Shared:
    """Loads data and makes programs for configs, again only where a config needs others.

    Two configs share programs when they agree in all fields but those that declare hyperparameters
    (`fields.data_paths`) or steer the run from outside of its programs, their hyperparameters have
    one structure (the same names, each with the same kind of schedule), and their plateau and early
    stopping begin alike.

    Args:
      module: the recipe.
      mesh: the devices.
      report_dir: where the data's reader may leave notes.
    """

    def __init__(self, module: RecipeModule, mesh: Mesh, *, report_dir: pathlib.Path):
        self.num_programs = 0
        self._module, self._mesh, self._report_dir = module, mesh, report_dir
        self._splits: dict[str, Mapping[str, Examples]] = {}
        self._data: dict[Any, RunData] = {}
        self._programs: dict[Any, Programs] = {}

    def data(self, config: RunConfig) -> RunData:
        """The data of a run, on the devices where it fits; its feed is the run's own."""
        splits = self._load(config)
        key = self._data_key(config)
        if key not in self._data:
            _make_room(self._data)
            self._data[key] = recipe_data(self._module, config, splits, self._mesh)
        train = splits["train"]
        order = self._module.training_order(config, train, batch_size=examples_per_step(config))
        return reordered(self._data[key], train.arrays, config, order)

    def fingerprint(self, config: RunConfig) -> Fingerprint:
        """Of the splits of a config."""
        return fingerprint_of(self._load(config))

    def _data_key(self, config: RunConfig) -> Any:
        batches = dataclasses.asdict(config.data), config.optim.accumulation_steps
        loop = config.loop.steps_per_call, config.loop.validate_every_steps
        return _splits_key(config), repr((batches, loop))

    def _load(self, config: RunConfig) -> Mapping[str, Examples]:
        """The splits of a config, which are loaded unless they are there."""
        key = _splits_key(config)
        if key not in self._splits:
            _make_room(self._splits)
            self._splits[key] = self._module.load_data(
                config, report_dir=self._report_dir, train=True
            )
        return self._splits[key]

    def recipe(self, config: RunConfig) -> Recipe:
        """The recipe of a config."""
        train = self._load(config)["train"]
        steps_per_epoch = self.data(config).steps_per_epoch
        info = DataInfo.of(train, steps_per_epoch=steps_per_epoch)
        return with_init_from(self._module.make_recipe(config, info), config.init_from)

    def programs(self, config: RunConfig) -> Programs:
        """Programs that train and evaluate the recipe of a config."""
        recipe = self.recipe(config)
        key = _static(config), _structure(recipe)
        if key not in self._programs:
            _make_room(self._programs)
            self._programs[key] = Programs(
                recipe,
                self.data(config),
                steps_per_call=config.loop.steps_per_call,
                mesh=self._mesh,
            )
            self.num_programs += 1
        return self._programs[key]

    def clear(self) -> None:
        """Forgets the programs and what lies on the devices, as after an error there."""
        self._programs, self._data = {}, {}


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= _MOST_KEPT:
        del kept[next(iter(kept))]


# What a run does around its programs.
_OUTSIDE = {"seed", "epochs", "steps", "select_metric", "select_mode"}
_OUTSIDE_SECTIONS = ("plateau.", "early_stopping.")


def _static(config: RunConfig) -> str:
    """The fields that programs depend on, as text."""
    data = data_paths(config) | _OUTSIDE
    kept = {
        name: value
        for name, value in _flat(to_dict(config)).items()
        if name not in data and not name.startswith(_OUTSIDE_SECTIONS)
    }
    return json.dumps(kept, sort_keys=True)


def _structure(recipe: Recipe) -> Any:
    leaves, structure = jax.tree.flatten(dict(recipe.hparams))
    machines = recipe.plateau, recipe.early_stopping
    # The state that a run begins with has one for each, which waits for a lower or higher figure.
    begin = tuple(None if machine is None else machine.mode for machine in machines)
    return structure, tuple(np.shape(leaf) for leaf in leaves), begin


def _splits_key(config: RunConfig) -> str:
    """What the splits may depend on: the data's seed, its own fields, and what the recipe adds
    that is no float.
    """
    fields = to_dict(config)
    shared = {field.name for field in dataclasses.fields(RunConfig)}
    batches = {field.name for field in dataclasses.fields(DataConfig)} - {"path"}
    kept: dict[str, Any] = {name: fields[name] for name in fields.keys() - shared}
    kept = {name: value for name, value in _flat(kept).items() if not isinstance(value, float)}
    data = {name: value for name, value in fields["data"].items() if name not in batches}
    return json.dumps([config.data_seed, kept, data], sort_keys=True)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) and value else {path: value}
    return flat
