"""Correlations and errors against SciPy's values with ties, and the logistic fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.correlation import agreement, fit_logistic, krocc, mae, plcc, rmse, srocc

CASES = ["continuous", "ties_x", "ties_both", "ties_clamped", "negative", "two_points"]
CASES += ["constant_pred", "val_size"]


@pytest.mark.parametrize("case", CASES)
def test_all_figures_equal_the_reference(golden, case):
    arrays = golden("clip_iqa/metrics")
    figures = agreement(arrays[f"{case}/x"], arrays[f"{case}/y"])
    for name, value in figures.items():
        np.testing.assert_allclose(value, arrays[f"{case}/{name}"], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan, 0.1], [0.5, np.inf, 0.1], [1, 1, 1]])
def test_undefined_correlations_are_nan_without_a_warning(values, recwarn):
    target = np.arange(len(values), dtype=float)
    for figure in (srocc, plcc, krocc):
        assert np.isnan(figure(values, target))
        assert np.isnan(figure(target, values))
    assert np.isnan(plcc(values, target, fit="logistic5"))
    assert not recwarn.list


@pytest.mark.parametrize("scale", [1.0, -300.0])
@pytest.mark.parametrize("kind", ["logistic4", "logistic5"])
def test_a_logistic_relation_is_fitted_whatever_its_scale(kind, scale):
    x = np.linspace(-4, 4, 60)
    y = 2.0 + 3.0 / (1.0 + np.exp(-1.7 * (x - 0.5)))
    np.testing.assert_allclose(fit_logistic(scale * x + 7, y, kind=kind), y, atol=1e-5)
    assert plcc(scale * x + 7, y, fit=kind) > 0.999999 > abs(plcc(x, y))


def test_too_few_values_for_a_fit_give_nan():
    assert np.isnan(plcc([0.1, 0.2, 0.4], [1, 2, 3], fit="logistic4"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=20))
def test_rank_correlations_do_not_see_increasing_maps(pairs):
    x, y = np.array(pairs, float).T
    for figure in (srocc, krocc):
        np.testing.assert_allclose(figure(np.exp(x), y), figure(x, y), atol=1e-12)
        np.testing.assert_allclose(figure(-x, y), -figure(x, y), atol=1e-12)
    np.testing.assert_allclose(rmse(5 * x, 5 * y), 5 * rmse(x, y), atol=1e-12)
    assert mae(x, y) <= rmse(x, y) + 1e-12


def test_wrong_shapes_and_names_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \(3, 1\) and \(3,\)"):
        srocc(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="Known: logistic4, logistic5"):
        plcc([1, 2, 3], [1, 2, 3], fit="logistic")
