"""Only programs for CPUs have branches and loops whose course is data; the numbers are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowered_text import waits
from toy_recipe import toy_batch, toy_config, toy_data, toy_fit, toy_recipe

from jaxrecipes.data.augment.map_selected import map_selected
from jaxrecipes.data.augment.pixels import draw_jitter, jitter_colours
from jaxrecipes.train import programs
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import make_train_step

JITTER = {"jitter_prob": 0.7, "brightness": 0.3, "contrast": 0.4, "saturation": 0.5, "hue": 0.2}


@pytest.fixture
def accelerator(monkeypatch):
    """CPUs that compute as other platforms do."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    monkeypatch.setattr(programs, "on_cpu", lambda mesh: False)


def lowered(function, *args, platform):
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def jitter(key, images):
    drawn, order = draw_jitter(key, len(images), JITTER, hue=True)
    planes = jitter_colours(tuple(jnp.moveaxis(images, -1, 0)), drawn, order)
    return jnp.stack(planes, -1)


def mostly_doubled(selected, images):
    return map_selected(lambda part: 2 * part, images, selected, chunk=2)


def images(seed):
    return np.random.default_rng(seed).random((6, 8, 8, 3), np.float32)


def step_arguments(recipe, **nonfinite):
    return create_state(recipe, jax.random.key(0)), toy_batch() | nonfinite


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    ("function", "first"),
    [(jitter, jax.random.key(0)), (mostly_doubled, np.arange(6) > 1)],
    ids=["jitter", "map_selected"],
)
def test_augmentation_waits_for_data_on_cpus_alone(function, first, platform):
    assert waits(lowered(function, first, images(0), platform="cpu"))
    assert not waits(lowered(function, first, images(0), platform=platform))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_step_waits_for_data_on_cpus_alone(platform):
    recipe = toy_recipe()
    step = make_train_step(recipe)
    assert waits(lowered(step, *step_arguments(recipe), platform="cpu"))
    assert not waits(lowered(step, *step_arguments(recipe), platform=platform))


def test_the_compiler_sees_how_many_steps_a_call_of_an_accelerator_has(accelerator):
    assert not waits(program_text())


def test_the_number_of_steps_of_a_call_is_data_on_cpus():
    assert waits(program_text())


def program_text():
    recipe, config = toy_recipe(), toy_config()
    data = toy_data(config)
    made = Programs(recipe, data, steps_per_call=3, mesh=data.mesh)
    items = data.train.training_items(0, 3)
    arguments = made.abstract_state, made.empty_sums(), data.train.source, items, np.int32(3)
    return made.train.lower(*arguments).as_text()


def test_images_are_jittered_alike_on_every_platform(accelerator, monkeypatch):
    key, given = jax.random.key(3), images(1)
    found = jax.jit(jitter)(key, given)
    monkeypatch.undo()
    np.testing.assert_allclose(found, jax.jit(lambda *args: jitter(*args))(key, given), atol=1e-6)
    assert np.abs(found - given).max() > 0.05


@pytest.mark.parametrize("bad", [False, True])
def test_a_step_keeps_or_skips_its_update_alike_on_every_platform(bad, accelerator, monkeypatch):
    recipe = toy_recipe()
    state, batch = step_arguments(recipe)
    batch |= {"x": batch["x"].at[0, 0].set(jnp.nan)} if bad else {}
    selected, _ = jax.jit(make_train_step(recipe))(state, batch)
    monkeypatch.undo()
    branched, _ = jax.jit(make_train_step(recipe))(state, batch)
    assert int(selected.num_skipped) == bad
    for one, other in zip(
        jax.tree.leaves(selected.params), jax.tree.leaves(branched.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_shorter_call_takes_single_steps_on_accelerators(accelerator, monkeypatch, tmp_path):
    config = toy_config(epochs=2)  # of 8 steps, logged every 4
    found = toy_fit(tmp_path / "accelerator", config=config)
    monkeypatch.undo()
    wanted = toy_fit(tmp_path / "cpu", config=config)
    assert found.summary["compilations"]["train"] == 2
    assert wanted.summary["compilations"]["train"] == 1
    for name, value in wanted.summary["final"].items():
        assert found.summary["final"][name] == pytest.approx(value, rel=1e-4), name
