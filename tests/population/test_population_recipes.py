"""Members of populations of real recipes equal runs of their own in every bit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_recipes import small_recipes

from jaxrecipes import population
from jaxrecipes.data.feed import fetch
from jaxrecipes.population import PopulationProgram, active_lanes
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import make_train_step

STEPS = 3
# Whether equal bits come out is a matter of how XLA fuses: what users have is tested.
AS_USERS = {"xla_cpu_use_fusion_emitters": True}
DRAWN = {"image": 255, "label": 2, "person": 2, "tokens": 20, "explanation_tokens": 20}


@pytest.fixture(scope="module")
def small():
    return small_recipes()


def batches(shapes, number):
    """STEPS batches of made-up examples, `[S, B, ...]`."""
    rng = np.random.default_rng(number)

    def draw(name, array):
        shape = (STEPS, *array.shape)
        if name in DRAWN:
            return jnp.asarray(rng.integers(0, DRAWN[name], shape), array.dtype)
        return jnp.asarray(rng.random(shape), array.dtype)

    return {name: draw(name, array) for name, array in shapes.items()}


@pytest.mark.parametrize("name", ["ocec avg", "face3d decoder"])
def test_a_member_equals_a_run_of_its_own(small, name):
    recipe, shapes = small[name].recipe, small[name].train
    seeds = (0, 1, 2)
    draw = jax.jit(lambda key: create_state(recipe, key))
    states = [draw(jax.random.key(seed)) for seed in seeds]
    items = [batches(shapes, seed) for seed in seeds]
    train_step = make_train_step(recipe)

    @partial(jax.jit, compiler_options=AS_USERS)
    def alone(state, items, count):
        def body(i, state):
            return train_step(state, jax.tree.map(lambda x: x[i], items))[0]

        return jax.lax.fori_loop(0, count, body, state)

    program = PopulationProgram(recipe, fetch=fetch)
    stacked, given = population.stack(states), population.stack(items)
    sums = program.zeros(stacked, {}, given)
    counts = jnp.array([3, 3, 2], jnp.int32)
    lanes = active_lanes([True, False, True])
    arguments = (stacked, sums, {}, given, counts, *lanes)
    trained, _, _ = program._run.lower(*arguments).compile(AS_USERS)(*arguments)
    for number, count in ((0, 3), (1, 0), (2, 2)):
        own = alone(states[number], items[number], count)
        lane = population.take(trained, number)
        for (path, x), y in zip(
            jax.tree_util.tree_leaves_with_path(lane), jax.tree.leaves(own), strict=True
        ):
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)
