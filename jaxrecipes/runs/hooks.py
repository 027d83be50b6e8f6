"""The names in a recipe's module: the three required ones, and the optional hooks."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Hook:
    """A function that a recipe may have.

    Attributes:
      call: its arguments; those after "*" are passed by name.
      file: for recipes that are packages, the file that contains it.
      purpose: what a recipe cannot
        do without it; empty if there is a default.
    """

    call: str
    file: str
    purpose: str = ""

    def fits(self, function: Callable[..., Any]) -> bool:
        """Whether the function takes the arguments."""
        positional, _, named = self.call.partition(", *, ")
        try:
            inspect.signature(function).bind(
                *positional.split(", "), **dict.fromkeys(named.split(", ") if named else ())
            )
        except TypeError:
            return False
        return True


HOOKS = {
    "check_config": Hook("config", "recipe"),
    "training_order": Hook("config, train, *, batch_size", "data"),
    "stand_in": Hook("config", "data"),
    "load_inputs": Hook("config, inputs", "data"),
    "prediction_columns": Hook("config, examples, outputs", "report"),
    "write_report": Hook("config, split, evaluation, examples, folder", "report"),
    "write_samples": Hook("recipe, examples, hparams, path", "report"),
    "deployed": Hook("trained", "deploy"),
    "import_torch": Hook("source, workdir, *, use_torch", "original", "read a PyTorch checkpoint"),
    "export_torch": Hook("trained, target, *, weights", "original", "write a PyTorch checkpoint"),
    "get_config": Hook("preset", "presets"),
    "search_space": Hook("config", "presets"),
    "known_sensitivities": Hook("config", "presets"),
}
_ESSENTIALS = {
    "Config": "its config, a frozen dataclass derived from jaxrecipes.train.config.RunConfig",
    "load_data": "load_data(config), its splits by name",
    "make_recipe": "make_recipe(config, data), a jaxrecipes.train.Recipe",
}
_CALLS = {"load_data": Hook("config", ""), "make_recipe": Hook("config, data", "")}


def check_names(names: Any, where: str) -> None:
    """Checks the names of a module that is a recipe.

    Args:
      names: the module.
      where: its name in messages.

    Raises:
      ValueError: a required name is missing, a function takes other arguments, or its name is
        almost that of a hook.
    """
    for name, what in _ESSENTIALS.items():
        if not hasattr(names, name):
            near = difflib.get_close_matches(name, vars(names), 1)
            meant = f" (did you mean {name} by {near[0]}?)" if near else ""
            raise ValueError(f"{where} has no {name}{meant}; a recipe has {what}")
    if not isinstance(names.Config, type) or not dataclasses.is_dataclass(names.Config):
        raise ValueError(f"{where}: Config is not a dataclass; expected {_ESSENTIALS['Config']}")
    for name, hook in {**_CALLS, **HOOKS}.items():
        function = getattr(names, name, None)
        if function is not None:
            check_call(function, name, hook, where)
    own = {
        name
        for name, value in vars(names).items()
        if inspect.isfunction(value) and value.__module__ == names.__name__ and name[0] != "_"
    }
    for name in sorted(own - HOOKS.keys() - _ESSENTIALS.keys()):
        near = difflib.get_close_matches(name, HOOKS, 1, cutoff=0.85)
        if near and not hasattr(names, near[0]):
            raise ValueError(
                f"{where} has {name}, which nothing calls; did you mean the hook {near[0]}? "
                "Otherwise begin its name with an underscore"
            )


def check_call(function: Any, name: str, hook: Hook, where: str) -> None:
    """Raises a ValueError for what is not a function, or takes other arguments than the hook's."""
    if not callable(function) or not hook.fits(function):
        has = f"{name}{inspect.signature(function)}" if callable(function) else repr(function)
        raise ValueError(f"{where} has {has}; it is called as {name}({hook.call})")
