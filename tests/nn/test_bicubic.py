"""Bicubic resampling: properties of the matrix (its numbers: DINOv2's and CLIP's golden tests)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.nn.bicubic import bicubic_matrix

sizes = st.integers(1, 40)


@settings(deadline=None, max_examples=40)
@given(old=sizes, new=sizes, antialias=st.booleans())
def test_a_constant_stays_constant(old, new, antialias):
    matrix = bicubic_matrix(old, new, antialias=antialias)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(old=sizes, new=sizes, antialias=st.booleans())
def test_turning_the_axis_around_turns_the_result_around(old, new, antialias):
    matrix = bicubic_matrix(old, new, antialias=antialias)
    np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-9)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_size_changes_nothing(antialias):
    np.testing.assert_allclose(bicubic_matrix(9, 9, antialias=antialias), np.eye(9), atol=1e-12)


def test_antialiasing_widens_the_kernel_when_the_axis_shrinks():
    assert (bicubic_matrix(40, 10)[5] != 0).sum() == 4
    assert (bicubic_matrix(40, 10, antialias=True)[5] != 0).sum() == 16
