"""The blocks of docs/checkpoints.md do what the page says."""

import re

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from script_runs import ROOT

from jaxrecipes.runs.trained import open_trained

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/checkpoints.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def names(trained, tmp_path_factory):
    """What the page's names are after all of its blocks."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "runs").mkdir()
    (folder / "runs" / "eyes").symlink_to(trained[0])
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(block, names)
        names["again"] = ocp.PyTreeCheckpointer().restore(
            folder / "runs/again" / str(names["step"])
        )
    return names


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_both_ways_give_the_same_weights(names, trained):
    state = open_trained(trained[0], step="latest").state
    assert names["step"] == int(state.step)
    for field in ("params", "batch_stats", "ema_params", "ema_batch_stats"):
        same(names["tree"][field], getattr(state, field))
    same(names["restored"].tree["params"], state.params)
    same(names["part"], {"params": state.params})
    same(names["again"]["params"], state.params)


def test_the_weights_of_open_trained_are_those_of_the_best_step(names, trained):
    best = open_trained(trained[0])
    same(names["params"], best.state.ema_params)
    assert names["logits"].shape == (1,)


def test_the_page_names_every_key_of_the_tree(names):
    page = (ROOT / "docs/checkpoints.md").read_text()
    assert all(f"`{key}`" in page for key in names["tree"])
