"""The compiled steps of the face recipes: what their speed on CPU rests on, as far as it is
deterministic.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxrecipes.recipes import face3d, universal_face
from jaxrecipes.recipes.face3d.network import Face3DConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.recipe import DataInfo

WIDTH, BATCH = 80, 4


def compiled_step(module, model):
    """(step as HLO text, shapes of the weights)."""
    recipe = module.make_recipe(module.Config(model=model), DataInfo(steps_per_epoch=10))
    shapes = {"src": (WIDTH,), "tgt": (WIDTH,), "pose": (3,), "person": ()}
    batch = {
        name: jax.ShapeDtypeStruct((BATCH, *shape), jnp.int32 if name == "person" else jnp.float32)
        for name, shape in shapes.items()
    }
    state = jax.eval_shape(lambda key: create_state(recipe, key), jax.random.key(0))
    step = jax.jit(make_train_step(recipe), donate_argnums=0)
    weights = {leaf.shape for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2}
    return step.lower(state, batch).compile().as_text(), weights


def moved(program, weights):
    """Weights, or arrays of such a shape, that the program copies or transposes."""
    found = re.findall(r"f32\[(\d+),(\d+)\]\S* (?:copy|transpose)\(", program)
    pairs = {(int(rows), int(columns)) for rows, columns in found}
    return {pair for pair in pairs if pair in weights or pair[::-1] in weights}


@pytest.fixture(scope="module")
def face3d_step():
    return compiled_step(face3d, Face3DConfig(d_model=WIDTH, num_layers=1, dim_feedforward=112))


def test_face3d_neither_copies_nor_transposes_a_weight(face3d_step):
    assert moved(*face3d_step) == set()


def test_face3d_computes_no_queries_and_keys(face3d_step):
    program, weights = face3d_step
    assert (WIDTH, 2 * WIDTH) in weights
    assert re.search(rf"f32\[{BATCH},{WIDTH}\]\S* dot\(", program)
    assert not re.search(rf"f32\[\d+,{2 * WIDTH}\]\S* dot\(", program)


def test_universal_face_neither_copies_nor_transposes_a_weight():
    model = UniversalFaceConfig(
        feat_dim=WIDTH, id_dim=48, pose_dim=24, transformer_depth=1, transformer_mlp_dim=112
    )
    assert moved(*compiled_step(universal_face, model)) == set()
