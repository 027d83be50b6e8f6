"""What the trials of one process share: the data, and the programs of trials that differ in numbers
alone.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.config import to_dict
from jaxrecipes.data.examples import Examples
from jaxrecipes.data.fingerprint import Fingerprint
from jaxrecipes.runs.data import fingerprint_of, recipe_data
from jaxrecipes.runs.init_from import with_init_from
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.train.config import DataConfig, RunConfig
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.tune.space import Float, Space

_MAX_PROGRAMS = 4
_SIDES = (0.01, 0.99)  # of a range; its very ends may be special, such as a rate of 0


@dataclasses.dataclass
class _Compiled:
    """Programs, and which configs they serve: those that equal one of `known` but for `numbers`."""

    programs: Programs
    fingerprint: str
    structure: Any
    numbers: frozenset[str]
    known: list[dict[str, Any]]


class Shared:
    """Loads data and makes programs for configs, again only where a config needs others.

    Whether a field is a number (a leaf of `hparams`, and nothing else) is decided once for each
    structure, before it is compiled: the programs of two configs, in which all floats of the space
    lie at the two sides of their ranges, must lower to the same text. From then on a config that
    differs in such fields alone takes the programs without tracing anything.

    Args:
      module: the recipe.
      space: what trials vary.
      mesh: the devices.
      report_dir: where the data's reader may leave notes.
    """

    def __init__(self, module: RecipeModule, space: Space, mesh: Mesh, *, report_dir: pathlib.Path):
        self.num_programs = 0
        self._module, self._space, self._mesh, self._report_dir = module, space, mesh, report_dir
        self._splits_key, self._data_key = "", ""
        self._splits: Mapping[str, Examples] = {}
        self._data: RunData | None = None
        self._compiled: list[_Compiled] = []

    def data(self, config: RunConfig) -> RunData:
        """The data of a run, on the devices where it fits."""
        key = self._load(config)
        batches = dataclasses.asdict(config.data), config.optim.accumulation_steps
        key += repr((batches, config.loop.steps_per_call, config.loop.validate_every_steps))
        if key != self._data_key or self._data is None:
            self._data = None
            self._data = recipe_data(self._module, config, self._splits, self._mesh)
            self._data_key = key
        return self._data

    def fingerprint(self, config: RunConfig) -> Fingerprint:
        """Of the splits of a config."""
        self._load(config)
        return fingerprint_of(self._splits)

    def _load(self, config: RunConfig) -> str:
        """Loads the splits of a config unless they are there; returns what names them."""
        key = _splits_key(config)
        if key != self._splits_key:
            self._splits, self._data = {}, None
            self._splits = self._module.load_data(config, report_dir=self._report_dir, train=True)
            self._splits_key = key
        return key

    def recipe(self, config: RunConfig) -> Recipe:
        """The recipe of a config, whose `data` was asked for before."""
        assert self._data is not None
        recipe = self._module.make_recipe(
            config,
            DataInfo.of(self._splits["train"], steps_per_epoch=self._data.steps_per_epoch),
        )
        return with_init_from(recipe, config)

    def programs(self, config: RunConfig) -> Programs:
        """Programs that train and evaluate the recipe of a config, whose `data` was asked for
        before.
        """
        structure, fields = _structure(self.recipe(config)), _flat(to_dict(config))
        for compiled in self._compiled:
            if structure == compiled.structure and any(
                _differing(fields, known) <= compiled.numbers for known in compiled.known
            ):
                return compiled.programs
        programs, fingerprint = self._lowered(config)
        for compiled in self._compiled:
            if compiled.fingerprint == fingerprint:
                compiled.known.append(fields)
                return compiled.programs
        numbers = self._numbers(config, fingerprint)
        self._compiled = self._compiled[1 - _MAX_PROGRAMS :]
        self._compiled.append(_Compiled(programs, fingerprint, structure, numbers, [fields]))
        self.num_programs += 1
        return programs

    def clear(self) -> None:
        """Forgets the programs and what lies on the devices, as after an error there."""
        self._compiled, self._data, self._data_key = [], None, ""

    def _lowered(self, config: RunConfig) -> tuple[Programs, str]:
        assert self._data is not None
        programs = Programs(
            self.recipe(config),
            self._data,
            steps_per_call=config.loop.steps_per_call,
            mesh=self._mesh,
        )
        return programs, programs.fingerprint(self._data)

    def _numbers(self, config: RunConfig, fingerprint: str) -> frozenset[str]:
        """The parameters that are numbers in programs with this fingerprint."""
        floats = [n for n, d in self._space.parameters.items() if isinstance(d, Float)]

        def are_numbers(names: list[str]) -> bool:
            return all(self._side(config, names, side) == fingerprint for side in _SIDES)

        all_are = are_numbers(floats)
        found = floats if all_are else [name for name in floats if are_numbers([name])]
        names = {*found, *(self._space.derived if all_are else ())}
        return frozenset(names | {f"schedules.{name}" for name in found})

    def _side(self, config: RunConfig, names: Sequence[str], side: float) -> str | None:
        """The fingerprint of a config with some parameters at one side of their ranges; None for a
        combination that is refused.
        """
        floats = {n: d for n, d in self._space.parameters.items() if isinstance(d, Float)}
        try:
            values = {name: floats[name].at(side) for name in names}
            return self._lowered(self._space.config(config, values))[1]
        except ValueError:
            return None


def _structure(recipe: Recipe) -> Any:
    leaves, structure = jax.tree.flatten(dict(recipe.hparams))
    return structure, [np.shape(leaf) for leaf in leaves]


def _splits_key(config: RunConfig) -> str:
    """What the splits may depend on: the seed, the data's own fields, and what the recipe adds
    that is no float.
    """
    fields = to_dict(config)
    shared = {field.name for field in dataclasses.fields(RunConfig)} - {"seed", "data"}
    batches = {field.name for field in dataclasses.fields(DataConfig)} - {"path"}
    kept: dict[str, Any] = {name: fields[name] for name in fields.keys() - shared - {"data"}}
    kept = {name: value for name, value in _flat(kept).items() if not isinstance(value, float)}
    data = {name: value for name, value in fields["data"].items() if name not in batches}
    return json.dumps([kept, data], sort_keys=True)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        path = f"{prefix}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) and value else {path: value}
    return flat


def _differing(fields: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    missing = object()
    return {
        name
        for name in fields.keys() | other.keys()
        if fields.get(name, missing) != other.get(name, missing)
    }
