import numpy as np
import pytest

from jaxrecipes.recipes.faces.folder import read_face_folder
from jaxrecipes.recipes.faces.make_folder import convert_features, make_face_folder, pose_entries

YAW = [10.0, -5.0, 40.0, 5.0, -90.0, 0.0, 30.0]
PERSON = ["a", "a", "a", "a", "b", "b", "b"]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "embeddings": rng.normal(size=(7, 6)),
        "person": np.array(PERSON),
        "pose": np.stack([np.arange(7.0), YAW, -np.arange(7.0)], axis=1),
        "keypoints": rng.normal(size=(7, 5, 3)),
    }


def test_a_folder_gives_back_unit_embeddings_people_and_poses(arrays, tmp_path):
    keypoints = arrays.pop("keypoints")
    made = make_face_folder(tmp_path, *arrays.values(), keypoints=keypoints)
    faces = read_face_folder(tmp_path, keypoints=True)
    assert (made.people, made.front_rows, made.video_rows, made.unpaired) == (2, 2, 5, [])
    assert faces.front.images == ["row_1", "row_5"]  # the smallest yaw; the earlier of -5 and 5
    assert faces.video.persons == ["a", "a", "a", "b", "b"]
    rows = np.array([0, 2, 3, 4, 6])
    unit = arrays["embeddings"] / np.linalg.norm(arrays["embeddings"], axis=1, keepdims=True)
    np.testing.assert_allclose(faces.video.take_features(np.arange(5)), unit[rows], atol=1e-7)
    np.testing.assert_allclose(faces.video.poses, arrays["pose"][rows])
    points = faces.front.take_keypoints(np.arange(2))
    assert np.linalg.norm(points.mean(axis=0), axis=-1).max() == pytest.approx(1.0)
    assert np.abs(points.mean(axis=1)).max() < 1e-6


def test_rows_without_a_person_are_nobody(arrays, tmp_path, caplog):
    arrays["person"] = np.array(["a", "a", " ", "a", "b", "", "b"])
    arrays["embeddings"][5] = 0
    keypoints = arrays.pop("keypoints")
    made = make_face_folder(tmp_path, *arrays.values(), keypoints=keypoints)
    assert (made.people, made.front_rows, made.video_rows) == (2, 2, 3)
    assert "left out 2 rows without a person (from 0): 2, 5" in caplog.text
    assert read_face_folder(tmp_path).video.images == ["row_0", "row_3", "row_4"]


def test_principal_axes_keep_cosines_and_put_the_strongest_coordinate_first(arrays, tmp_path):
    keypoints = arrays.pop("keypoints")
    make_face_folder(tmp_path, *arrays.values(), keypoints=keypoints, principal_axes=True)
    faces = read_face_folder(tmp_path)
    turned = np.concatenate(
        [side.take_features(np.arange(n)) for side, n in ((faces.front, 2), (faces.video, 5))]
    )
    embeddings = arrays["embeddings"][[1, 5, 0, 2, 3, 4, 6]]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(turned @ turned.T, unit @ unit.T, atol=1e-6)
    strength = np.square(turned).sum(axis=0)
    assert (np.diff(strength) < 0).all()
    np.testing.assert_allclose(unit @ np.load(tmp_path / "rotation.npy"), turned, atol=1e-6)


def test_more_frontal_rows_or_a_mask_can_be_asked_for(arrays, tmp_path):
    arrays.pop("keypoints")
    make_face_folder(tmp_path, *arrays.values(), frontals_per_person=2)
    assert read_face_folder(tmp_path).front.images == ["row_1", "row_3", "row_5", "row_6"]
    mask = np.array([1, 0, 0, 0, 0, 0, 0], bool)
    made = make_face_folder(tmp_path, *arrays.values(), frontal=mask)
    assert read_face_folder(tmp_path).front.images == ["row_0"]
    assert made.unpaired == ["b"]
    for other in (np.arange(7), np.full(7, 0.5), np.array(["1"] * 7), mask[:3]):
        with pytest.raises(ValueError, match=r"frontal is .*; expected \[7\] of true and false"):
            make_face_folder(tmp_path, *arrays.values(), frontal=other)


