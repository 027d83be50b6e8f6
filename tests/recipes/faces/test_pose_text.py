"""Poses as phrases, and the table of their CLIP features."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrecipes.models.clip.config_files import from_huggingface
from jaxrecipes.models.clip.network import ClipText
from jaxrecipes.models.clip.tokenizer import ClipTokenizer
from jaxrecipes.recipes.faces.pose_text import POSE_PHRASES, pose_phrase_index, pose_text_table

PHRASES = [
    ((-45.1, -20.1, 9.9), "left profile view, looking down, upright"),
    ((-45.0, -20.0, -9.9), "left three-quarter view, level gaze, upright"),
    ((-15.0, 19.9, 10.0), "frontal view, level gaze, tilted right"),
    ((14.9, 20.0, -10.0), "frontal view, looking up, tilted left"),
    ((15.0, 0.0, 0.0), "right three-quarter view, level gaze, upright"),
    ((45.0, 90.0, 180.0), "right profile view, looking up, tilted right"),
    ((90.0, -90.0, -180.0), "right profile view, looking down, tilted left"),
]


def test_poses_fall_into_the_phrases_of_the_original():
    poses = np.array([pose for pose, _ in PHRASES], np.float32)
    for index, (_, phrase) in zip(pose_phrase_index(poses), PHRASES, strict=True):
        assert POSE_PHRASES[index] == phrase


def test_the_bins_meet_all_45_phrases_once():
    grid = np.meshgrid([-60, -30, 0, 30, 60], [-30, 0, 30], [0, 20, -20], indexing="ij")
    index = jax.jit(pose_phrase_index)(np.stack(grid, -1).astype(np.float32))
    assert index.shape == (5, 3, 3)
    np.testing.assert_array_equal(index.ravel(), np.arange(45))
    assert len(set(POSE_PHRASES)) == 45


def test_a_pose_without_three_entries_is_refused():
    with pytest.raises(ValueError, match=r"got the shape \(4, 2\)"):
        pose_phrase_index(np.zeros((4, 2)))


@pytest.fixture(scope="module")
def clip():
    tower = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    tower |= {"num_hidden_layers": 1}
    config = from_huggingface({"projection_dim": 5, "text_config": tower, "vision_config": tower})
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: _zeros(config))
    return config, jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


def _zeros(config):
    token_ids = np.zeros((1, 2), np.int32)
    model = ClipText(config.text, config.projection_dim)
    return {"text": model.init(jax.random.key(0), token_ids)["params"]}


def test_the_table_holds_the_features_of_each_phrase_alone(clip):
    config, params = clip
    table = pose_text_table(config, params)
    assert table.shape == (45, 5)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1.0, atol=1e-6)
    token_ids = ClipTokenizer.packaged()([POSE_PHRASES[17]]).token_ids
    model = ClipText(config.text, config.projection_dim)
    features = jax.jit(model.apply)({"params": params["text"]}, token_ids).features[0]
    np.testing.assert_allclose(table[17], features / np.linalg.norm(features), atol=2e-6)


def test_a_tower_of_another_vocabulary_is_refused(clip):
    config, params = clip
    small = dataclasses.replace(config, text=dataclasses.replace(config.text, vocab_size=100))
    with pytest.raises(ValueError, match="49408 ids, the text tower 100"):
        pose_text_table(small, params)
