import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.models.clip.config_files import from_huggingface
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaRunConfig,
)
from jaxrecipes.recipes.clip_iqa.embeddings import cacheable, clip_params, with_embeddings
from jaxrecipes.recipes.clip_iqa.network import ClipIqa
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.train.recipe import DataInfo

STILL = AugmentConfig(enabled=False)


@pytest.fixture(scope="module")
def source(golden):
    folder = golden.path / "clip_iqa/hf_tiny"
    clip = from_huggingface(json.loads((folder / "config.json").read_text()))
    return ClipSource(size="custom", custom=clip, weights=str(folder))


@pytest.mark.parametrize(
    ("freeze", "augment", "names"),
    [
        (FreezeConfig(), STILL, ()),
        (FreezeConfig(mode="clip"), AugmentConfig(), ("text_embedding",)),
        (FreezeConfig(mode="clip"), STILL, ("image_embedding", "text_embedding")),
        (FreezeConfig(mode="partial", layers=1), STILL, ()),
        (FreezeConfig(mode="partial", layers=2), AugmentConfig(), ("text_pooled",)),
        (FreezeConfig(mode="partial", plan={1: 3, 2: 1}), AugmentConfig(), ()),
    ],
    ids=["full", "clip", "clip, still images", "some layers", "all layers of the text", "plan"],
)
def test_what_is_frozen_from_given_weights_on_is_computed_once(source, freeze, augment, names):
    config = IqaRunConfig(clip=source, freeze=freeze, augment=augment)
    assert cacheable(config) == names
    assert cacheable(dataclasses.replace(config, clip=ClipSource(size="custom"))) == ()


@pytest.mark.parametrize(
    "freeze",
    [FreezeConfig(mode="clip"), FreezeConfig(mode="partial", layers=2)],
    ids=["clip", "all layers of the text"],
)
def test_scores_are_the_same_from_what_frozen_towers_gave_once(source, freeze):
    config = IqaRunConfig(clip=source, freeze=freeze, augment=STILL)
    rng = np.random.default_rng(0)
    size = config.network.clip.vision.image_size
    arrays = {
        "image": rng.integers(0, 256, (6, size, size, 3), dtype=np.uint8),
        "tokens": IndexedRows(rng.integers(1, 99, (3, 7)).astype(np.int32), np.arange(6) % 3),
    }
    clip = clip_params(config)
    cached = with_embeddings(config, arrays, clip)
    assert "tokens" not in cached
    model = ClipIqa(config.network)
    shapes = jax.eval_shape(model.init_params, jax.random.key(0))
    drawn = jax.tree.map(lambda x: np.float32(0.1 * rng.standard_normal(x.shape)), shapes)
    params = drawn | {"clip": clip}
    recipe = make_recipe(config, DataInfo(steps_per_epoch=1))

    @jax.jit
    def scores(batch):
        return model.apply({"params": params}, recipe.inputs(batch), train=False)

    wanted, found = (
        scores({name: np.asarray(array) for name, array in split.items()})
        for split in (arrays, cached)
    )
    for name in ("quality", "consistency"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
