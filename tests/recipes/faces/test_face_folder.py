import json

import numpy as np
import pytest

from jaxrecipes.recipes.faces.folder import read_face_folder


@pytest.fixture
def folder(golden, tmp_path):
    """The golden folder, written out."""
    arrays = golden("face3d/data_pipeline")
    for name, value in arrays.items():
        if name.endswith(".npy"):
            np.save(tmp_path / name.removeprefix("files/"), value)
        elif name.endswith(".json"):
            (tmp_path / name.removeprefix("files/")).write_text(str(value))
    return tmp_path


def edit(file, change):
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


def test_rows_are_the_originals_items(golden, folder):
    arrays = golden("face3d/data_pipeline")
    faces = read_face_folder(folder, keypoints=True)
    for i in arrays["item_indices"]:
        item = {name: arrays[f"item{i}/{name}"] for name in ("src", "tgt", "pose", "keypoints_3d")}
        video, front = (np.array([arrays[f"item{i}/{side}_idx"]]) for side in ("video", "front"))
        np.testing.assert_array_equal(faces.video.take_features(video)[0], item["src"])
        np.testing.assert_array_equal(faces.front.take_features(front)[0], item["tgt"])
        np.testing.assert_array_equal(faces.video.poses[video][0], item["pose"])
        np.testing.assert_array_equal(faces.video.take_keypoints(video)[0], item["keypoints_3d"])
        keypoints = faces.front.take_keypoints(front)[0]
        np.testing.assert_array_equal(keypoints, arrays[f"item{i}/front_keypoints_3d"])
        assert faces.video.persons[video[0]] == str(arrays[f"item{i}/person_name"])


def test_without_original_landmarks_the_stored_keypoints_are_taken(golden, folder):
    arrays = golden("face3d/data_pipeline")
    edit(folder / "video_metadata.json", lambda m: m["landmarks_3d_original"].pop())
    faces = read_face_folder(folder, keypoints=True)
    keypoints = faces.video.take_keypoints(np.array([arrays["item1/video_idx"]]))
    np.testing.assert_array_equal(keypoints[0], arrays["item1_no_originals/keypoints_3d"])


def test_only_names_and_poses_are_required_of_the_metadata(folder):
    def strip(metadata):
        entries = [{"person_name": entry["person_name"]} for entry in metadata["metadata"]]
        poses = metadata["poses"]
        metadata.clear()
        metadata.update(metadata=entries, poses=poses)

    edit(folder / "front_metadata.json", strip)
    edit(folder / "video_metadata.json", strip)
    faces = read_face_folder(folder, keypoints=True)
    assert (len(faces.front), len(faces.video)) == (21, 64)
    assert set(faces.video.images) == {""}
    stored = np.load(folder / "video_keypoints.npy").astype(np.float32)
    np.testing.assert_array_equal(faces.video.take_keypoints(np.arange(64)), stored)


def test_features_are_mapped_and_only_rows_that_are_taken_are_judged(folder):
    features = np.load(folder / "video_feature.npy")
    features[7, 3] = np.nan
    np.save(folder / "video_feature.npy", features)
    faces = read_face_folder(folder)
    assert isinstance(faces.video.features, np.memmap)
    assert faces.video.take_features(np.array([3, 60])).shape == (2, 8)
    with pytest.raises(ValueError, match=r"video_feature\.npy: 1 rows are not finite.*row 7 "):
        faces.video.take_features(np.array([3, 7]))


