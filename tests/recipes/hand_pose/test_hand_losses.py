import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import composite_loss
from jaxrecipes.models.hand.model import HandModel
from jaxrecipes.models.hand.rotations import from_axis_angle
from jaxrecipes.recipes.hand_pose.joint_errors import hand_errors
from jaxrecipes.recipes.hand_pose.losses import (
    hand_predictions,
    hand_scale,
    hand_targets,
    hand_terms,
)

WEIGHTS = {"theta": 3.0, "shape": 3.0, "trans": 0.05, "joint_rel": 0.012, "joint_img": 0.002}
HPARAMS = {f"loss_weight/{name}": weight for name, weight in WEIGHTS.items()}
LABELS = (
    "mano_pose",
    "mano_shape",
    "mano_valid",
    "joint_cam",
    "joint_rel",
    "joint_valid",
    "focal",
    "princpt",
)


@pytest.fixture(scope="module")
def model(golden):
    arrays = golden("hand_pose/mano_lbs")
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "hands_mean")
    return HandModel(
        **{name: arrays[f"mano/{name}"] for name in names},
        joint_regressor=arrays["mano/joint_regressor_21"],
        faces=arrays["mano/f"].astype(np.int32),
    )


@pytest.fixture(scope="module")
def seed(golden):
    return golden("hand_pose/loss_seed")


@pytest.fixture(scope="module")
def batch(seed):
    return {name: jnp.asarray(seed[f"in/{name}"]) for name in LABELS}


@pytest.fixture(scope="module")
def raw(seed):
    names = ("pose_pred", "shape_pred", "logit_x", "logit_y", "logit_z")
    return {name: jnp.asarray(seed[f"in/{name}"]) for name in names}


@pytest.fixture(scope="module")
def centers(seed):
    return tuple(jnp.asarray(seed[f"in/centers_{axis}"]) for axis in "xyz")


def outputs_of(raw, centers):
    log_heatmaps = {axis: jax.nn.log_softmax(raw[f"logit_{axis}"]) for axis in "xyz"}
    trans = [jnp.exp(log_heatmaps[axis]) @ c for axis, c in zip("xyz", centers, strict=True)]
    return {
        "pose": raw["pose_pred"],
        "betas": raw["shape_pred"],
        "trans": jnp.stack(trans, -1),
    } | {f"log_heatmap_{axis}": x for axis, x in log_heatmaps.items()}


@pytest.fixture(scope="module")
def loss(model, centers):
    """Of predictions as the original's tests have them; compiled once for each kind."""

    def objective(raw, batch, delta, *, heatmap=True, fk_grad=True, norm_eps=1e-6, **options):
        outputs = outputs_of(raw, centers)
        predictions = hand_predictions(model, outputs, batch, fk_grad=fk_grad, norm_eps=norm_eps)
        terms = hand_terms(
            outputs,
            predictions,
            batch,
            centers=centers if heatmap else None,
            norm_eps=norm_eps,
            reproj_delta=delta,
            **options,
        )
        return composite_loss(terms, HPARAMS, mask=batch.get("mask"))

    kinds = ("heatmap", "fk_grad", "norm_eps", "reduction")
    return jax.jit(jax.value_and_grad(objective, has_aux=True), static_argnames=kinds)


def check(found, arrays, name):
    (value, log), gradients = found
    np.testing.assert_allclose(value, arrays[f"out/{name}/loss"], rtol=2e-6)
    for term in WEIGHTS:
        np.testing.assert_allclose(
            log[f"loss/{term}"], arrays[f"out/{name}/loss_{term}"], rtol=5e-6, err_msg=term
        )
    for key, gradient in gradients.items():
        expected = arrays[f"grad/{name}/{key}"]
        limit = 2e-5 * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, atol=limit, rtol=0, err_msg=key)


@pytest.mark.parametrize("name", ["heatmap", "l1trans"])
def test_terms_and_gradients_without_a_gradient_through_the_hand(seed, raw, batch, loss, name):
    found = loss(raw, batch, None, heatmap=name == "heatmap", fk_grad=False, norm_eps=0.0)
    check(found, seed, name)


