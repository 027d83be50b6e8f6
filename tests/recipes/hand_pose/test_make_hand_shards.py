import io

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.models.hand.model import hand_geometry
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.recipes.hand_pose.hands.draw import synthetic_hands
from jaxrecipes.recipes.hand_pose.make_shards import ConvertedHands, make_hand_shards, mirror_pose
from jaxrecipes.recipes.hand_pose.shards import read_hand_clips


@pytest.fixture
def table():
    """Seven frames in three blocks, the first joint of frame 6 not known."""
    rng = np.random.default_rng(0)
    joints = rng.uniform(-40, 40, (7, 21, 3)) + np.array([0, 0, 500])
    joints[6, 3] = np.nan
    intrinsics = np.tile(np.array([[200.0, 0, 16], [0, 210, 12], [0, 0, 1]]), (7, 1, 1))
    points = np.einsum("nij,nkj->nki", intrinsics, joints)
    images = []
    for _ in range(7):
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(stream, "JPEG")
        images.append(stream.getvalue())
    return {
        "split": ["train", "train", "validation", "val", "val", "train", "train"],
        "name": [f"{i}.jpg" for i in range(7)],
        "block": [0, 0, 1, 1, 1, 2, 2],
        "frame": [3, 4, 10, 11, 13, 20, 21],
        "K": intrinsics.reshape(7, 9).tolist(),
        "joints_cam_mm": joints.reshape(7, 63).tolist(),
        "joints_uv": (points[..., :2] / points[..., 2:]).reshape(7, 42).tolist(),
        "image_bytes": images,
    }


@pytest.fixture
def parquet(table, tmp_path):
    pq.write_table(pa.table(table), tmp_path / "crops.parquet")
    return tmp_path / "crops.parquet"


def test_rows_become_sequences_by_split_and_block(parquet, table, tmp_path):
    made = make_hand_shards(parquet, tmp_path / "out", handedness="left")
    assert made == ConvertedHands(frames={"train": 4, "val": 3}, fitted=0, fit_error=0.0)
    train, val = (
        read_hand_clips(tmp_path / "out" / split, cache_dir=tmp_path / "cache")
        for split in ("train", "val")
    )
    np.testing.assert_array_equal(train.sequences, [0, 0, 1, 1])
    np.testing.assert_array_equal(val.sequences, [0, 0, 0])
    np.testing.assert_allclose(val.arrays["timestamp"][:, 0], [0, 100 / 3, 100], rtol=1e-6)
    np.testing.assert_array_equal(train.arrays["left"], 1)
    np.testing.assert_array_equal(train.arrays["mano_valid"], 0)
    np.testing.assert_array_equal(val.arrays["focal"][:, 0], [[200, 210]] * 3)
    np.testing.assert_array_equal(val.arrays["princpt"][:, 0], [[16, 12]] * 3)
    np.testing.assert_array_equal(train.sources, ["crops"] * 4)
    pixels = np.asarray(Image.open(io.BytesIO(table["image_bytes"][3])))
    np.testing.assert_array_equal(val.arrays["image"][1][0], pixels)


def test_the_box_is_that_of_the_known_joints(parquet, table, tmp_path):
    make_hand_shards(parquet, tmp_path / "out", handedness="right")
    arrays = read_hand_clips(tmp_path / "out" / "train", cache_dir=tmp_path / "cache").arrays
    np.testing.assert_array_equal(arrays["joint_valid"][:, 0].sum(1), [21, 21, 21, 20])
    known = np.delete(np.reshape(table["joints_uv"][6], (21, 2)), 3, axis=0)
    box = np.concatenate([known.min(0), known.max(0)])
    np.testing.assert_allclose(arrays["hand_bbox"][3, 0], box, rtol=1e-5)


@pytest.mark.parametrize("handedness", ["left", "right"])
def test_a_fit_sees_right_hands_and_its_labels_are_mirrored_back(
    parquet, table, tmp_path, handedness
):
    seen = []

    def fit(joints):
        seen.append(joints)
        pose, shape = np.full((len(joints), 48), 2.0), np.full((len(joints), 10), 3.0)
        return pose, shape, np.array([1.0, 30.0, 2.0, 3.0, 4.0, 5.0])

    made = make_hand_shards(parquet, tmp_path / "out", handedness=handedness, fit=fit)
    assert (made.fitted, made.fit_error) == (5, 3.0)
    sign = -1 if handedness == "left" else 1
    expected = np.reshape(table["joints_cam_mm"][:6], (6, 21, 3)) * [sign, 1, 1]
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
    arrays = read_hand_clips(tmp_path / "out" / "train", cache_dir=tmp_path / "cache").arrays
    np.testing.assert_array_equal(arrays["mano_valid"][:, 0], [1, 0, 1, 0])
    np.testing.assert_array_equal(arrays["mano_pose"][0, 0, :6], [2, 2 * sign, 2 * sign] * 2)
    np.testing.assert_array_equal(arrays["mano_pose"][3], 0)
    np.testing.assert_array_equal(arrays["mano_shape"][:3], 3)


