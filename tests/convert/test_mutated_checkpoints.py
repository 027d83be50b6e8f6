"""The dicts of the originals' checkpoints with one value gone or of another kind: one line each."""

import functools
import math
import random

import numpy as np
import pytest

from jaxrecipes.convert import load_torch
from jaxrecipes.recipes.face3d import original as face3d
from jaxrecipes.recipes.ocec import original as ocec
from jaxrecipes.recipes.universal_face import original as universal_face

GONE = object()
VALUES = (GONE, None, "text", [], {}, math.nan, math.inf, 10**30, -1, 2.5, np.zeros((2, 2)))
FILES = {
    "ocec": "original_checkpoint__baseline.pt",
    "face3d": "original_checkpoint_epoch_10.pth",
    "universal_face": "original_checkpoint_epoch_10.pth",
}
SAMPLE = 120  # of about a thousand for each file, drawn anew when this number changes
IMPORTED = ("optimizer", "scheduler")


def places(value, path=()):
    """Paths to all values; of many tensors or parameters to the first alone."""
    if path:
        yield path
    if isinstance(value, dict):
        alike = len(value) > 3 and all(isinstance(x, np.ndarray | dict) for x in value.values())
        for key in list(value)[: 1 if alike else None]:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list | tuple) and value:
        yield from places(value[0], (*path, 0))


def changed(value, path, new):
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[key] = changed(value[key], rest, new)
    elif new is GONE:
        del copy[key]
    else:
        copy[key] = new
    return tuple(copy) if isinstance(value, tuple) else copy


SHAPES = {
    "ocec": (ocec, "_template"),
    "face3d": (face3d, "face3d_shapes"),
    "universal_face": (universal_face, "template"),
}


@pytest.fixture(params=FILES)
def program(request, monkeypatch, golden, imported):
    """(checkpoint, function that imports such a one); shapes are kept."""
    module, name = SHAPES[request.param]
    monkeypatch.setattr(module, name, functools.cache(getattr(module, name)))
    good = load_torch(golden.path / request.param / FILES[request.param])
    return good, functools.partial(imported, request.param)


def test_a_changed_value_is_taken_or_named_in_one_line(program):
    good, read = program
    read(good)
    everywhere = [(path, value) for path in places(good) for value in VALUES]
    for path, value in random.Random(0).sample(everywhere, SAMPLE):
        message = "FILE.pt"
        try:
            read(changed(good, path, value))
        except ValueError as error:
            message = str(error)
        assert "FILE.pt" in message, path
        assert "\n" not in message, path
        assert len(message) < 500, path


def test_every_key_of_optimizer_and_scheduler_that_is_needed_is_named(program):
    good, read = program
    needed = {"param_groups", "lr", "betas", "params", "step", "exp_avg", "exp_avg_sq", "_last_lr"}
    for path in places(good):
        used = path[0].startswith(IMPORTED) and "_schedulers" not in path
        if used and path[-1] in needed:
            with pytest.raises(ValueError, match=f"has no '{path[-1]}'"):
                read(changed(good, path, GONE))
            with pytest.raises(ValueError, match=path[-1]):
                read(changed(good, path, "text"))


def test_moments_that_no_training_has_are_refused(program):
    good, read = program
    for path in places(good):
        if path[-1] in ("exp_avg", "exp_avg_sq"):
            old = functools.reduce(lambda value, key: value[key], path, good)
            with pytest.raises(ValueError, match=rf"{path[-1]}.*not finite"):
                read(changed(good, path, np.full_like(old, np.nan)))
            if path[-1] == "exp_avg_sq":
                with pytest.raises(ValueError, match="squares below 0"):
                    read(changed(good, path, np.full_like(old, -1)))