@pytest.mark.parametrize("name", ["l1", "robust_l1"])
def test_terms_and_gradients_through_the_hand(golden, raw, batch, loss, name):
    arrays = golden("hand_pose/loss_fk_grad")
    delta = None if name == "l1" else float(arrays["cfg/robust_delta"])
    check(loss(raw, batch, delta), arrays, name)


@pytest.fixture(scope="module")
def evaluated(model):
    """Scale, predictions, targets, terms and errors of a batch, in one program for each kind."""

    def run(outputs, batch, centers, norm_eps, *, joint_type="3", last_frame=False):
        rotations = {"joint_type": joint_type}
        predictions = hand_predictions(model, outputs, batch, norm_eps=norm_eps, **rotations)
        targets = hand_targets(model, batch, **rotations)
        terms = hand_terms(outputs, predictions, batch, centers=centers, norm_eps=norm_eps)
        errors = hand_errors(predictions, targets, batch, last_frame=last_frame)
        return predictions, targets, composite_loss(terms, HPARAMS), errors

    return jax.jit(run, static_argnames=("joint_type", "last_frame"))


@pytest.fixture(scope="module")
def outputs(raw, centers):
    return jax.jit(outputs_of)(raw, centers)


def test_scale_predictions_and_errors_equal_the_original(seed, outputs, batch, centers, evaluated):
    scale, known = jax.jit(hand_scale)(batch["joint_cam"], batch["joint_valid"])
    np.testing.assert_allclose(scale, seed["out/norm_scale"], rtol=1e-6)
    np.testing.assert_array_equal(known, seed["out/norm_valid"])
    predictions, targets, _, errors = evaluated(outputs, batch, centers, 0.0)
    for name in ("joint_cam", "joint_rel", "verts_cam", "verts_rel"):
        np.testing.assert_allclose(
            predictions[name], seed[f"out/result/{name}_pred"], atol=2e-3, err_msg=name
        )
    for name in ("verts_cam", "verts_rel"):
        np.testing.assert_allclose(targets[name], seed[f"out/result/{name}_gt"], atol=2e-3)
    for name, error in errors.items():
        np.testing.assert_allclose(error.compute(), seed[f"out/metric/{name}"], rtol=2e-6)
    # The whole batch, then its first clip again.
    mask = {"mask": jnp.array([1.0, 0.0, 0.0])}
    first = jax.jit(hand_errors)(predictions, targets, batch | mask)
    for name, error in first.items():
        expected = seed[f"out/streaming_full_then_first/{name}"]
        np.testing.assert_allclose((errors[name] + error).compute(), expected, rtol=2e-6)


@pytest.mark.parametrize("case", ["stage1_seed", "stage1_fk_grad", "stage2"])
def test_a_networks_loss_and_errors_equal_the_original(golden, evaluated, case):
    arrays = golden("hand_pose/posenet_losses")
    prefix = f"posenet_{'stage2' if case == 'stage2' else 'stage1_seed'}/"
    batch = {name: arrays[f"{prefix}in/{name}"] for name in LABELS}
    outputs = {
        "pose": arrays[f"{prefix}out/pose"],
        "betas": arrays[f"{prefix}out/shape"],
        "trans": arrays[f"{prefix}out/trans"],
    } | {f"log_heatmap_{axis}": arrays[f"{prefix}out/log_hm_{axis}"] for axis in "xyz"}
    centers = tuple(arrays[f"centers_{axis}"] for axis in "xyz")
    norm_eps = 0.0 if case == "stage1_seed" else 1e-6
    predictions, _, (value, log), errors = evaluated(
        outputs, batch, centers, norm_eps, last_frame=case == "stage2"
    )
    np.testing.assert_allclose(
        predictions["joint_cam"], arrays[f"{prefix}out/result/joint_cam_pred"], atol=2e-3
    )
    np.testing.assert_allclose(value, arrays[f"posenet_{case}/out/loss"], rtol=2e-6)
    found = {f"loss_{name}": log[f"loss/{name}"] for name in WEIGHTS}
    found |= {name: error.compute() for name, error in errors.items()}
    for name, number in found.items():
        expected = arrays[f"posenet_{case}/out/state/{name}"]
        np.testing.assert_allclose(number, expected, rtol=5e-6, err_msg=name)


