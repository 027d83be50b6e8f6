"""A population's lanes against runs of their own, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_hparams, toy_recipe

from jaxrecipes import population
from jaxrecipes.data.feed import fetch
from jaxrecipes.data.order import BatchOrder
from jaxrecipes.population import PopulationProgram, active_lanes
from jaxrecipes.schedules import cosine
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import make_train_step

RATES = (0.02, 0.05, 0.08, 0.3)
STEPS, BATCH = 5, 16
SOURCE = jax.tree.map(jnp.asarray, toy_arrays(64))


def member(number):
    """The state of a trial with its own seed and numbers."""
    hparams = toy_hparams(learning_rate=cosine(RATES[number], steps=20), dropout_rate=0.1 * number)
    return create_state(toy_recipe(hparams=hparams), jax.random.key(number), hparams=hparams)


def items(number, start=0, count=STEPS):
    """The examples of a trial's steps, in the order of its own seed."""
    order = BatchOrder(64, BATCH, seed=number)
    return jnp.asarray(np.stack([order.indices(start + i) for i in range(count)]))


@pytest.fixture(scope="module")
def recipe():
    return toy_recipe(hparams=toy_hparams(learning_rate=cosine(1.0, steps=20)))


@pytest.fixture(scope="module")
def alone(recipe):
    """`(member, steps) -> state` of a run of its own."""
    train_step = make_train_step(recipe)

    @jax.jit
    def run(state, source, items, count):
        def body(i, state):
            return train_step(state, fetch(source, items[i]))[0]

        return jax.lax.fori_loop(0, count, body, state)

    return lambda number, steps=STEPS: run(member(number), SOURCE, items(number), steps)


@pytest.fixture(scope="module")
def program(recipe):
    return PopulationProgram(recipe, fetch=fetch)


def train(program, numbers, *, counts=None, active=None, states=None):
    """The lanes after up to STEPS steps; lane i holds the trial numbers[i]."""
    states = population.stack([member(n) for n in numbers]) if states is None else states
    given = jnp.stack([items(n) for n in numbers])
    counts = jnp.full(len(numbers), STEPS, jnp.int32) if counts is None else jnp.asarray(counts)
    sums = program.zeros(states, SOURCE, given)
    lanes = active_lanes(np.ones(len(numbers), bool) if active is None else active)
    return program(states, sums, SOURCE, given, counts, *lanes)


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(other), strict=True
    ):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), jax.tree_util.keystr(path)


def test_every_lane_equals_a_run_of_its_own_in_every_bit(program, alone):
    states, _, _ = train(program, [0, 1, 2, 3])
    for number in range(4):
        assert_same(population.take(states, number), alone(number))


def test_a_lane_does_not_depend_on_its_place_or_its_neighbours(program, alone):
    states, _, _ = train(program, [3, 3, 1, 0])
    for lane, number in enumerate([3, 3, 1, 0]):
        assert_same(population.take(states, lane), alone(number))


def test_each_lane_takes_its_own_number_of_steps(program, alone):
    counts = [2, 5, 0, 1]
    states, _, log = train(program, [0, 1, 2, 3], counts=counts)
    for number, count in enumerate(counts):
        assert_same(population.take(states, number), alone(number, count))
    assert float(log["loss"][2]) == 0.0


def test_a_lane_that_is_not_active_keeps_every_bit(program, alone):
    states, sums, _ = train(program, [0, 1, 2, 3], active=[True, False, True, False])
    for number in (1, 3):
        assert_same(population.take(states, number), member(number))
        assert float(sums["loss"].count[number]) == 0.0
    for number in (0, 2):
        assert_same(population.take(states, number), alone(number))


def test_nan_in_one_lane_changes_no_bit_of_another(program, alone):
    states = population.stack([member(n) for n in range(4)])
    spoilt = jax.tree.map(lambda x: x * jnp.nan, member(2).params)
    states = population.put(states, 2, member(2).replace(params=spoilt))
    states, _, _ = train(program, [0, 1, 2, 3], states=states)
    for number in (0, 1, 3):
        assert_same(population.take(states, number), alone(number))
    assert int(states.num_skipped[2]) == STEPS


def test_a_trial_takes_over_a_lane_without_a_compilation(program, alone):
    states, _, _ = train(program, [0, 1, 2, 3])
    before = program.num_compilations
    states = population.put(states, 1, member(3))
    third = population.take(states, 3)
    states, _, _ = train(program, [0, 3, 2, 3], states=states, active=[False, True, False, False])
    assert_same(population.take(states, 1), alone(3))
    assert_same(population.take(states, 3), third)
    assert program.num_compilations == before