def test_without_keypoints_the_folder_refuses_to_give_any(arrays, tmp_path):
    arrays.pop("keypoints")
    make_face_folder(tmp_path, *arrays.values())
    faces = read_face_folder(tmp_path, keypoints=True)
    with pytest.raises(ValueError, match=r"video_keypoints\.npy: 2 rows are not finite"):
        faces.video.take_keypoints(np.arange(2))


def test_angles_go_to_the_entries_of_the_original():
    angles = np.array([[10.0, 20.0, 30.0]])
    assert pose_entries(angles, ["pitch", "yaw", "roll"]).tolist() == [[30.0, 20.0, 10.0]]
    assert pose_entries(np.array([355.0, 180.0]), ["yaw"]).tolist() == [[0, -5, 0], [0, -180, 0]]
    offset = pose_entries(angles, ["pitch", "yaw", "roll"], pitch_offset=180.0)
    assert offset.tolist() == [[30.0, 20.0, -170.0]]


def test_a_whole_turn_of_objects_is_converted_by_its_keys(tmp_path):
    angle, thing = (grid.ravel() for grid in np.meshgrid(np.arange(0.0, 360.0, 45.0), [7, 9]))
    embeddings = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    np.savez(tmp_path / "turn.npz", embeddings=embeddings, object_id=thing, angle_deg=angle)
    keys = {"person_key": "object_id", "pose_key": "angle_deg"}
    convert_features(tmp_path / "turn.npz", tmp_path / "turn", pose_order=["yaw"], **keys)
    faces = read_face_folder(tmp_path / "turn")
    assert faces.front.persons == ["7", "9"]
    assert faces.front.poses.tolist() == [[0, 0, 0]] * 2
    assert faces.video.poses[:7, 1].tolist() == [45, 90, 135, -180, -135, -90, -45]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"embeddings": np.zeros((7, 6))},
            "embeddings: 7 rows have length 0 and no direction, the first is row 0",
        ),
        (
            {"embeddings": np.full((7, 6), np.inf)},
            r"embeddings: 7 rows are not finite or beyond 1e\+06, the first is row 0",
        ),
        ({"embeddings": np.ones(7)}, r"embeddings are float64 \[7\]; expected numbers \[N, D\]"),
        ({"person": np.arange(6)}, r"person is int64 \[6\]; expected \[7\]"),
        ({"person": np.arange(7.0)}, "expected .* integers or strings"),
        ({"pose": np.ones((7, 2))}, r"poses are .*\[7, 2\]; expected numbers \[7, 3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, tmp_path, change, message):
    arrays.pop("keypoints")
    with pytest.raises(ValueError, match=message):
        make_face_folder(tmp_path, *(arrays | change).values())


def test_requests_that_make_no_pairs_are_refused(arrays, tmp_path):
    arrays.pop("keypoints")
    with pytest.raises(ValueError, match="7 of 7 rows are frontal"):
        make_face_folder(tmp_path, *arrays.values(), frontals_per_person=9)
    with pytest.raises(ValueError, match="frontals_per_person is 0"):
        make_face_folder(tmp_path, *arrays.values(), frontals_per_person=0)
    with pytest.raises(ValueError, match="unknown angle 'pich'; did you mean 'pitch'"):
        pose_entries(np.ones((7, 1)), ["pich"])
    with pytest.raises(ValueError, match="names an angle twice"):
        pose_entries(np.ones((7, 2)), ["yaw", "yaw"])


def test_the_script_converts_or_says_why_not(arrays, script, tmp_path):
    source = tmp_path / "faces.npz"
    np.savez(source, **{name.replace("pose", "angles"): a for name, a in arrays.items()})
    command = ["make_dataset", "--features", source, "--output", tmp_path / "out"]
    good = ["--pose-key", "angles", "--keypoints-key", "keypoints"]
    done = script(*command, *good)
    assert done.code == 0, done.err
    assert done.out.strip() == str(tmp_path / "out")
    assert done.err.strip() == "2 people, 2 frontal photos, 5 side views"
    failed = script(*command)
    assert failed.code == 2
    assert failed.err.startswith(f"error: unknown array of {source} 'pose'")
