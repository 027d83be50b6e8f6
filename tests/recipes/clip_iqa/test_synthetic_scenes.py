"""Embedded scenes: functions of their index, and about what their scores say."""

import numpy as np
import pytest

from jaxrecipes.recipes.clip_iqa.scenes.draw import KINDS, draw_scenes


def test_a_scene_does_not_depend_on_the_scenes_beside_it():
    many = draw_scenes(3, np.arange(20), size=32)
    some = draw_scenes(3, np.array([17, 4]), size=32)
    np.testing.assert_array_equal(some.images, many.images[[17, 4]])
    np.testing.assert_array_equal(some.consistency, many.consistency[[17, 4]])
    assert some.prompts == [many.prompts[17], many.prompts[4]]


def test_held_out_captions_combine_known_words_anew():
    train = draw_scenes(0, np.arange(600), size=16)
    val = draw_scenes(0, np.arange(200), size=16, held_out=True)
    assert not set(train.prompts) & set(val.prompts)
    words = {word for prompt in train.prompts for word in prompt.split()}
    assert {word for prompt in val.prompts for word in prompt.split()} <= words


def test_scores_cover_their_range_and_every_distortion_occurs():
    scenes = draw_scenes(1, np.arange(400), size=16)
    for score in (scenes.quality, scenes.consistency):
        assert score.min() >= 0
        assert score.max() <= 1
        assert score.std() > 0.15
    assert set(scenes.kinds) == set(KINDS)


def test_blur_takes_detail_away_and_noise_adds_it():
    scenes = draw_scenes(1, np.arange(400), size=32)
    detail = np.abs(np.diff(scenes.images.astype(float), axis=2)).mean(axis=(1, 2, 3))
    kinds = np.array(scenes.kinds)
    for kind, sign in (("blur", 1), ("faded", 1), ("noise", -1)):
        of = kinds == kind
        assert sign * np.corrcoef(detail[of], scenes.quality[of])[0, 1] > 0.5


def test_a_scene_needs_room():
    with pytest.raises(ValueError, match="scenes of 8 pixels"):
        draw_scenes(0, np.arange(2), size=8)
