import csv

import numpy as np
import pytest

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.recipes.clip_iqa import report
from jaxrecipes.recipes.clip_iqa.config import SMALL, ClipSource, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.data import RatedImages
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe, score_metrics
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import DataInfo

RNG = np.random.default_rng(0)
COUNT = 24
CONFIG = IqaRunConfig(clip=ClipSource(size="custom"), plcc_fit="logistic4")


@pytest.fixture(scope="module")
def images():
    """Two images of each of twelve prompts, by two generators."""
    prompts = [f'a "{i // 2}", drawn' for i in range(COUNT)]
    size = SMALL.vision.image_size
    arrays = {
        "image": RNG.integers(0, 256, (COUNT, size, size, 3), dtype=np.uint8),
        "tokens": IndexedRows(np.zeros((12, 8), np.int32), np.arange(COUNT) // 2),
        "quality": RNG.random(COUNT, np.float32),
        "consistency": RNG.random(COUNT, np.float32),
    }
    names = [f"{i}.png" for i in range(COUNT)]
    return RatedImages(arrays, names, prompts, ["one", "two"] * (COUNT // 2))


@pytest.fixture
def outputs(images):
    noise = RNG.normal(0, 0.1, (2, COUNT)).astype(np.float32)
    return {
        "quality": images.arrays["quality"] + noise[0],
        "consistency": images.arrays["consistency"] + noise[1],
    }


def test_a_constant_prediction_has_no_correlation_and_so_is_never_the_best(images):
    outputs = {name: np.full(COUNT, 0.5, np.float32) for name in ("quality", "consistency")}
    found = score_metrics(CONFIG, outputs, images.arrays)
    for name in ("srocc_quality", "plcc_consistency", "krocc_quality", "srocc_mean"):
        assert np.isnan(found[name])
    assert found["rmse_quality_5"] == pytest.approx(5 * found["rmse_quality"])
    assert found["mae_consistency_5"] == pytest.approx(5 * found["mae_consistency"])


def test_report_has_a_scatter_tables_and_the_images(images, outputs, tmp_path):
    report.write_report(CONFIG, "val", Evaluation({}, outputs), images, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "agreement_by_prompt_val.csv",
        "agreement_val.csv",
        "images_by_consistency_val.png",
        "images_by_quality_val.png",
        "scores_val.png",
    ]
    with (tmp_path / "agreement_val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["generator"] for row in rows] == ["all", "one", "two"]
    found = score_metrics(CONFIG, outputs, images.arrays)
    assert float(rows[0]["srocc_quality"]) == pytest.approx(found["srocc_quality"], abs=1e-4)
    assert float(rows[0]["rmse_quality"]) == pytest.approx(found["rmse_quality_5"], abs=1e-4)


@pytest.mark.parametrize("broken", [np.nan, 0.5], ids=["not finite", "constant"])
def test_report_of_a_network_that_broke_is_written_all_the_same(images, tmp_path, broken):
    outputs = {name: np.full(COUNT, broken, np.float32) for name in ("quality", "consistency")}
    report.write_report(CONFIG, "test", Evaluation({}, outputs), images, tmp_path)
    assert (tmp_path / "scores_test.png").exists()


def test_report_of_cached_embeddings_has_no_images(images, outputs, tmp_path):
    arrays = {name: array for name, array in images.arrays.items() if name != "image"}
    cached = RatedImages(arrays, images.names, images.prompts, None)
    report.write_report(CONFIG, "val", Evaluation({}, outputs), cached, tmp_path)
    report.write_samples(None, cached, {}, tmp_path / "samples.png")
    assert not list(tmp_path.glob("images_*")) + list(tmp_path.glob("samples*"))
    assert (tmp_path / "agreement_val.csv").read_text().startswith("generator,images,")


def test_samples_show_what_the_step_crops_from_larger_images(images, tmp_path):
    recipe = make_recipe(CONFIG, DataInfo(steps_per_epoch=1))
    stored = np.repeat(images.arrays["image"], 2, axis=2)
    sizes = np.full((COUNT, 2), [64, 128], np.int32)
    arrays = images.arrays | {"image": stored, "image_size": sizes}
    larger = RatedImages(arrays, images.names, images.prompts, images.generators)
    hparams = {name: schedule(0) for name, schedule in recipe.hparams.items()}
    report.write_samples(recipe, larger, hparams, tmp_path / "samples.png")
    assert (tmp_path / "samples.png").stat().st_size > 10_000


def test_predictions_are_given_in_both_scales(images, outputs):
    columns = report.prediction_columns(CONFIG, images, outputs)
    assert list(columns) == [
        "name",
        "prompt",
        "quality",
        "consistency",
        "quality_5",
        "consistency_5",
    ]
    assert {len(column) for column in columns.values()} == {COUNT}
    np.testing.assert_allclose(np.float64(columns["quality"]), outputs["quality"], atol=1e-6)
    np.testing.assert_allclose(np.float64(columns["quality_5"]), 5 * outputs["quality"], atol=1e-4)
