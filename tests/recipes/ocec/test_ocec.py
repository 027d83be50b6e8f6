"""The OCEC network: configuration, sizes, rates as data, and the program it becomes on CPU."""

import functools
import json

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxrecipes.nn.init_variables import init_variables
from jaxrecipes.recipes.ocec.network import (
    PUBLISHED,
    Ocec,
    OcecConfig,
    check_image_size,
    feature_size,
)

TOKENS = {"arch_variant": "convnext", "head_variant": "transformer"}


def variables(config: OcecConfig, size: tuple[int, int], seed: int = 0):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    params, stats = init_variables(Ocec(config), jax.random.key(seed), images, train=False)
    return {"params": params} | ({"batch_stats": stats} if stats else {})


def test_values_that_the_original_tolerates_become_regular():
    config = OcecConfig(
        arch_variant="ConvNeXt",
        head_variant="",
        num_blocks=0,
        expansion=-1,
        se_reduction=-3,
        token_mixer_grid=(0, 2),
        token_mixer_layers=0,
    )
    assert (config.arch_variant, config.head) == ("convnext", "transformer")
    assert (config.num_blocks, config.expansion, config.token_mixer_layers) == (1, 1, 1)
    assert (config.se_reduction, config.token_mixer_grid) == (0, (3, 2))
    assert OcecConfig(arch_variant="").head == "avg"
    assert OcecConfig(arch_variant="inverted_se").head == "avgmax_mlp"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arch_variant": "convnet"}, "did you mean 'convnext'"),
        ({"head_variant": "transformers"}, "did you mean 'transformer'"),
        ({"base_channels": 0}, "base_channels is 0; expected base_channels >= 1"),
        ({"dropout": 1.5}, "dropout is 1.5; expected 0 <= dropout < 1"),
    ],
)
def test_bad_configurations_name_the_nearest_valid_one(fields, words):
    with pytest.raises(ValueError, match=words):
        OcecConfig(**fields)


def test_published_variants_have_the_published_parameter_counts(golden):
    manifest = json.loads((golden.path / "ocec/state_dict_manifest.json").read_text())
    images = jax.ShapeDtypeStruct((1, 24, 40, 3), jnp.float32)
    for name, config in PUBLISHED.items():
        init = functools.partial(Ocec(config).init, train=False)
        params = jax.eval_shape(init, jax.random.key(0), images)["params"]
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert count == manifest[f"published_{name}"]["n_parameters"]


@pytest.mark.parametrize(
    ("fields", "image", "want"),
    [
        ({"num_blocks": 4}, (24, 40), (6, 10)),
        ({"num_blocks": 8}, (32, 64), (2, 4)),
        ({"num_blocks": 1}, (9, 13), (5, 7)),
        ({"num_blocks": 4, **TOKENS}, (24, 40), (3, 5)),
        ({"num_blocks": 5, **TOKENS}, (20, 36), (1, 2)),
    ],
)
def test_feature_sizes(fields, image, want):
    assert feature_size(OcecConfig(**fields), *image) == want


def test_a_grid_that_does_not_divide_names_those_that_do():
    with pytest.raises(ValueError, match=r"3x5 feature map.*grids that do: 1x1, 1x5, 3x1, 3x5"):
        check_image_size(OcecConfig(**TOKENS), 24, 40)
    with pytest.raises(ValueError, match="2x3 does not divide"):
        variables(OcecConfig(**TOKENS), (24, 40))
    check_image_size(OcecConfig(**TOKENS), 32, 48)


def test_an_image_too_small_says_what_is_needed():
    with pytest.raises(ValueError, match="needs 8 pixels or more"):
        check_image_size(OcecConfig(**TOKENS), 7, 64)


