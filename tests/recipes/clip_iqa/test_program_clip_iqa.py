"""The step of clip_iqa: what freezing saves, and what its speed on CPU rests on, as far as it is
deterministic.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxrecipes.models.clip.config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaRunConfig,
)
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.recipe import DataInfo

DEPTH, BATCH, TOKENS = 2, 8, 12
CLIP = ClipConfig(
    vision=ClipVisionConfig(
        image_size=32, patch_size=8, width=80, depth=DEPTH, num_heads=4, mlp_width=336
    ),
    text=ClipTextConfig(
        width=56, depth=DEPTH, num_heads=4, mlp_width=232, vocab_size=100, context_length=16
    ),
    projection_dim=24,
)
# Multiplications of a block's forward pass over a batch, without those of the attention's scores.
VISION = BATCH * 17 * (4 * 80**2 + 2 * 80 * 336)
TEXT = BATCH * TOKENS * (4 * 56**2 + 2 * 56 * 232)


def lowered_step(freeze, *, text=None):
    """(step, not yet compiled, and the state's shapes); `text` stands in for the tokens."""
    config = IqaRunConfig(
        clip=ClipSource(size="custom", custom=CLIP),
        freeze=freeze,
        augment=AugmentConfig(enabled=False),
    )
    recipe = make_recipe(config, DataInfo(steps_per_epoch=10))
    shapes = {"image": ((32, 32, 3), jnp.uint8), "tokens": ((TOKENS,), jnp.int32)}
    if text is not None:
        del shapes["tokens"]
        shapes[text[0]] = ((text[1],), jnp.float32)
    shapes |= {name: ((), jnp.float32) for name in ("quality", "consistency")}
    batch = {
        name: jax.ShapeDtypeStruct((BATCH, *shape), dtype)
        for name, (shape, dtype) in shapes.items()
    }
    state = jax.eval_shape(lambda key: create_state(recipe, key), jax.random.key(0))
    step = jax.jit(make_train_step(recipe), donate_argnums=0)
    return step.lower(state, batch), state


def multiplications(step):
    return step.cost_analysis()["flops"] / 2


@pytest.fixture(scope="module")
def full():
    return lowered_step(FreezeConfig())


PARTIAL = FreezeConfig(mode="partial", layers=1)
NO_PRE_NORM = FreezeConfig(mode="partial", layers=1, pre_norm=True)


@pytest.mark.parametrize(
    ("freeze", "skipped"),
    [
        # Of each frozen block the gradient of its weights, and of text blocks all that goes
        # backward; the image tower's goes through to the norm before its first block.
        (PARTIAL, VISION + 2 * TEXT),
        (NO_PRE_NORM, 2 * VISION + 2 * TEXT),
        (FreezeConfig(mode="partial", layers=DEPTH), 2 * VISION + 4 * TEXT),
        (FreezeConfig(mode="clip"), 4 * VISION + 4 * TEXT),
    ],
    ids=["partial", "partial and norm", "all layers", "clip"],
)
def test_a_frozen_part_has_no_backward_pass(full, freeze, skipped):
    step, _ = lowered_step(freeze)
    assert multiplications(full[0]) - multiplications(step) >= skipped


@pytest.mark.parametrize(
    ("freeze", "text"),
    [
        (FreezeConfig(mode="clip"), ("text_embedding", 24)),
        (FreezeConfig(mode="partial", layers=DEPTH), ("text_pooled", 56)),
    ],
    ids=["clip", "all layers"],
)
def test_a_cached_text_is_not_computed_again(freeze, text):
    saved = multiplications(lowered_step(freeze)[0])
    saved -= multiplications(lowered_step(freeze, text=text)[0])
    assert saved >= DEPTH * TEXT


def test_frozen_parameters_have_no_moments(full):
    def moments(state):
        leaves = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
        return sum(leaves)

    _, frozen = lowered_step(FreezeConfig(mode="clip"))
    clip = sum(leaf.size for leaf in jax.tree.leaves(frozen.params["clip"]))
    heads = sum(leaf.size for leaf in jax.tree.leaves(frozen.params)) - clip
    assert moments(frozen) < 2.1 * heads < moments(full[1]) / 4


def test_no_weight_is_copied_or_transposed(full):
    step, state = full
    found = re.findall(r"f32\[(\d+),(\d+)\]\S* (?:copy|transpose)\(", step.compile().as_text())
    pairs = {(int(rows), int(columns)) for rows, columns in found}
    weights = {leaf.shape for leaf in jax.tree.leaves(state.params["clip"]) if leaf.ndim == 2}
    assert {pair for pair in pairs if pair in weights or pair[::-1] in weights} == set()
