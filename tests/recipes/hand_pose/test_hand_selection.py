import numpy as np
import pytest

from jaxrecipes.data.fingerprint import of_split
from jaxrecipes.data.shard_order import ShardOrder
from jaxrecipes.recipes.hand_pose.selection import depth_weights, select_validation, source_weights
from jaxrecipes.recipes.hand_pose.shards import HandClips, read_hand_clips


def read(golden, folder, **options):
    tar = golden.path / "hand_pose" / "hand_wds_sample-000000.tar"
    return read_hand_clips(tar, cache_dir=folder, **options)


def made_up(depths, valid=None, sources=None):
    """Clips of one frame with these depths of the wrist."""
    count = len(depths)
    joints = np.zeros((count, 1, 21, 3), np.float32)
    joints[:, 0, 0, 2] = depths
    known = np.ones((count, 1, 21), np.float32)
    known[:, 0, 0] = 1 if valid is None else valid
    return HandClips(
        arrays={"joint_cam": joints, "joint_valid": known},
        keys=np.array([f"k_{i:04d}" for i in range(count)]),
        sources=None if sources is None else np.array(sources),
        shards=np.zeros(count, np.int32),
    )


def test_validation_depends_on_its_seed_and_the_shards_alone(golden, tmp_path):
    """Two runs of other settings see the same samples, one by one."""
    runs = []
    for seed, batch_size, decode in ((1, 2, "cache"), (2, 3, "lazy")):
        train = read(golden, tmp_path, decode=decode)
        order = ShardOrder(train.shards, train.sequences, batch_size, seed)
        order.indices(3)  # training in between
        val = read(golden, tmp_path / str(seed), decode=decode, num_frames=2)
        runs.append(val.take(select_validation(val, seed=42, max_clips=4)))
    first, second = runs
    assert len(first) == 4
    np.testing.assert_array_equal(first.keys, second.keys)
    for name in first.arrays:
        for i in range(4):
            np.testing.assert_array_equal(first.arrays[name][i], second.arrays[name][i])
    assert of_split(first.identity) == of_split(second.identity)


def test_the_selection_is_shuffled_by_the_seed_and_its_start_stays(golden, tmp_path):
    clips = read(golden, tmp_path)
    rows = select_validation(clips, seed=42)
    assert sorted(rows) == list(range(9))
    assert (rows != np.arange(9)).any()
    assert (select_validation(clips, seed=43) != rows).any()
    np.testing.assert_array_equal(select_validation(clips, seed=42, max_clips=4), rows[:4])


@pytest.mark.parametrize("name", ["image_size", "joint_cam", "left"])
def test_the_identity_has_every_label(golden, tmp_path, name):
    clips = read(golden, tmp_path)
    arrays = {key: np.array(array) for key, array in clips.arrays.items()}
    arrays[name].reshape(-1)[0] += 1
    changed = HandClips(arrays, clips.keys, clips.sources, clips.shards)
    assert of_split(changed.identity) != of_split(clips.identity)


def test_every_occupied_bin_of_depth_is_as_likely():
    clips = made_up(
        [400, 410, 420, 430, 700, 1200],
    )
    for bins in (8, [300, 500, 800, 1300], [500, 600, 800, 1000]):
        weights = depth_weights(clips, bins)
        np.testing.assert_allclose(weights[:4].sum(), weights[4], rtol=1e-12)
        np.testing.assert_allclose(weights[4], weights[5], rtol=1e-12)
        np.testing.assert_allclose(weights.mean(), 1)


def test_clips_without_depth_have_the_mean_chance():
    weights = depth_weights(made_up([400, 410, 900, 0], valid=[1, 1, 1, 0]), 2)
    np.testing.assert_allclose(weights, [0.75, 0.75, 1.5, 1.0])
    np.testing.assert_array_equal(depth_weights(made_up([5, 5]), 3), 1)
    np.testing.assert_array_equal(depth_weights(made_up([5, 5], valid=0), 3), 1)


@pytest.mark.parametrize("bins", [0, [5.0], [3.0, 2.0]])
def test_bins_must_be_bins(bins):
    with pytest.raises(ValueError, match="expected at least 1, or two or more ascending edges"):
        depth_weights(made_up([1, 2]), bins)


def test_a_source_is_as_likely_as_its_weight():
    clips = made_up([0] * 5, sources=["a", "b", "b", "b", "c"])
    weights = source_weights(clips, {"a": 1, "b": 3, "c": 0})
    np.testing.assert_allclose(weights / weights.sum(), [0.25, 0.25, 0.25, 0.25, 0])


def test_weights_name_the_sources_that_there_are():
    clips = made_up([0] * 2, sources=["alpha", "beta"])
    with pytest.raises(ValueError, match="did you mean 'alpha'"):
        source_weights(clips, {"alpa": 1, "beta": 1})
    with pytest.raises(ValueError, match="no weight for the sources beta"):
        source_weights(clips, {"alpha": 1})
    with pytest.raises(ValueError, match="0 or more, not all 0"):
        source_weights(clips, {"alpha": 0, "beta": 0})
    with pytest.raises(ValueError, match="sources of these clips are not known"):
        source_weights(made_up([0]), {"a": 1})
