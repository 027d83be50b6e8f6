import jax
import numpy as np

from jaxrecipes.rng import stream_key


def draw(seed, stream, step):
    return np.asarray(jax.random.uniform(stream_key(jax.random.key(seed), stream, step)))


def test_seed_stream_and_step_each_change_the_numbers():
    draws = [draw(0, "dropout", 0), draw(1, "dropout", 0), draw(0, "mixup", 0)]
    draws += [draw(0, "dropout", 1)]
    assert len(set(map(float, draws))) == 4


def test_the_same_three_give_the_same_numbers_traced_or_not():
    key = jax.random.key(3)
    traced = jax.jit(lambda step: jax.random.uniform(stream_key(key, "flip", step)))(7)
    assert float(traced) == float(draw(3, "flip", 7))


def test_streams_are_stable_across_versions():
    bits = jax.random.key_data(stream_key(jax.random.key(42), "dropout", 5))
    assert bits.tolist() == [972940203, 2407057094]
