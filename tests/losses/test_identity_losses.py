import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.losses import (
    id_similarity,
    orthogonality,
    pose_bin,
    pose_consistency,
    pose_l1,
    reconstruction,
    similarity_protection,
)

MARGINS = ["margin0p0", "margin0p0_b", "margin0p01", "margin0p01_b"]


def close_to_max(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-6 * np.abs(expected).max())


@jax.jit
def identity_terms(codes, base, projection, target, margin):
    def mean(name):
        def term(codes, base, projection):
            projected = codes @ projection.T
            terms = {
                "": lambda: similarity_protection(base, projected, target, margin=margin),
                "id_similarity": lambda: id_similarity(projected, target),
                "reconstruction": lambda: reconstruction(projected, target),
            }
            return terms[name]().mean()

        return jax.value_and_grad(term, argnums=(0, 1, 2))(codes, base, projection)

    return {name: mean(name) for name in ("", "id_similarity", "reconstruction")}


@pytest.mark.parametrize("case", MARGINS)
def test_identity_terms_and_gradients_equal_the_original(golden, case):
    arrays = golden("universal_face/losses")
    case = {key.split("/")[2]: x for key, x in arrays.items() if key.startswith(f"simprot/{case}/")}
    names = ("id_features", "base_features", "proj", "tgt", "margin")
    found = identity_terms(*(case[name] for name in names))
    for name, (value, (codes, base, projection)) in found.items():
        # A cosine's rounding, 1e-7, is more of the protection: 1e-3 is left of the cosines.
        np.testing.assert_allclose(value, case[name or "value"], rtol=1e-6, atol=2e-8)
        prefix = f"{name}_grad" if name else "grad"
        close_to_max(codes, case[f"{prefix}_id"])
        close_to_max(projection, case[f"{prefix}_proj"])
        if not name:
            close_to_max(base, case["grad_base"])


@pytest.mark.parametrize("case", ["p1", "p36", "p7_unnormalised"])
def test_pose_consistency_and_bins_equal_the_original(golden, case):
    arrays = golden("universal_face/losses")
    features, angles, prototypes, value, slope, bins = (
        arrays[f"posecons/{case}/{name}"]
        for name in (
            *("pose_features", "pose_angles", "prototypes"),
            *("value", "grad", "target_index"),
        )
    )

    def loss(features):
        return pose_consistency(features, prototypes, angles).mean()

    ours, grad = jax.jit(jax.value_and_grad(loss))(features)
    np.testing.assert_array_equal(pose_bin(angles[:, 0], len(prototypes)), bins)
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    np.testing.assert_allclose(grad, slope, atol=1e-6 * max(np.abs(slope).max(), 1e-6))


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_orthogonality_and_gradients_equal_the_original(golden, case):
    arrays = golden("universal_face/losses")
    id_weight, pose_weight, value, id_slope, pose_slope = (
        arrays[f"ortho/{case}/{name}"]
        for name in ("W_id", "W_pose", "value", "grad_W_id", "grad_W_pose")
    )
    ours, grads = jax.jit(jax.value_and_grad(orthogonality, (0, 1)))(id_weight.T, pose_weight.T)
    np.testing.assert_allclose(ours, value, rtol=1e-6)
    close_to_max(grads[0].T, id_slope)
    close_to_max(grads[1].T, pose_slope)


def test_orthogonal_kernels_cost_nothing_and_have_no_gradient():
    basis = jnp.eye(4)
    value, grads = jax.jit(jax.value_and_grad(orthogonality, (0, 1)))(basis[:, :2], basis[:, 2:])
    assert value == 0
    for grad in grads:
        np.testing.assert_array_equal(grad, 0)


@jax.jit
def protection(base, projected, target, margins):
    def total(margin):
        return similarity_protection(base, projected, target, margin=margin)

    return jax.vmap(total)(margins)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_margin_never_costs_more(seed, low, more):
    draw = np.random.default_rng(seed).normal(size=(3, 8, 6)).astype(np.float32)
    narrow, wide = protection(*draw, jnp.array([low, low + more]))
    assert (narrow >= wide).all()
    assert (wide >= 0).all()


def test_yaw_index_chooses_the_entry_that_is_binned():
    prototypes = jnp.eye(3)
    pose = jnp.array([[-90.0, 90.0, 0.0]])
    for index, nearest in ((0, 0), (1, 2), (2, 1)):
        loss = pose_consistency(prototypes[nearest][None], prototypes, pose, yaw_index=index)
        assert loss[0] < 1e-3


def test_pose_error_is_the_mean_over_the_three_degrees():
    error = pose_l1(jnp.array([[1.0, -2.0, 3.0]]), jnp.array([[0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(error, [2.0])


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="of equal width"):
        pose_consistency(jnp.ones((2, 3)), jnp.ones((5, 4)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="with equal D"):
        orthogonality(jnp.ones((4, 2)), jnp.ones((5, 2)))
    with pytest.raises(ValueError, match="shape"):
        pose_l1(jnp.ones((2, 3)), jnp.ones((2, 2)))