def test_sums_and_logs_are_those_of_each_lane(program):
    _, sums, log = train(program, [0, 1, 2, 3])
    _, own_sums, own_log = train(program, [1, 1, 1, 1])
    assert_same(population.take(sums, 1), population.take(own_sums, 3))
    assert_same(population.take(log, 1), population.take(own_log, 0))
    assert float(sums["loss"].count[1]) == STEPS


@pytest.fixture(scope="module")
def chunked(recipe):
    return PopulationProgram(recipe, fetch=fetch, chunk=3)


class TestChunks:
    def test_agree_with_runs_of_their_own(self, chunked, alone):
        states, _, _ = train(chunked, [0, 1, 2, 3], counts=[1, 1, 1, 1])
        for number in range(4):
            lane, own = population.take(states, number), alone(number, 1)
            for x, y in zip(jax.tree.leaves(lane.params), jax.tree.leaves(own.params), strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)

    def test_give_the_same_bits_again(self, chunked):
        assert_same(*(train(chunked, [0, 1, 2, 3])[0] for _ in range(2)))

    def test_hold_lanes_that_are_done_or_not_active(self, chunked):
        active = [True, True, False, True]
        states, _, log = train(chunked, [0, 1, 2, 3], counts=[5, 2, 5, 0], active=active)
        assert states.step.tolist() == [5, 2, 0, 0]
        assert_same(population.take(states, 3), member(3))
        assert_same(population.take(states, 2), member(2))
        assert float(log["loss"][1]) > 0.0

    def test_want_a_size(self, recipe):
        with pytest.raises(ValueError, match="chunk is 0; expected 1 or more"):
            PopulationProgram(recipe, fetch=fetch, chunk=0)


def test_members_of_another_structure_are_refused_by_name():
    wide = create_state(toy_recipe(width=9), jax.random.key(0))
    with pytest.raises(ValueError, match=r"member 1: .*kernel.* is float32\[6, 9\], that of"):
        population.stack([create_state(toy_recipe(), jax.random.key(0)), wide])
    plain = create_state(toy_recipe(ema=False), jax.random.key(0))
    with pytest.raises(ValueError, match="member 1 has another structure than member 0: "):
        population.stack([create_state(toy_recipe(), jax.random.key(0)), plain])
    with pytest.raises(ValueError, match="expected at least one"):
        population.stack([])


def test_the_past_of_a_member_is_one_plain_run(recipe):
    """Two exchanges, and then a plain run of the founder under the schedule that they amount to."""
    names = ["learning_rate", "dropout_rate"]
    base = toy_hparams(learning_rate=cosine(0.1, steps=20))
    with_factors = population.with_factors(base, names)
    moving = toy_recipe(hparams=with_factors)
    program = PopulationProgram(moving, fetch=fetch)
    states = population.stack(
        [create_state(moving, jax.random.key(n), hparams=with_factors) for n in range(3)]
    )
    orders = [0, 1, 2]  # whose order of data each lane follows
    products = [dict.fromkeys(names, 1.0) for _ in orders]
    moves = []
    lanes = active_lanes(np.ones(3, bool))
    for start, exchanges in (
        (0, [(0, 2, {"learning_rate": 0.8, "dropout_rate": 1.25})]),
        (3, [(1, 0, {"learning_rate": 1.25, "dropout_rate": 0.8})]),
        (6, []),
    ):
        given = jnp.stack([items(n, start, 3) for n in orders])
        sums = program.zeros(states, SOURCE, given)
        counts = jnp.full(3, 3, jnp.int32)
        states, _, _ = program(states, sums, SOURCE, given, counts, *lanes)
        for number, source, factors in exchanges:
            moves.append(population.Move(start + 3, number, source, factors))
            products[number] = {n: products[source][n] * factors[n] for n in names}
            orders[number] = orders[source]
            copied = population.scaled(population.take(states, source), products[number])
            states = population.put(states, number, copied)
    assert program.num_compilations == 1

    lineage = population.Lineage.of(1, moves)
    assert lineage.founder == 2
    own = lineage.hparams(base)
    plain = make_train_step(toy_recipe(hparams=own))
    state = create_state(toy_recipe(hparams=own), jax.random.key(2), hparams=own)

    @jax.jit
    def run(state, items):
        def body(i, state):
            return plain(state, fetch(SOURCE, items[i]))[0]

        return jax.lax.fori_loop(0, 9, body, state)

    state = run(state, items(2, 0, 9))
    member_1 = population.take(states, 1)
    for field in ("params", "batch_stats", "opt_state", "ema_params", "step", "key"):
        assert_same(getattr(member_1, field), getattr(state, field))


def test_a_founder_has_no_changes():
    lineage = population.Lineage.of(0, [population.Move(3, 1, 0, {"learning_rate": 0.5})])
    assert lineage == population.Lineage(0)
    assert lineage.hparams(toy_hparams()) == toy_hparams()
