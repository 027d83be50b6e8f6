import dataclasses
import json
from typing import ClassVar

import jax
import numpy as np
import pytest

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.recipes.faces.augment import augment
from jaxrecipes.recipes.faces.data import FaceDataConfig, load_data
from jaxrecipes.recipes.faces.inputs import load_inputs
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.hparams import collect


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceRunConfig(RunConfig):
    RECIPE: ClassVar[str] = "faces"

    data: FaceDataConfig = dataclasses.field(default_factory=FaceDataConfig)


def config(**data):
    return FaceRunConfig(data=FaceDataConfig(**data))


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    for name, value in golden("face3d/data_pipeline").items():
        if name.endswith(".npy"):
            np.save(root / name.removeprefix("files/"), value)
        elif name.endswith(".json"):
            (root / name.removeprefix("files/")).write_text(str(value))
    return root


def test_splits_hold_the_originals_pairs_in_compact_tables(golden, folder):
    original = golden("face3d/data_pipeline")
    splits = load_data(config(path=str(folder)), feat_dim=8, keypoints=True)
    assert list(splits) == ["train", "val", "test"]
    for name, split in splits.items():
        rows = original["pairs/all"][original[f"split/all/ratio613_seed42/{name}"]]
        np.testing.assert_array_equal(split.front_rows, rows[:, 0])
        np.testing.assert_array_equal(split.video_rows, rows[:, 1])
        source, target = split.arrays["src"], split.arrays["tgt"]
        np.testing.assert_array_equal(source, original["files/video_feature.npy"][rows[:, 1]])
        np.testing.assert_array_equal(target, original["files/front_feature.npy"][rows[:, 0]])
        assert isinstance(source, IndexedRows)
        assert len(source.table) == len(np.unique(rows[:, 1]))
        assert len(target.table) == len(np.unique(rows[:, 0]))
        assert split.arrays["pose"].shape == (len(rows), 3)
        assert split.arrays["keypoints_3d"].shape == (len(rows), 5, 3)
        assert {array.dtype for key, array in split.arrays.items() if key != "person"} == {
            np.dtype(np.float32)
        }
        assert len(split.names) == len(split.persons) == len(split) == len(rows)


def test_nobody_is_in_two_splits_and_labels_tell_people_apart(folder):
    splits = load_data(config(path=str(folder)), feat_dim=8)
    people = [set(split.persons) for split in splits.values()]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    pairs = {
        (label, name)
        for split in splits.values()
        for label, name in zip(split.arrays["person"].tolist(), split.persons, strict=True)
    }
    assert len(pairs) == len({name for _, name in pairs}) == 16


def test_the_yaw_filter_takes_the_entry_it_is_told(folder):
    for index in (0, 1):
        data = {"path": str(folder), "min_yaw_angle": 10.0, "max_yaw_angle": 60.0}
        splits = load_data(config(**data, yaw_index=index), feat_dim=8)
        for split in splits.values():
            angles = np.abs(np.asarray(split.arrays["pose"])[:, index])
            assert angles.min() >= 10
            assert angles.max() <= 60


def test_people_without_pairs_are_listed(folder, tmp_path, caplog):
    load_data(config(path=str(folder)), feat_dim=8, report_dir=tmp_path)
    assert (tmp_path / "people_without_pairs.txt").read_text() == "person_016\n"
    assert "1 of 17 people" in caplog.text


def test_embedded_faces_have_the_networks_width_and_the_configs_sizes():
    data = {"embedded_people": 20, "embedded_views": 4}
    splits = load_data(config(**data), feat_dim=32, keypoints=True)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 48,
        "val": 24,
        "test": 8,
    }
    assert splits["train"].arrays["src"].shape == (48, 32)
    evaluated = load_data(config(**data), feat_dim=32, train=False)
    assert list(evaluated) == ["val", "test"]
    assert set(evaluated["val"].arrays) == {"src", "tgt", "pose", "person"}
    np.testing.assert_array_equal(evaluated["val"].arrays["src"], splits["val"].arrays["src"])


def test_the_split_follows_its_own_seed_not_the_runs():
    data = {"embedded_people": 20, "embedded_views": 1}
    first = load_data(config(**data), feat_dim=32)
    other_run = load_data(dataclasses.replace(config(**data), seed=7), feat_dim=32)
    other_split = load_data(config(**data, split_seed=7), feat_dim=32)
    assert first["val"].persons == other_run["val"].persons != other_split["val"].persons