def test_mirrored_labels_of_a_left_hand_give_the_joints_that_a_fit_sees():
    hands = synthetic_hands(3, seed=1, image_size=32, left_every=1)
    pose = mirror_pose(hands["mano_pose"][:, 0])
    fitted = jax.jit(hand_geometry)(procedural_hand(), pose, hands["mano_shape"][:, 0]).joint_rel
    joints = hands["joint_cam"][:, 0] * np.array([-1, 1, 1])
    np.testing.assert_allclose(fitted, joints - joints[:, :1], atol=0.01)


def test_a_mirror_twice_is_none():
    pose = np.random.default_rng(0).normal(size=(2, 48))
    np.testing.assert_array_equal(mirror_pose(mirror_pose(pose)), pose)


def test_without_blocks_each_row_is_a_sequence(table, tmp_path):
    bare = {name: table[name] for name in table if name not in ("block", "frame", "name")}
    pq.write_table(pa.table(bare), tmp_path / "bare.parquet")
    make_hand_shards(tmp_path / "bare.parquet", tmp_path / "out", handedness="left")
    clips = read_hand_clips(tmp_path / "out" / "val", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(clips.sequences, [0, 1, 2])
    np.testing.assert_array_equal(clips.arrays["timestamp"], 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split": ["train"] * 6 + ["attic"]}, r"row 6 \(from 0\) has split 'attic'"),
        ({"K": [[1.0] * 8] * 7}, r"K of row 0 \(from 0\) is .*; expected 9 numbers"),
        ({"K": [[9.0, 0, 0, 0, 9, 0, 1, 1, 1]] * 7}, r"K of row 0 .*; expected fx, 0, cx, 0, fy"),
        ({"K": [[-9.0, 0, 1, 0, 9, 1, 0, 0, 1]] * 7}, r"row 0 \(from 0\) .*: focal is not pos"),
        ({"joints_cam_mm": [[0.01 * (i % 7) for i in range(63)]] * 7}, "in metres: multiply"),
        ({"joints_cam_mm": [None] + [[0.0] * 63] * 6}, "joints_cam_mm of row 0 .* is None"),
        ({"joints_uv": [[99.0 * i for i in range(42)]] * 7}, "row 0 .*, far outside of its image"),
        ({"image_bytes": [b"x"] * 7}, "row 0 .*: not an image that Pillow can read"),
        ({"image_bytes": [None] * 7}, "row 0 .* has no image"),
        ({"image_bytes": ["text"] * 7}, "image_bytes holds string; expected encoded image files"),
        ({"joints_uv": [[1e300] * 42] * 7}, "joints_uv of row 0 .* has an infinite number"),
        ({"frame": ["x"] * 7}, "frame of row 0 .* is no number"),
        ({"joints_uv": None}, "has no column joints_uv"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(table, tmp_path, change, reason):
    table = {name: value for name, value in (table | change).items() if value is not None}
    pq.write_table(pa.table(table), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=reason):
        make_hand_shards(tmp_path / "bad.parquet", tmp_path / "out", handedness="left")
    assert not list(tmp_path.glob("out/*/*"))


def test_the_script_converts_or_says_why_not(parquet, script, tmp_path):
    command = ["make_dataset", "--hands", parquet, "--output", tmp_path / "out"]
    done = script(*command, "--handedness", "left")
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / "out")
    assert done.err.strip() == "4 frames of train, 3 frames of val"
    failed = script(*command)
    assert failed.code == 2
    assert "--handedness" in failed.err


def test_images_of_hugging_face_are_read(table, tmp_path):
    table["image_bytes"] = [{"bytes": image, "path": None} for image in table["image_bytes"]]
    pq.write_table(pa.table(table), tmp_path / "hf.parquet")
    made = make_hand_shards(tmp_path / "hf.parquet", tmp_path / "out", handedness="left")
    assert made.frames == {"train": 4, "val": 3}
    assert len(read_hand_clips(tmp_path / "out" / "val", cache_dir=tmp_path / "cache")) == 3


def test_a_frame_whose_joints_span_no_box_has_no_labels(table, tmp_path, caplog):
    table["joints_uv"][4] = [5.0, 6.0] * 21
    table["block"] = [None] * 7
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    make_hand_shards(tmp_path / "d.parquet", tmp_path / "out", handedness="left")
    clips = read_hand_clips(tmp_path / "out" / "val", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(clips.sequences, [0, 1, 2])  # rows of no block
    assert clips.arrays["joint_valid"][:, 0].any(axis=1).tolist() == [True, True, False]
    assert "1 row without known joints (from 0): 4 have no labels" in caplog.text
