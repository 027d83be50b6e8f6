"""Every number of every recipe's config has bounds, and what lies beyond them is refused."""

import dataclasses
import math
import typing

import pytest
from annotated_types import Interval

from jaxrecipes.bounds import bounds_of
from jaxrecipes.config import load_function
from jaxrecipes.data.augment.pixels import GROUPS
from jaxrecipes.fields import Checked, FieldError, check_fields, declared_hparams, plain, type_hints
from jaxrecipes.recipes.hand_pose.network_config import TemporalConfig
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.train.recipe import DataInfo

NAMES = ("ocec", "face3d", "universal_face", "clip_iqa", "hand_pose")
MEANS = {"mean", "img_mean", "norm_mean"}  # may be any finite numbers


def parts(config):
    yield config
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            yield from parts(value)


def with_number(value, hint, number):
    """`value` with one of its numbers replaced, in every way that its type has: (bounds, value)."""
    origin, args = typing.get_origin(plain(hint)), typing.get_args(plain(hint))
    if plain(hint) in (int, float):
        yield plain(hint), bounds_of(hint), number
    elif origin in (tuple, dict):
        option = args[0] if origin is tuple else args[1]
        for kind, bounds, item in with_number(None, option, number):
            if origin is tuple:
                yield kind, bounds, (item, *value[1:]) if value else (item,)
            else:
                yield kind, bounds, {(1 if plain(args[0]) is int else "x"): item}
    else:
        for option in args:
            yield from with_number(value, option, number)


def beyond(kind, bounds: Interval):
    """Numbers of this kind that the bounds exclude."""
    below, above = (-1, 1) if kind is int else (-1e-6, 1e-6)
    limits = ((bounds.gt, 0), (bounds.ge, below), (bounds.lt, 0), (bounds.le, above))
    yield from (kind(limit + step) for limit, step in limits if limit is not None)
    yield from (math.nan, math.inf, -math.inf, 1e39) if kind is float else (2**40, True, 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_beyond_its_fields_bounds_is_refused_by_name(name):
    tried = 0
    config = load_recipe(name).Config()
    extra = [TemporalConfig()] if name == "hand_pose" else []
    for part in [*parts(config), *extra]:
        assert isinstance(part, Checked)
        for field in dataclasses.fields(part):
            value, hint = getattr(part, field.name), type_hints(type(part))[field.name]
            for kind, bounds, _ in with_number(value, hint, 0):
                assert bounds != Interval() or field.name in MEANS or _tolerated(part, field.name)
                for number in beyond(kind, bounds):
                    for _, _, wrong in with_number(value, hint, number):
                        with pytest.raises(FieldError, match=rf"\.{field.name}\b.* expected "):
                            dataclasses.replace(part, **{field.name: wrong})
                        tried += 1
    assert tried > 200


def _tolerated(part, field):
    """The original takes any whole number for these, and makes it regular."""
    return type(part).__name__ == "OcecConfig" and field in (
        "num_blocks",
        "expansion",
        "se_reduction",
        "token_mixer_layers",
        "token_mixer_grid",
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_keeps_the_bounds(name):
    presets = load_function(f"configs/{name}.py", "PRESETS")
    for preset in presets.values():
        check_fields(preset)
    assert len(presets) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_every_hyperparameter_is_declared_by_a_field(name):
    module = load_recipe(name)
    config = module.Config()
    found = set(module.make_recipe(config, DataInfo(steps_per_epoch=2)).hparams)
    declared = declared_hparams(config, GROUPS["aggressive"])
    assert found <= set(declared)
