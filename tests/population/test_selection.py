"""Who stops, and who takes over from whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrecipes.population import exploit, explore, rungs, survivors, with_factors
from jaxrecipes.schedules import constant, evaluate

SCORES = st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=20)


def test_rungs_grow_by_eta_up_to_the_last_epoch():
    assert rungs(1, 27, eta=3) == (1, 3, 9)
    assert rungs(2, 2, eta=2) == ()
    with pytest.raises(ValueError, match="expected min_epochs >= 1 and eta >= 2; got 1 and 1"):
        rungs(1, 9, eta=1)


@given(SCORES, st.integers(2, 5), st.sampled_from(["min", "max"]), st.randoms())
def test_survivors_are_the_best_of_the_active(scores, eta, mode, random):
    active = np.array([random.random() < 0.7 for _ in scores])
    going_on = survivors(np.array(scores), active, eta=eta, mode=mode)
    assert not (going_on & ~active).any()
    assert going_on.sum() == (max(1, active.sum() // eta) if active.any() else 0)
    sign = 1 if mode == "min" else -1
    lower = np.where(np.isnan(scores), np.inf, sign * np.array(scores))
    stopped = active & ~going_on
    if stopped.any():
        assert lower[going_on].max() <= lower[stopped].min()


def test_of_equal_scores_the_first_member_goes_on():
    going_on = survivors(np.array([2.0, 1.0, 1.0, 1.0]), np.ones(4, bool), eta=4, mode="min")
    assert going_on.tolist() == [False, True, False, False]


@given(SCORES, st.sampled_from(["min", "max"]), st.integers(0, 9))
def test_the_worst_copy_some_of_the_best(scores, mode, seed):
    copied = exploit(np.array(scores), np.random.default_rng(seed), mode=mode)
    assert len(copied) == len(scores) // 4
    assert not set(copied) & set(copied.values())
    assert copied == exploit(np.array(scores), np.random.default_rng(seed), mode=mode)
    sign = 1 if mode == "min" else -1
    lower = np.where(np.isnan(scores), np.inf, sign * np.array(scores))
    for member, source in copied.items():
        assert lower[source] <= lower[member]


def test_only_active_members_take_part():
    active = np.array([True, False, True, False, True, True])
    scores = np.array([3.0, 0.0, 2.0, 9.0, 1.0, 4.0])
    copied = exploit(scores, np.random.default_rng(0), mode="min", active=active)
    assert copied == {5: 4}
    with pytest.raises(ValueError, match=r"share is 0.6; expected 0 < share <= 0.5"):
        exploit(scores, np.random.default_rng(0), mode="min", share=0.6)


def test_factors_are_drawn_from_those_given():
    found = explore(["a", "b"] * 20, np.random.default_rng(1), factors=(0.5, 2.0))
    assert set(found.values()) == {0.5, 2.0}


def test_a_factor_of_one_changes_no_bit():
    values = np.float32(np.random.default_rng(0).random(50))
    for value in values:
        hparams = {"learning_rate": constant(float(value))}
        moved = with_factors(hparams, ["learning_rate"])
        assert evaluate(moved, 3) == evaluate(hparams, 3)
    with pytest.raises(ValueError, match="no hyperparameter is called 'rate'; known: "):
        with_factors(hparams, ["rate"])