@pytest.fixture(scope="module")
def total(centers):
    """The loss of given predictions, without the hand."""

    def run(outputs, predictions, batch, *, reduction):
        terms = hand_terms(outputs, predictions, batch, centers=centers, reduction=reduction)
        return composite_loss(terms, HPARAMS, mask=batch.get("mask"))

    return jax.jit(run, static_argnames="reduction")


@pytest.mark.parametrize("reduction", ["all", "valid"])
def test_masked_clips_change_nothing(outputs, batch, centers, evaluated, total, reduction):
    predictions, *_ = evaluated(outputs, batch, centers, 0.0)
    image = {"joint_rel": predictions["joint_rel"], "joint_img": predictions["joint_img"]}

    def padded(arrays):
        return {k: np.concatenate([x, np.full_like(x[:1], np.nan)]) for k, x in arrays.items()}

    mask = {"mask": jnp.array([1.0, 1.0, 1.0, 0.0])}
    value, _ = total(*map(padded, (outputs, image)), padded(batch) | mask, reduction=reduction)
    expected, _ = total(outputs, image, batch, reduction=reduction)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_reduction_valid_divides_by_the_labels(outputs, batch, centers, evaluated, total):
    predictions, *_ = evaluated(outputs, batch, centers, 0.0)
    image = {"joint_rel": predictions["joint_rel"], "joint_img": predictions["joint_img"]}
    _, over_all = total(outputs, image, batch, reduction="all")
    _, over_valid = total(outputs, image, batch, reduction="valid")
    share = float(batch["mano_valid"].mean())
    assert share < 1
    np.testing.assert_allclose(over_valid["loss/theta"] * share, over_all["loss/theta"], rtol=1e-6)


def test_unlabelled_nan_and_a_hand_of_no_size_leave_loss_and_gradients_finite(raw, batch, loss):
    labels = dict(batch)
    labels["joint_cam"] = labels["joint_cam"].at[0].set(0.0)
    labels["joint_valid"] = labels["joint_valid"].at[0].set(0.0)
    labels["mano_pose"] = labels["mano_pose"].at[1].set(jnp.nan)
    labels["mano_valid"] = labels["mano_valid"].at[1].set(0.0)
    (value, _), gradients = loss(raw, labels, None, heatmap=True, fk_grad=False, norm_eps=0.0)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))


def test_hand_is_the_same_from_any_kind_of_rotation(outputs, batch, centers, evaluated):
    expected, *_ = evaluated(outputs, batch, centers, 0.0)
    converted = outputs | {"pose": from_axis_angle(outputs["pose"], "6d")}
    labels = batch | {"mano_pose": from_axis_angle(batch["mano_pose"], "6d")}
    found, *_ = evaluated(converted, labels, centers, 0.0, joint_type="6d")
    np.testing.assert_allclose(found["joint_rel"], expected["joint_rel"], atol=0.05)


def test_root_in_millimetres_needs_no_scale(outputs, batch, model):
    @jax.jit
    def run(outputs):
        found = hand_predictions(model, outputs, batch, norm_by_hand=False)
        targets = hand_targets(model, batch)
        errors = hand_errors(found, targets, batch, norm_by_hand=False)
        return hand_terms(outputs, found, batch, centers=None, norm_by_hand=False), errors

    terms, errors = run(outputs | {"trans": batch["joint_cam"][..., 0, :]})
    assert errors["micro_rte"].count == batch["joint_valid"][..., 0].sum()
    np.testing.assert_allclose(errors["micro_rte"].compute(), 0.0, atol=1e-3)
    np.testing.assert_allclose(terms["trans"], 0.0, atol=1e-4)