def test_initial_values_follow_the_original_rules():
    config = OcecConfig(base_channels=32, num_blocks=2, **TOKENS)
    params = variables(config, (32, 48))["params"]
    kernel = params["blocks_0"]["depthwise"]["kernel"]
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (32 * 49)), rtol=0.1)
    np.testing.assert_allclose(params["stem"]["conv"]["kernel"].std(), np.sqrt(2 / 512), rtol=0.1)
    assert jnp.abs(params["stem"]["conv"]["bias"]).max() <= 1 / np.sqrt(48)
    np.testing.assert_array_equal(params["blocks_1"]["gamma"], np.full(32, np.float32(1e-6)))
    first, second = (params["head"][f"layers_{i}"] for i in range(2))
    packed = first["self_attn"]["in_proj"]["kernel"]
    np.testing.assert_array_equal(packed, second["self_attn"]["in_proj"]["kernel"])
    assert jnp.abs(packed).max() <= np.sqrt(6 / 128)
    assert (first["linear1"]["kernel"] != second["linear1"]["kernel"]).any()


def test_rates_are_data_and_may_be_mapped():
    config = OcecConfig(base_channels=8, num_blocks=3)
    model, images = Ocec(config), jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))
    state, key = variables(config, (16, 16)), jax.random.key(2)

    def logits(dropout_rate, drop_path_rate):
        rates = {"dropout_rate": dropout_rate, "drop_path_rate": drop_path_rate}
        options = {"train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        return model.apply(state, images, **options, **rates)[0]

    rates = jnp.array([[0.0, 0.0], [0.3, 0.0], [0.0, 0.5], [1.0, 1.0]])
    mapped = jax.jit(jax.vmap(logits))(rates[:, 0], rates[:, 1])
    compiled = jax.jit(logits)
    for got, rate in zip(mapped, rates, strict=True):
        np.testing.assert_allclose(got, compiled(*rate), atol=1e-5)
    plain = jax.jit(lambda: model.apply(state, images, train=True, mutable=["batch_stats"])[0])()
    np.testing.assert_allclose(mapped[0], plain, atol=1e-5)
    assert compiled._cache_size() == 1
    assert jnp.isfinite(mapped).all()
    assert (jnp.abs(mapped[1:] - mapped[0]).max(1) > 1e-4).all()


def test_bfloat16_computes_near_float32_and_keeps_float32_logits():
    config = OcecConfig(base_channels=8, num_blocks=3)
    state = variables(config, (16, 16))
    images = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))
    half = jax.jit(lambda v, x: Ocec(config, jnp.bfloat16).apply(v, x, train=False))(state, images)
    full = jax.jit(lambda v, x: Ocec(config).apply(v, x, train=False))(state, images)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.05)


def traced_step(config: OcecConfig, size: tuple[int, int], batch: int, steps: int):
    """Training steps under `scan`, traced for shapes alone."""
    model, tx = Ocec(config), optax.adamw(1e-3)

    def step(state, batch):
        params, stats, opt_state = state
        images, labels = batch

        def objective(params):
            variables = {"params": params, "batch_stats": stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
            return loss, new.get("batch_stats", {})

        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    def init(key):
        state = model.init(key, jnp.zeros((1, *size, 3)), train=False)
        params = state["params"]
        return params, state.get("batch_stats", {}), tx.init(params)

    data = (
        jax.ShapeDtypeStruct((steps, batch, *size, 3), jnp.float32),
        jax.ShapeDtypeStruct((steps, batch), jnp.float32),
    )
    state = jax.eval_shape(init, jax.random.key(0))
    run = jax.jit(lambda state, data: jax.lax.scan(step, state, data), donate_argnums=0)
    return run.trace(state, data)


@pytest.mark.parametrize("arch", ["baseline", "inverted_se", "convnext"])
def test_no_convolution_is_left_on_cpu_but_all_elsewhere(arch):
    config = OcecConfig(base_channels=8, num_blocks=3, arch_variant=arch, head_variant="avg")
    trace = traced_step(config, (16, 16), batch=4, steps=2)
    assert "stablehlo.convolution" not in trace.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in trace.lower(lowering_platforms=("cuda",)).as_text()


def test_temporaries_of_the_step_stay_small():
    config = OcecConfig(base_channels=16, num_blocks=4)
    trace = traced_step(config, (24, 40), batch=64, steps=2)
    compiled = trace.lower().compile({"xla_backend_optimization_level": "0"})
    assert compiled.memory_analysis().temp_size_in_bytes < 25e6  # the largest map is 1 MB
