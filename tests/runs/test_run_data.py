"""What a run's data is known by, for every recipe."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxrecipes.config import load_config
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.data import load_data
from jaxrecipes.runs.data import fingerprint_of
from jaxrecipes.runs.recipe_module import load_recipe

FEW = {
    "ocec": ["--data.embedded_train", "8", "--data.embedded_val", "4"],
    "clip_iqa": ["--data.embedded_train", "8", "--data.embedded_val", "4"],
    "hand_pose": ["--data.embedded_train", "4", "--data.embedded_val", "2"],
    "universal_face": ["--data.embedded_people", "10"],
    "face3d": ["--data.embedded_people", "10"],
}
INPUTS = {"image", "src", "tgt", "image_embedding", "text_embedding", "text_pooled"}


@pytest.mark.parametrize("name", list(FEW))
def test_the_fingerprint_is_of_names_and_labels_and_always_the_same(name):
    def load(*flags):
        config = load_config(f"configs/{name}.py", [*FEW[name], *flags])
        return load_recipe(name).load_data(config, report_dir=None, train=True)

    splits = load()
    for split in splits.values():
        assert "name" in split.identity
        assert len(split.identity) > 1
        assert not INPUTS & set(split.identity)
    assert fingerprint_of(load()) == fingerprint_of(splits)
    other = fingerprint_of(load("--seed", "7"))
    assert other != fingerprint_of(splits)
    assert fingerprint_of(load("--data.seed", "7")) == other
    seed = load_config(f"configs/{name}.py", []).seed
    again = load("--seed", "7", "--data.seed", str(seed))
    assert fingerprint_of(again) == fingerprint_of(splits)


def test_images_that_are_not_there_are_counted(tmp_path):
    rows = [("train", f"{i}.png", i % 2) for i in range(6)] + [("val", "0.png", 1)]
    for _, name, _ in rows:
        Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / name)
    split, path, label = zip(*rows, strict=True)
    table = pa.table({"split": split, "image_path": path, "class_id": label})
    pq.write_table(table, tmp_path / "dataset.parquet")
    (tmp_path / "3.png").unlink()
    data = EyeDataConfig(
        path=str(tmp_path), cache_dir=str(tmp_path / "cache"), image_size=(16, 16), batch_size=2
    )
    found = fingerprint_of(load_data(OcecRunConfig(data=data)))
    assert (found["train"].examples, found["train"].left_out) == (5, 1)
    assert (found["val"].examples, found["val"].left_out) == (1, 0)