def test_a_folder_of_another_width_is_refused(folder):
    with pytest.raises(ValueError, match="have 8 numbers, but the network takes 512"):
        load_data(config(path=str(folder)), feat_dim=512)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"yaw_index": 3}, "yaw_index is 3; expected 0 <= yaw_index <= 2"),
        ({"train_fraction": 0.8}, "add up to more than 1"),
        ({"train_fraction": 0.0}, "expected 0 < train_fraction <= 1"),
        ({"embedded_people": 0}, "embedded_people is 0"),
        ({"reflect_prob": 1.5}, "reflect_prob is 1.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        FaceDataConfig(**data)


def test_too_few_people_are_one_clear_error():
    with pytest.raises(ValueError, match="the val split is empty: 3 people"):
        load_data(config(embedded_people=3), feat_dim=32)


def test_inputs_are_files_of_embeddings_and_folders(folder, tmp_path):
    rng = np.random.default_rng(0)
    stored = {"embeddings": rng.normal(size=(4, 8)), "pose": rng.normal(size=(4, 3))}
    np.savez(tmp_path / "some.npz", **stored)
    inputs = load_inputs([tmp_path / "some.npz", folder], feat_dim=8)
    assert len(inputs) == 4 + 64
    assert inputs.has_pose
    assert not inputs.is_paired
    np.testing.assert_allclose(inputs.arrays["src"][:4], stored["embeddings"], rtol=1e-6)
    np.testing.assert_allclose(inputs.arrays["pose"][:4], stored["pose"], rtol=1e-6)
    video = json.loads((folder / "video_metadata.json").read_text())["metadata"]
    assert inputs.names[4:] == [entry["image_path"] for entry in video]
    assert inputs.persons[4:] == [entry["person_name"] for entry in video]


def test_embeddings_without_poses_are_marked(tmp_path):
    np.save(tmp_path / "bare.npy", np.ones((2, 8), np.float32))
    inputs = load_inputs([tmp_path / "bare.npy"], feat_dim=8)
    assert not inputs.has_pose
    assert not inputs.arrays["pose"].any()


def test_bad_inputs_are_one_clear_error(folder, tmp_path):
    bare, short, text = (tmp_path / name for name in ("bare.npy", "short.npz", "faces.csv"))
    np.save(bare, np.ones((2, 8)))
    np.savez(short, embeddings=np.ones((2, 8)), pose=np.ones((3, 3)))
    text.write_text("1,2")
    for inputs, options, message in (
        ([bare, folder], {}, "bare.npy without poses, but other inputs have them"),
        ([short], {}, r"pose of .*short.npz are float64 \[3, 3\]; expected numbers \[2, 3\]"),
        ([bare], {"keypoints": True}, "there are no keypoints_3d of .*bare.npy"),
        ([bare], {"feat_dim": 9}, r"embeddings of .*; expected numbers \[N, 9\]"),
        ([text], {}, "faces.csv is no .npz or .npy file"),
        ([], {}, "no inputs"),
    ):
        with pytest.raises(ValueError, match=message):
            load_inputs(inputs, **({"feat_dim": 8} | options))
    with pytest.raises(FileNotFoundError, match=r"gone\.npz does not exist"):
        load_inputs([tmp_path / "gone.npz"], feat_dim=8)


def test_people_are_reflected_only_when_a_config_asks_for_it():
    batch = {name: np.ones((3, 8), np.float32) for name in ("src", "tgt")}
    batch["person"] = np.arange(3)
    assert "reflect_prob" not in collect(config(), 5)
    assert augment(jax.random.key(0), batch, {}) is batch
    reflected = augment(jax.random.key(0), batch, {"reflect_prob": 1.0})
    assert (np.asarray(reflected["src"]) < 0).any(axis=1).all()
    scheduled = config(reflect_prob="linear(0, 1, steps=10)")
    assert float(collect(scheduled, 5)["reflect_prob"](5)) == 0.5


def test_people_stay_in_their_split_when_others_come(tmp_path):
    def people(count):
        splits = load_data(
            config(embedded_people=count), feat_dim=32, report_dir=tmp_path, run_dir=tmp_path
        )
        return {name: set(split.persons) for name, split in splits.items()}

    first, again = people(30), people(33)
    assert again["val"] == first["val"]
    assert again["test"] == first["test"]
    assert len(again["train"] - first["train"]) == 3
