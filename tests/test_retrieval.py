import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes import retrieval
from jaxrecipes.metrics import roc_auc
from jaxrecipes.retrieval import rank_one, verification_auc


def draw(seed, queries=60, gallery=25, people=8):
    """Rows of plus and minus 1, whose cosines are exact and often equal."""
    rng = np.random.default_rng(seed)
    return (
        rng.choice([-1.0, 1.0], (queries, 4)),
        rng.integers(0, people, queries),
        rng.choice([-1.0, 1.0], (gallery, 4)),
        rng.integers(0, people, gallery),
    )


def cosines(x, y):
    return x @ y.T / 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", 200)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_verification_auc_is_that_of_all_pairs(seed):
    queries, query_labels, gallery, gallery_labels = draw(seed)
    same = query_labels[:, None] == gallery_labels
    expected = roc_auc(same.ravel(), cosines(queries, gallery).ravel())
    assert verification_auc(queries, query_labels, gallery, gallery_labels) == pytest.approx(
        expected, abs=1e-12
    )


def test_without_a_gallery_each_two_queries_are_a_pair():
    queries, labels, _, _ = draw(0)
    first, second = np.triu_indices(len(queries), k=1)
    expected = roc_auc(labels[first] == labels[second], cosines(queries, queries)[first, second])
    assert verification_auc(queries, labels) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_rank_one_is_the_mean_over_all_ways_to_break_ties(seed):
    queries, query_labels, gallery, gallery_labels = draw(seed)
    expected = []
    for label, row in zip(query_labels, cosines(queries, gallery), strict=True):
        expected.append(np.mean(gallery_labels[row == row.max()] == label))
    ours = rank_one(queries, query_labels, gallery, gallery_labels)
    assert ours == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_gallery_of_the_queries_themselves_is_found():
    x = np.random.default_rng(0).normal(size=(50, 8))
    labels = np.arange(50)
    assert rank_one(x, labels, 3 * x, labels) == 1
    assert verification_auc(x, labels, 3 * x, labels) == 1


def test_a_label_that_the_gallery_lacks_is_not_found():
    assert rank_one(np.eye(2), np.array([0, 7]), np.eye(2), np.array([0, 1])) == 0.5


def test_embeddings_that_are_all_the_same_are_left_to_chance():
    x, labels = np.ones((12, 3)), np.repeat(np.arange(4), 3)
    assert verification_auc(x, labels) == 0.5
    assert rank_one(x, labels, x, labels) == pytest.approx(0.25)


def test_nothing_to_compare_is_nan():
    x, labels = np.ones((3, 2)), np.array([1, 1, 1])
    assert np.isnan(verification_auc(x, labels))
    assert np.isnan(rank_one(x[:0], labels[:0], x, labels))


def test_wrong_arrays_are_refused():
    x, labels = np.ones((3, 2)), np.arange(3)
    with pytest.raises(ValueError, match=r"queries \[N, D\].*\(3, 2\) and \(2,\)"):
        verification_auc(x, labels[:2])
    with pytest.raises(ValueError, match="together"):
        verification_auc(x, labels, x)
    with pytest.raises(ValueError, match="gallery hold numbers that are not finite"):
        rank_one(x, labels, x * np.nan, labels)
