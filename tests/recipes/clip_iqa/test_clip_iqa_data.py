"""The data of clip_iqa: splits, texts, stored sizes, explanations, inputs, cached embeddings."""

import csv
import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jax import numpy as jnp
from PIL import Image

from jaxrecipes.data.augment.images import normalize
from jaxrecipes.models.clip.config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.recipes.clip_iqa.config import (
    AugmentConfig,
    ClipSource,
    IqaDataConfig,
    IqaRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.clip_iqa.data import load_data, load_inputs
from jaxrecipes.recipes.clip_iqa.freezing import freezing_plan
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.train.recipe import DataInfo

TINY = ClipConfig(
    vision=ClipVisionConfig(
        image_size=16, patch_size=8, width=8, depth=1, num_heads=1, mlp_width=8
    ),
    text=ClipTextConfig(width=8, depth=1, num_heads=1, mlp_width=8),
    projection_dim=8,
)


def run_config(tmp_path, *, data=None, **fields):
    options = {"path": str(tmp_path / "d.csv"), "cache_dir": str(tmp_path / "cache")}
    return IqaRunConfig(
        clip=ClipSource(size="custom", custom=TINY),
        data=IqaDataConfig(**(options | (data or {}))),
        **fields,
    )


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(10):
        levels = rng.integers(0, 255, (24, 40, 3), np.uint8)
        Image.fromarray(levels).save(tmp_path / f"{i}.png")
        why = "too dark" if i % 2 else ""
        rows.append((f"{i}.png", f"a cat number {i // 2}", i / 2, 5 - i / 2, why))
    with (tmp_path / "d.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("name", "prompt", "mos_quality", "mos_align", "why"))
        writer.writerows(rows)
    return tmp_path


def test_rows_are_split_as_by_the_original(folder):
    splits = load_data(run_config(folder))
    assert splits["val"].names == ["1.png", "8.png"]
    assert len(splits["train"]) == 8
    np.testing.assert_allclose(splits["val"].arrays["quality"], [0.1, 0.8])


def test_training_images_are_stored_larger_and_know_their_size(folder):
    splits = load_data(run_config(folder))
    assert splits["train"].arrays["image"].shape[1:] == (18, 18, 3)
    np.testing.assert_array_equal(splits["train"].arrays["image_size"], [[24, 40]] * 8)
    assert splits["val"].arrays["image"].shape[1:] == (16, 16, 3)
    plain = load_data(run_config(folder, augment=AugmentConfig(enabled=False)))
    assert plain["train"].arrays["image"].shape[1:] == (16, 16, 3)
    whole = load_data(run_config(folder, data={"stored_size": 100}))
    assert whole["train"].arrays["image"].shape[1:] == (24, 40, 3)


def test_the_middle_of_larger_images_can_be_evaluated(folder):
    tiny = ClipSource(size="custom", custom=TINY, image_size=24)
    whole = load_data(dataclasses.replace(run_config(folder), clip=tiny))
    config = run_config(folder, data={"eval_size": 24, "stored_size": 24})
    splits = load_data(config)
    expected = whole["val"].arrays["image"][:, 4:20, 4:20]
    np.testing.assert_array_equal(splits["val"].arrays["image"], expected)

    train = splits["train"].arrays["image"]
    assert train.shape[1:] == (24, 24, 3)
    seen = make_recipe(config, DataInfo(steps_per_epoch=1)).inputs({"image": jnp.asarray(train)})[
        "image"
    ]
    middle = normalize(jnp.asarray(train[:, 4:20, 4:20]), IMAGE_MEAN, IMAGE_STD)
    np.testing.assert_allclose(seen, middle, atol=1e-6)
    with pytest.raises(ValueError, match=r"data\.eval_size is 8; the network takes images of 16"):
        run_config(folder, data={"eval_size": 8})


def test_a_prompt_is_stored_once_and_as_short_as_it_fits(folder):
    train = load_data(run_config(folder))["train"]
    tokens = train.arrays["tokens"]
    assert tokens.shape == (8, 16)
    assert len(tokens.table) == len(set(train.prompts)) == 5
    np.testing.assert_array_equal(tokens[0], tokens[np.array([0])][0])


def test_prompts_can_be_kept_apart(folder):
    splits = load_data(run_config(folder, data={"split": "prompts"}))
    assert not set(splits["train"].prompts) & set(splits["val"].prompts)


def test_an_image_without_an_explanation_is_marked(folder):
    config = run_config(
        folder, data={"explanation_column": "why"}, loss=LossConfig(explanations=True)
    )
    train = load_data(config)["train"]
    marks = [float(int(name[0]) % 2) for name in train.names]
    np.testing.assert_array_equal(train.arrays["has_explanation"], marks)
    assert train.arrays["explanation_tokens"].shape == (8, 16)


def test_a_missing_image_stops_the_run_or_is_left_out(folder):
    (folder / "8.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 10 images"):
        load_data(run_config(folder))
    splits = load_data(run_config(folder, data={"on_unreadable": "skip"}), report_dir=folder)
    assert splits["val"].names == ["1.png"]
    assert (folder / "unreadable_val.csv").is_file()


def test_a_vocabulary_that_is_too_small_is_an_error(folder):
    text = dataclasses.replace(TINY.text, vocab_size=100)
    clip = ClipSource(size="custom", custom=dataclasses.replace(TINY, text=text))
    config = dataclasses.replace(run_config(folder), clip=clip)
    with pytest.raises(ValueError, match="it must be 49408"):
        load_data(config)


def test_inputs_need_no_scores(folder):
    (folder / "p.csv").write_text("name,prompt\n3.png,a dog\n")
    inputs = load_inputs(run_config(folder), [folder / "p.csv", folder / "p.csv"])
    assert inputs.names == ["3.png", "3.png"]
    assert inputs.prompts == ["a dog", "a dog"]
    assert inputs.arrays["image"].shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="neither CSV nor parquet"):
        load_inputs(run_config(folder), [folder / "3.png"])


def test_embeddings_can_stand_in_for_images(tmp_path):
    rows = {
        "split": ["train"] * 3 + ["val"],
        "name": list("abcd"),
        "prompt": ["a cat", "a dog", "a cat", "a bird"],
        "mos_quality": [1.0, 2.0, 3.0, 4.0],
        "mos_align": [1.0, 2.0, 3.0, 4.0],
    }
    vectors = np.random.default_rng(0).normal(size=(4, 8))
    file = tmp_path / "d.parquet"
    pq.write_table(pa.table({**rows, "image_embedding": list(vectors)}), file)
    config = run_config(tmp_path, data={"path": str(file), "image_embeddings": True})
    train = load_data(config)["train"]
    assert set(train.arrays) == {"image_embedding", "tokens", "quality", "consistency"}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(train.arrays["image_embedding"], unit[:3], rtol=1e-5)
    np.testing.assert_array_equal(
        load_inputs(config, [file]).arrays["image_embedding"][:3], train.arrays["image_embedding"]
    )
    assert "^clip/vision/" in freezing_plan(config, steps_per_epoch=1)[0][1]

    wider = dataclasses.replace(TINY, projection_dim=16)
    clip = ClipSource(size="custom", custom=wider)
    with pytest.raises(ValueError, match=r"has 8 numbers, .*projection_dim is 16"):
        load_data(dataclasses.replace(config, clip=clip))
    with pytest.raises(ValueError, match=r"data\.image_embeddings is for parquet files"):
        run_config(tmp_path, data={"path": None, "image_embeddings": True})


def test_embedded_validation_has_captions_of_its_own(tmp_path):
    config = run_config(tmp_path, data={"path": None, "embedded_train": 50, "embedded_val": 20})
    splits = load_data(config)
    assert len(splits["train"]) == 50
    assert len(splits["val"]) == 20
    assert not set(splits["train"].prompts) & set(splits["val"].prompts)


@pytest.mark.parametrize("split", ["rows", "prompts"])
def test_what_a_run_holds_out_stays_so_when_rows_are_added(folder, split):
    config, where = run_config(folder, data={"split": split}), {"run_dir": folder}
    first = load_data(config, report_dir=folder, **where)
    with (folder / "d.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow(("0.png", "another prompt", 1, 1, ""))
    again, evaluated = load_data(config, **where), load_data(config, train=False, **where)
    assert again["val"].names == evaluated["val"].names == first["val"].names
    assert again["train"].names == [*first["train"].names, "0.png"]
