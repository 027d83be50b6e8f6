"""universal_face's presets: the source document's numbers, and what the default learns."""

import dataclasses
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses import cosine_similarity
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import current_hparams, make_train_step

UNIVERSAL_FACE = load_recipe("universal_face")

CONFIG = pathlib.Path(__file__).parents[3] / "configs/universal_face.py"


@pytest.fixture(scope="module")
def presets():
    spec = importlib.util.spec_from_file_location("universal_face_presets", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_seed_and_before_are_the_two_columns_of_the_source_document(presets):
    seed, before = presets.get_config("seed"), presets.get_config("before")
    for config in (seed, before):
        UNIVERSAL_FACE.check_config(config)
        assert (config.epochs, config.data.batch_size, config.optim.clip_norm) == (150, 32, 1.0)
    names = ("lambda_id", "lambda_pose", "lambda_contrast", "lambda_similarity_protection")
    names += ("temperature", "protection_margin")
    assert [getattr(seed.loss, name) for name in names] == [3.0, 0.2, 0.1, 1.0, 0.1, 0.01]
    assert [getattr(before.loss, name) for name in names] == [2.0, 0.3, 0.2, 0.5, 0.07, 0.0]
    assert before.optim.schedule == "every(step_decay(rate, step_size=20, gamma=0.5), epoch)"
    assert (seed.optim.schedule, seed.plateau.mode) == ("plateau", "max")


def test_an_unknown_preset_is_named(presets):
    with pytest.raises(ValueError, match="did you mean 'before'"):
        presets.get_config("befor")


def test_the_default_brings_unseen_people_nearer_to_their_photos(presets):
    config = presets.get_config()
    config = dataclasses.replace(
        config,
        epochs=6,
        model=dataclasses.replace(config.model, transformer_depth=1, dropout=0.0),
        attention_dropout=0.0,
    )
    splits = UNIVERSAL_FACE.load_data(config)
    names = ("src", "tgt", "pose", "person")
    train, val = (
        {name: np.asarray(splits[split].arrays[name]) for name in names}
        for split in ("train", "val")
    )
    size = config.data.batch_size
    steps = len(train["person"]) // size
    recipe = UNIVERSAL_FACE.make_recipe(config, DataInfo(steps_per_epoch=steps))
    rng = np.random.default_rng(0)
    rows = [rng.permutation(len(train["person"]))[: steps * size] for _ in range(config.epochs)]
    rows = np.concatenate(rows).reshape(-1, size)
    step = make_train_step(recipe)

    @jax.jit
    def run(key):
        state = create_state(recipe, key)

        def one(state, rows):
            return step(state, {name: jnp.asarray(train[name])[rows] for name in names})[0], None

        state, _ = jax.lax.scan(one, state, rows)
        options = {"hparams": current_hparams(recipe, state), "train": False, "key": key}
        outputs, _ = recipe.apply_fn(state.params, state.batch_stats, recipe.inputs(val), **options)
        return [cosine_similarity(x, val["tgt"]).mean() for x in (outputs["projected"], val["src"])]

    after, before = run(jax.random.key(0))
    assert float(after) > float(before) + 0.05  # after 6 epochs of one block; the run has 20 of two
