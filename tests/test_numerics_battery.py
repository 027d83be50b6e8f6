"""Every public function under what a host program may have set in jax: 64 bits, no implicit
promotion of dtypes, none of ranks.
"""

import re

import jax
import numpy as np
import pytest
from numeric_cases import LOSSES, METRICS, OPTIM, SCHEDULES, STATE
from numeric_inputs import arrays
from numeric_layer_cases import AUGMENT, DRAWS, GEOMETRY, NN
from numeric_modes import all_modes, types

from jaxrecipes import losses, nn, schedules

GROUPS = {
    "losses": LOSSES,
    "metrics": METRICS,
    "optim": OPTIM,
    "schedules": SCHEDULES,
    "state": STATE,
    "nn": NN,
    "geometry": GEOMETRY,
    "augment": AUGMENT,
}
CASES = [(group, name) for group, cases in GROUPS.items() for name in cases]


@pytest.fixture(scope="module")
def inputs():
    return jax.tree.map(np.asarray, arrays())


@pytest.mark.parametrize(("group", "name"), CASES, ids=[" ".join(case) for case in CASES])
def test_types_are_the_same_under_every_setting(inputs, group, name):
    call = GROUPS[group][name]
    wanted = jax.make_jaxpr(call, return_shape=True)(inputs)[1]
    with all_modes():
        program, found = jax.make_jaxpr(call, return_shape=True)(inputs)
    assert types(found) == types(wanted)
    assert not re.search(r"\bf64\[\d", str(program))  # scalars are written out as such


@pytest.mark.parametrize(
    "cases", [SCHEDULES, STATE, OPTIM, DRAWS], ids=["schedules", "state", "optim", "draws"]
)
def test_numbers_are_the_same_under_every_setting(inputs, cases):
    def everything(inputs):
        return {name: call(inputs) for name, call in cases.items()}

    wanted = jax.jit(everything)(inputs)
    with all_modes():
        found = jax.jit(everything)(inputs)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    ("module", "group"), [(losses, "losses"), (schedules, "schedules"), (nn, "nn")]
)
def test_the_battery_knows_every_public_function(module, group):
    known = {"Schedule", "ScheduleLike", "Triplets", "check_text"}  # no functions of numbers
    known |= {"LossWeighting", "WeightingState", "remat_blocks", "run_block"}
    called = {name.split(":")[0] for name in GROUPS[group]}
    assert set(module.__all__) - called <= known