@pytest.mark.parametrize(
    "name", ["front_feature.npy", "video_keypoints.npy", "video_metadata.json"]
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} missing"):
        read_face_folder(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "front_feature.npy",
            np.zeros((21, 8, 1)),
            r"front_feature.npy has the shape \(21, 8, 1\)",
        ),
        ("front_feature.npy", np.zeros((20, 8)), r"front_feature.npy has 20 rows, but .* 21"),
        ("video_feature.npy", np.zeros((64, 9)), r"front_feature.npy 8, video_feature.npy 9"),
        (
            "video_feature.npy",
            np.zeros((64, 8), "U3"),
            r"video_feature.npy holds <U3; expected real",
        ),
        ("video_keypoints.npy", np.zeros((64, 68, 3)), r"video_keypoints.npy has .* \[N, 5, 3\]"),
        ("video_keypoints.npy", np.zeros((63, 5, 3)), r"video_keypoints.npy has 63 rows"),
    ],
)
def test_arrays_that_do_not_fit_are_named(folder, name, array, message):
    np.save(folder / name, array)
    with pytest.raises(ValueError, match=message):
        read_face_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("poses"), "front_metadata.json has no list 'poses'"),
        (lambda m: m["poses"].pop(), "front_metadata.json: poses has 20 rows, but .* 21"),
        (lambda m: m["poses"][2].pop(), r"poses: expected \[3\] numbers in every row"),
        (lambda m: m["poses"][2].__setitem__(0, float("nan")), "first is row 2"),
        (lambda m: m["metadata"][0].pop("person_name"), "entry 0 .* has no person_name"),
        (lambda m: m["metadata"][3].update(person_name=["x"]), "person_name of entry 3"),
        (lambda m: m["poses"][2].__setitem__(0, 10**400), r"expected \[3\] numbers"),
        (lambda m: m["poses"][2].__setitem__(0, 1e30), "first is row 2 .* with 1e.30"),
        (lambda m: (m["metadata"].clear(), m["poses"].clear()), "'metadata' is empty"),
    ],
)
def test_metadata_that_does_not_fit_is_named(folder, change, message):
    edit(folder / "front_metadata.json", change)
    with pytest.raises(ValueError, match=message):
        read_face_folder(folder)


@pytest.mark.parametrize("name", ["front_metadata.json", "front_feature.npy"])
def test_a_file_that_was_cut_off_is_named(folder, name):
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{name} is not (a )?readable"):
        read_face_folder(folder)


@pytest.mark.parametrize("row", [[0.0] * 8, [1e30] + [0.0] * 7, [np.inf] + [0.0] * 7])
def test_a_feature_without_direction_or_beyond_all_bounds_is_named(folder, row):
    features = np.load(folder / "front_feature.npy")
    features[5] = row
    np.save(folder / "front_feature.npy", features)
    with pytest.raises(ValueError, match=r"front_feature.npy: 1 rows .* row 5 \(from 0\)"):
        read_face_folder(folder).front.take_features(np.arange(21))


@pytest.mark.parametrize("name", [None, " ", float("nan")])
def test_rows_without_a_person_are_nobody_and_named(folder, caplog, name):
    edit(folder / "front_metadata.json", lambda m: m["metadata"][4].update(person_name=name))
    assert read_face_folder(folder).front.persons[4] == ""
    assert "front_metadata.json: left out 1 row without a person (from 0): 4" in caplog.text


@pytest.mark.parametrize("info", [{"standard_scale": None}, {"standard_scale": -1}, [1]])
def test_a_scale_that_is_none_is_named(folder, info):
    edit(folder / "front_metadata.json", lambda m: m.update(standard_info=info))
    with pytest.raises(ValueError, match=r"standard_scale is .*; expected a positive number"):
        read_face_folder(folder, keypoints=True)


@pytest.mark.parametrize("text", ['{"poses": [], "poses": []}', "[" * 100_000, "", "\xe9"])
def test_json_that_cannot_be_read_exactly_is_one_line(folder, text):
    (folder / "video_metadata.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"video_metadata.json is (not readable JSON|an empty file)"
    ):
        read_face_folder(folder)


def test_poses_that_look_like_radians_are_warned_of(folder, caplog):
    read_face_folder(folder)
    assert "expected degrees" not in caplog.text
    edit(folder / "video_metadata.json", lambda m: m.update(poses=[[0.5, 1.5, -3.0]] * 64))
    read_face_folder(folder)
    assert "video_metadata.json: all poses lie within pi; expected degrees" in caplog.text
