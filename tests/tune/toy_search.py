"""Searches over the toy recipe of the training loop's tests, as a recipe module of its own."""

import dataclasses
import types
from typing import ClassVar

from toy_recipe import toy_arrays, toy_config, toy_hparams, toy_recipe

from jaxrecipes.config import to_dict
from jaxrecipes.fields import Hparam, NonNegative, Share, hparam
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.train.build import shared_parts
from jaxrecipes.train.config import EmaConfig, RunConfig, require
from jaxrecipes.train.hparams import collect
from jaxrecipes.tune.search import Search
from jaxrecipes.tune.space import Float, Space
from jaxrecipes.tune.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyRunConfig(RunConfig):
    RECIPE: ClassVar[str] = "toy"

    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(decay=0.9))
    dropout: Hparam[Share] = hparam(0.2, name="dropout_rate")
    """A number of the recipe."""
    l2: Hparam[NonNegative] = hparam(0.1, name="loss_weight/l2")
    """Another one."""
    input_scale: float = 1.0
    """A constant of the program, although it is a float."""
    width: int = 8
    """Structure."""


def toy_run_config(**fields):
    base = toy_config(epochs=2)
    shared = {f.name: getattr(base, f.name) for f in dataclasses.fields(base) if f.name != "ema"}
    return ToyRunConfig(**(shared | fields))


@dataclasses.dataclass(frozen=True)
class Examples:
    arrays: dict
    left_out: int = 0

    @property
    def identity(self):
        return self.arrays

    def __len__(self):
        return len(self.arrays["x"])


class ToyModule:
    """The names of a recipe; counts how often its data is loaded."""

    Config = ToyRunConfig

    def __init__(self):
        self.loads = 0

    def check_config(self, config):
        require(config.width <= 12, f"width is {config.width}; at most 12")

    def load_data(self, config):
        self.loads += 1
        return {"train": Examples(toy_arrays()), "val": Examples(toy_arrays(20, seed=1))}

    def make_recipe(self, config, data):
        require(config.width != 11, "width is 11, which this recipe cannot do")
        found = collect(config, data.steps_per_epoch)
        names = ("learning_rate", "dropout_rate", "ema_decay", "loss_weight/l2")
        hparams = {name: found[name] for name in names if name in found}
        scale = config.input_scale
        recipe = toy_recipe(hparams=toy_hparams(**hparams), width=config.width)
        parts = shared_parts(config, data.steps_per_epoch)
        return dataclasses.replace(recipe, inputs=lambda batch: scale * batch["x"], **parts)


NUMBERS = Space({"optim.learning_rate": Float(1e-3, 1e-1, log=True), "dropout": Float(0.0, 0.5)})


def toy_study(workdir, space=NUMBERS, *, config=None, **options):
    config = config or toy_run_config()
    options = {"storage": f"sqlite:///{workdir}/study.db", "pruner": "none"} | options
    workdir.mkdir(parents=True, exist_ok=True)
    return Study(
        workdir,
        name="toy",
        config=to_dict(config),
        space=space,
        base=config,
        mode=config.select_mode,
        **options,
    )


def toy_search(
    workdir, space=NUMBERS, *, config=None, module=None, shared=None, together=None, **options
):
    """`shared` of an earlier search saves the time to compile; `together` is the population's."""
    config = config or toy_run_config()
    study = toy_study(workdir, space, config=config, **options)
    recipe = RecipeModule("toy", module or ToyModule())
    search = Search(recipe, config, space, study, **(together or {}))
    search.shared = search.configs.shared = shared or search.shared
    return types.SimpleNamespace(
        run=search.run,
        shared=search.shared,
        study=study,
        space=space,
        configs=search.configs,
    )
