import jax
import numpy as np

from jaxrecipes.recipes.faces.reflect import reflect_people

PERSON = np.array([3, 0, 3, 7, 0, 1])


def batch():
    rng = np.random.default_rng(0)
    src, tgt = rng.normal(size=(2, 6, 16)).astype(np.float32)
    return {"src": src, "tgt": tgt, "person": PERSON, "pose": np.ones((6, 3), np.float32)}


def signs_of(given, key, probability):
    out = jax.jit(reflect_people)(jax.random.key(key), given, probability)
    signs = np.asarray(out["src"]) / given["src"]
    np.testing.assert_array_equal(np.asarray(out["tgt"]), signs * given["tgt"])
    np.testing.assert_array_equal(out["pose"], given["pose"])
    return signs


def test_a_persons_pairs_change_sign_together():
    signs = signs_of(batch(), 0, 1.0)
    assert set(np.unique(signs)) == {-1, 1}
    for a in range(6):
        for b in range(6):
            assert (signs[a] == signs[b]).all() == (PERSON[a] == PERSON[b])
    assert (signs != signs_of(batch(), 1, 1.0)).any()


def test_the_probability_is_the_share_of_people_who_are_reflected():
    many = {
        "src": np.ones((4000, 8), np.float32),
        "tgt": np.ones((4000, 8), np.float32),
        "person": np.arange(4000),
        "pose": np.ones((4000, 3), np.float32),
    }
    for probability in (0.0, 0.3, 1.0):
        share = (signs_of(many, 0, probability) < 0).any(axis=1).mean()
        assert abs(share - probability) < 0.03
