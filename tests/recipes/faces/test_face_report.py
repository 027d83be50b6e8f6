import numpy as np
import pytest

from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.recipes.faces import report as face_report
from jaxrecipes.recipes.faces.data import FacePairs
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.evaluate import Evaluation

PEOPLE, PHOTOS, VIEWS, DIM = 4, 2, 5, 16
RNG = np.random.default_rng(0)
CONFIG = RunConfig()


@pytest.fixture(scope="module")
def pairs():
    """Each of 4 people: 2 photos x 5 side views, so that each view is in two pairs."""
    person = np.repeat(np.arange(PEOPLE, dtype=np.int32), PHOTOS * VIEWS)
    front = np.concatenate([np.repeat(np.arange(PHOTOS), VIEWS) + PHOTOS * i for i in range(4)])
    video = np.concatenate([np.tile(np.arange(VIEWS), PHOTOS) + VIEWS * i for i in range(4)])
    identity = RNG.normal(size=(PEOPLE, DIM))
    photos = np.repeat(identity, PHOTOS, axis=0) + 0.1 * RNG.normal(size=(PEOPLE * PHOTOS, DIM))
    views = np.repeat(identity, VIEWS, axis=0) + 2.0 * RNG.normal(size=(PEOPLE * VIEWS, DIM))
    poses = RNG.normal(0, 30, (PEOPLE * VIEWS, 3))
    arrays = {
        "src": IndexedRows(views.astype(np.float32), video),
        "tgt": IndexedRows(photos.astype(np.float32), front),
        "pose": IndexedRows(poses.astype(np.float32), video),
        "person": person,
    }
    return FacePairs(
        arrays=arrays,
        names=[f"view/{row}" for row in video],
        persons=[f"person_{i}" for i in person],
        front_rows=front,
        video_rows=video,
    )


def expected_rank_one(queries, pairs):
    """Over the 20 views and the 8 photos."""
    _, first = np.unique(pairs.video_rows, return_index=True)
    queries, photos = queries[first], pairs.arrays["tgt"].table
    likest = np.argmax(queries @ (photos / np.linalg.norm(photos, axis=1, keepdims=True)).T, axis=1)
    return np.mean(likest // PHOTOS == pairs.arrays["person"][first])


def test_retrieval_compares_outputs_and_inputs_with_the_photos(pairs):
    src, tgt = (np.asarray(pairs.arrays[name]) for name in ("src", "tgt"))
    found = face_report.retrieval_metrics(tgt, pairs.arrays)
    assert found["rank1"] == found["verification_auc"] == 1
    assert found["rank1_input"] == pytest.approx(expected_rank_one(src, pairs))
    assert 0.5 < found["verification_auc_input"] < 1
    as_they_are = face_report.retrieval_metrics({"projected": src}, pairs.arrays)
    assert as_they_are["rank1"] == as_they_are["rank1_input"]
    assert as_they_are["verification_auc"] == as_they_are["verification_auc_input"]


def test_outputs_that_are_not_finite_give_no_figure(pairs):
    found = face_report.retrieval_metrics(np.full((len(pairs), DIM), np.nan), pairs.arrays)
    assert np.isnan(found["rank1"])
    assert np.isnan(found["verification_auc"])
    assert np.isfinite(found["rank1_input"])


def test_report_and_samples_are_pictures(pairs, tmp_path):
    evaluation = Evaluation({}, {"projected": np.asarray(pairs.arrays["tgt"])})
    face_report.write_report(CONFIG, "val", evaluation, pairs, tmp_path)
    face_report.write_samples(None, pairs, {}, tmp_path / "samples.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "samples.png",
        "similarity_by_angle_val.png",
        "similarity_val.png",
        "verification_val.png",
    ]


def test_report_of_a_network_that_broke_is_written_all_the_same(pairs, tmp_path):
    broken = Evaluation({}, np.full((len(pairs), DIM), np.nan, np.float32))
    face_report.write_report(CONFIG, "test", broken, pairs, tmp_path)
    assert (tmp_path / "similarity_test.png").exists()


def test_prediction_is_a_column_for_each_number_of_the_embedding(pairs):
    outputs = np.arange(len(pairs) * 3, dtype=np.float32).reshape(-1, 3)
    columns = face_report.prediction_columns(CONFIG, pairs, outputs)
    assert list(columns) == ["name", "person", "feature_000", "feature_001", "feature_002"]
    assert columns["feature_001"][:2] == ["1", "4"]
    assert {len(column) for column in columns.values()} == {len(pairs)}


def test_without_poses_the_estimate_made_without_them_is_predicted():
    outputs = {"projected": np.zeros((1, 2)), "projected_estimated": np.ones((1, 2))}
    assert face_report.frontal_features(outputs).sum() == 0
    assert face_report.frontal_features(outputs, has_pose=False).sum() == 2


@pytest.mark.parametrize(
    ("ours", "seed"),
    [
        ("val/cosine_similarity", "Val/CosineSimilarity"),
        ("val/loss", "Val/Loss"),
        ("val/loss/similarity_protection", "Val/Loss_similarity_protection"),
        ("train/loss", "Train/Loss"),
        ("train/loss/contrast", "Train/Loss_contrast"),
        ("epoch/loss", "Train/AvgLoss"),
        ("epoch/loss/contrast", "Train/Epoch_Loss_contrast"),
        ("test/cosine_similarity", "Test/CosineSimilarity"),
        ("hparams/learning_rate", "Train/LearningRate"),
        ("hparams/temperature", "hparams/temperature"),
        ("val/rank1", "val/rank1"),
        ("val/loss_ema", "val/loss_ema"),
    ],
)
def test_tensorboard_names_are_the_seeds(ours, seed):
    assert face_report.seed_tag(ours) == seed
