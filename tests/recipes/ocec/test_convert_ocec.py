"""OCEC weights and checkpoints: lossless both ways, and training goes on as the original does."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from jaxrecipes.convert import ConversionError, from_torch, load_torch, to_torch
from jaxrecipes.recipes.ocec import original as ocec
from jaxrecipes.recipes.ocec.network import Ocec, OcecConfig

CHECKPOINTS = ["baseline", "inverted_se", "convnext_transformer"]
FIELDS = [field.name for field in dataclasses.fields(OcecConfig)]


@pytest.fixture(scope="module")
def manifest(golden):
    return json.loads((golden.path / "ocec/state_dict_manifest.json").read_text())


@pytest.fixture(params=CHECKPOINTS)
def original(request, golden):
    name = f"ocec/original_checkpoint__{request.param}"
    return golden.path / f"{name}.pt", golden(name)


def random_state_dict(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        key: np.int64(rng.integers(9))
        if key.endswith("tracked")
        else np.float32(rng.normal(size=n))
        for key, n in shapes.items()
    }


def small() -> tuple[dict, dict[str, np.ndarray]]:
    config = {"base_channels": 4, "num_blocks": 1}
    params, batch_stats = _zeros(OcecConfig(**config))
    return config, to_torch("ocec", params, batch_stats, config)


def _zeros(config: OcecConfig) -> tuple[dict, dict]:
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), ocec._template(config))
    return variables["params"], variables.get("batch_stats", {})


NAMES = ["seed_config", "readme_baseline", "readme_inverted_se", "convnext_transformer_grid3x5"]
NAMES += ["convnext_transformer_grid2x3", "convnext_mlp_mixer_grid2x3"]
NAMES += [f"published_{name}" for name in "PNSCML"]


@pytest.mark.parametrize("name", NAMES)
def test_state_dicts_of_real_sizes_survive_the_round_trip(manifest, name):
    entry = manifest[name]
    config = {key: entry["config"][key] for key in FIELDS}
    state_dict = random_state_dict(entry["state_dict"])
    _, params, batch_stats = from_torch("ocec", state_dict, config)
    assert sum(x.size for x in jax.tree.leaves(params)) == entry["n_parameters"]
    back = to_torch("ocec", params, batch_stats, config)
    assert list(back) == list(entry["state_dict"])
    for key, array in back.items():
        np.testing.assert_array_equal(array, state_dict[key])
        assert array.dtype == state_dict[key].dtype
        assert array.flags.c_contiguous


def test_all_problems_are_reported_at_once():
    config, state_dict = small()
    del state_dict["stem.1.bias"]
    state_dict["head.2.weight"] = np.zeros((1, 5), np.float32)
    state_dict["extra"] = np.zeros(3, np.float32)
    with pytest.raises(ConversionError) as error:
        from_torch("ocec", state_dict, config)
    for words in ("stem.1.bias", "extra", "head.2.weight: expected (1, 4), got (1, 5)"):
        assert words in str(error.value)


def test_a_prefix_of_data_parallel_is_stripped():
    config, state_dict = small()
    wrapped = {f"module.{key}": array for key, array in state_dict.items()}
    _, params, _ = from_torch("ocec", wrapped, config)
    assert params["stem"]["conv"]["kernel"].shape == (3, 3, 3, 4)


def test_a_margin_head_is_refused_by_name():
    config, state_dict = small()
    with pytest.raises(ValueError, match=r"margin head.*arc_head\.weight"):
        from_torch("ocec", state_dict | {"arc_head.weight": np.zeros((2, 4))}, config)


def test_an_unknown_network_and_field_name_the_nearest():
    config, state_dict = small()
    with pytest.raises(ValueError, match="did you mean 'ocec'"):
        from_torch("ocek", state_dict, config)
    with pytest.raises(ValueError, match="did you mean 'num_blocks'"):
        from_torch("ocec", state_dict, config | {"num_block": 3})


def test_an_original_checkpoint_gives_its_logits(original, imported):
    path, arrays = original
    run = imported("ocec", path)
    variables = {"params": run.state.params, "batch_stats": run.state.batch_stats}
    images = arrays["x"].transpose(0, 2, 3, 1)
    logits = jax.jit(lambda v, x: Ocec(run.config.model).apply(v, x, train=False))(
        variables, images
    )
    np.testing.assert_allclose(logits, arrays["logits"], atol=1e-5)
    assert run.config.data.image_size == images.shape[1:3]


def test_a_written_checkpoint_equals_the_original(original, imported, tmp_path):
    path, _ = original
    ocec.export_torch(imported("ocec", path), tmp_path / "x.pt")
    want, got = load_torch(path), load_torch(tmp_path / "x.pt")
    assert list(got) == [name for name in want if not name.startswith("best_")]
    for name in got.keys() - {"train_config", "tensorboard_logdir", "scheduler_state"}:
        jax.tree.map(np.testing.assert_array_equal, got[name], want[name])
    assert list(got["model_state"]) == list(want["model_state"])
    assert got["scheduler_state"].keys() == want["scheduler_state"].keys()


def test_training_goes_on_from_the_original_optimizer(original, imported):
    path, arrays = original
    imported_run = imported("ocec", path)
    start, model = imported_run.state, Ocec(imported_run.config.model)
    images, labels = arrays["x"].transpose(0, 2, 3, 1), arrays["labels"].astype(np.float32)
    learning_rate, weight_decay = arrays["resume5/lr"], arrays["resume5/weight_decay"]
    assert imported_run.config.optim.learning_rate == learning_rate
    assert imported_run.config.optim.weight_decay == weight_decay
    tx = optax.adamw(float(learning_rate), weight_decay=float(weight_decay))
    count, mu, nu = (optax.tree.get(start.opt_state, name) for name in ("count", "mu", "nu"))
    moments = optax.ScaleByAdamState(count, mu, nu)

    def step(state, _):
        params, batch_stats, opt_state = state

        def objective(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            loss = optax.sigmoid_binary_cross_entropy(logits, labels).mean()
            return loss, dict(new).get("batch_stats", {})

        (loss, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), batch_stats, opt_state), loss

    def run(params, batch_stats, moments):
        opt_state = (moments, *tx.init(params)[1:])
        state = (params, batch_stats, opt_state)
        (params, batch_stats, _), losses = jax.lax.scan(step, state, None, length=5)
        variables = {"params": params, "batch_stats": batch_stats}
        return losses, model.apply(variables, images, train=False)

    fast = {"xla_backend_optimization_level": "0"}
    arguments = (start.params, start.batch_stats, moments)
    losses, logits = jax.jit(run).lower(*arguments).compile(compiler_options=fast)(*arguments)
    np.testing.assert_allclose(losses, arrays["resume5/losses"], atol=5e-6)
    np.testing.assert_allclose(logits, arrays["resume5/eval_logits"], atol=5e-5)


@pytest.fixture
def baseline(golden):
    return load_torch(golden.path / "ocec/original_checkpoint__baseline.pt")


def test_averaged_weights_are_kept_with_and_without_statistics(baseline, imported, tmp_path):
    state = baseline["model_state"]
    shadow = {key: array + 1 for key, array in state.items()}
    for averages in (shadow, {key: a for key, a in shadow.items() if not _is_statistic(key)}):
        run = imported("ocec", baseline | {"ema_state": averages})
        with_statistics = len(averages) == len(shadow)
        ema, raw = (
            to_torch("ocec", params, stats, run.config.model)
            for params, stats in (run.weights("ema"), run.weights("raw"))
        )
        for key in shadow:
            averaged = with_statistics or not _is_statistic(key)
            np.testing.assert_array_equal(ema[key], (shadow if averaged else state)[key])
            np.testing.assert_array_equal(raw[key], state[key])
        ocec.export_torch(run, tmp_path / "x.pt", weights="raw")
        again = load_torch(tmp_path / "x.pt")
        for key, array in again["ema_state"].items():
            np.testing.assert_array_equal(array, shadow[key])
        assert again["optimizer_state"]
        ocec.export_torch(run, tmp_path / "x.pt")
        assert load_torch(tmp_path / "x.pt")["optimizer_state"] is None


def _is_statistic(key: str) -> bool:
    return "running" in key or "num_batches" in key


def test_wrapped_state_dicts_are_read_and_bare_ones_are_not(baseline, imported):
    want, state = imported("ocec", baseline).state.params, baseline.pop("model_state")
    shadow = {key: array for key, array in state.items() if not _is_statistic(key)}
    layouts = [
        {"state_dict": {f"module.{key}": array for key, array in state.items()}},
        {"model_state": state, "ema": {"decay": 0.999, "shadow": shadow}},
    ]
    for layout in layouts:
        run = imported("ocec", baseline | layout)
        jax.tree.map(np.testing.assert_array_equal, run.state.params, want)
        assert run.config.ema.enabled == ("ema" in layout)
    with pytest.raises(ValueError, match=r"has no model_config.*convert\.from_torch\('ocec'"):
        imported("ocec", state)
    with pytest.raises(ValueError, match="it has no model_state: "):
        imported("ocec", baseline)


def test_a_warm_up_scheduler_is_no_plateau(baseline, imported):
    run = imported("ocec", baseline | {"scheduler_state": {"last_epoch": 2}})
    assert run.state.plateau is None
    assert run.config.optim.schedule == "constant"
