"""The universal face network against the original's vectors; its initial weights and its dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxrecipes.convert import from_torch
from jaxrecipes.nn.init_variables import init_variables
from jaxrecipes.recipes.universal_face.network import UniversalFace, UniversalFaceConfig
from jaxrecipes.recipes.universal_face.original import template
from jaxrecipes.recipes.universal_face.original_rules import LOSS_RULES, universal_face_rules

CALLS = {
    "train": ("train", True),
    "train_nopose": ("train", False),
    "infer": ("inference", True),
    "infer_nopose": ("inference", False),
}
SMALL = UniversalFaceConfig(
    feat_dim=16, id_dim=6, pose_dim=4, num_pose_bins=5, transformer_depth=1, transformer_mlp_dim=8
)


def loaded(golden, case):
    arrays = golden(f"universal_face/{case}")
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    state_dict |= {
        k.replace("crit/", "criterion."): v for k, v in arrays.items() if k.startswith("crit/")
    }
    return arrays, *from_torch("universal_face", state_dict, golden.json(arrays["cfg"]))


@pytest.mark.parametrize("case", ["uf_a", "uf_b"])
def test_all_heads_are_the_originals(golden, case):
    arrays, model, params, batch_stats = loaded(golden, case)
    variables = {"params": params, "batch_stats": batch_stats}
    src, pose = arrays["in/src"], arrays["in/pose"]

    def run(src, pose):
        return {
            f"{name}/{state}": model.apply(
                variables, src, pose if given else None, mode=mode, train=state == "train"
            )
            for name, (mode, given) in CALLS.items()
            for state in ("eval", "train")
        }

    outputs = jax.jit(run)(src, pose)
    for name in CALLS:
        wanted = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(f"eval64_{name}/")}
        for state, prefix in (("eval", "eval64"), ("train", "trainp0_64")):
            heads = outputs[f"{name}/{state}"]
            assert set(heads) == {*wanted, "projected"}
            for head in wanted:
                want = arrays[f"{prefix}_{name}/{head}"]
                np.testing.assert_allclose(heads[head], want, atol=1e-5, err_msg=f"{name} {head}")


@pytest.fixture(scope="module")
def small():
    """Variables of a small network, embeddings and poses."""
    src = np.random.default_rng(0).normal(size=(3, SMALL.feat_dim)).astype(np.float32)
    params, batch_stats = init_variables(UniversalFace(SMALL), jax.random.key(0), src)
    pose = np.array([[60.0, -30.0, 175.0], [0.0, 15.0, -180.0], [-5.0, 1.0, 179.0]], np.float32)
    return {"params": params, "batch_stats": batch_stats}, src, pose


def test_initial_weights_have_the_originals_statistics(golden):
    arrays = golden("universal_face/init_default")
    config = UniversalFaceConfig(transformer_depth=1)  # every block is drawn alike
    features = jax.ShapeDtypeStruct((1, config.feat_dim), jnp.float32)
    params, batch_stats = init_variables(UniversalFace(config), jax.random.key(0), features)
    variables = flatten_dict({"params": params, "batch_stats": batch_stats}, sep="/")
    columns = str(arrays["columns"]).split(",")
    for rule in [*universal_face_rules(config), *LOSS_RULES]:
        ours = np.asarray(variables[rule.target])
        key = rule.source if f"stat/{rule.source}" in arrays else f"criterion.{rule.source}"
        stat = dict(zip(columns, arrays[f"stat/{key}"], strict=True))
        assert rule.source_shape(ours.shape) == tuple(arrays[f"shape/{key}"])
        error = 5 * stat["std"] / np.sqrt(ours.size)  # five standard errors
        assert abs(ours.mean() - stat["mean"]) <= 2 * error + 1e-7, key
        assert ours.std() == pytest.approx(stat["std"], abs=error, rel=0.03), key
        assert np.abs(ours).max() <= 1.5 * max(-stat["min"], stat["max"]), key


def test_the_default_size_has_the_originals_number_of_parameters():
    shapes = template(UniversalFaceConfig())["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 14_742_531 + 262_144


def test_prototypes_have_length_one_and_do_not_change(small):
    variables, src, pose = small
    model, prototypes = UniversalFace(SMALL), variables["batch_stats"]["pose_prototypes"]
    np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1.0, rtol=1e-6)

    @jax.jit
    def run(variables):
        return model.apply(variables, src, pose, train=True, mutable=["batch_stats"])[1]

    after = run(variables)["batch_stats"]["pose_prototypes"]
    np.testing.assert_array_equal(after, prototypes)


def test_rates_are_data(small):
    variables, src, pose = small
    traces = []

    @jax.jit
    def run(rate, attention_rate):
        traces.append(1)
        rates = {"dropout_rate": rate, "attention_dropout_rate": attention_rate}
        rngs = {"dropout": jax.random.key(1)}
        model = UniversalFace(SMALL)
        return model.apply(variables, src, pose, train=True, **rates, rngs=rngs)["id_features"]

    plain = run(0.0, 0.0)
    assert np.abs(run(0.3, 0.0) - plain).max() > 1e-3
    assert np.abs(run(0.0, 0.9) - plain).max() > 1e-5
    assert np.isfinite(run(1.0, 1.0)).all()
    assert len(traces) == 1


def test_half_precision_is_near_and_its_heads_are_float32(small):
    variables, src, pose = small
    types = jnp.float32, jnp.bfloat16, jnp.float16

    @jax.jit
    def run(variables):
        return [UniversalFace(SMALL, dtype=dtype).apply(variables, src, pose) for dtype in types]

    full, *halves = run(variables)
    for half in halves:
        for name, head in half.items():
            assert head.dtype == jnp.float32
            np.testing.assert_allclose(head, full[name], atol=0.1, err_msg=name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feat_dim": 20}, "feat_dim is 20; the 8 tokens must divide it"),
        ({"feat_dim": 16, "transformer_heads": 3}, "the 3 transformer_heads must divide it"),
        ({"id_dim": 0}, "id_dim is 0; expected id_dim >= 1"),
        ({"dropout": 1.0}, "expected 0 <= dropout < 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        UniversalFaceConfig(**fields)


def test_a_misspelt_field_is_named_and_other_flags_are_left_out():
    config = UniversalFaceConfig.from_dict({"feat_dim": 64, "lambda_pose": 0.2, "batch_size": 4})
    assert config == UniversalFaceConfig(feat_dim=64)
    with pytest.raises(ValueError, match="did you mean 'transformer_heads'"):
        UniversalFaceConfig.from_dict({"transformer_head": 4})
