import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrecipes.losses import prob_open
from jaxrecipes.metrics import (
    BinaryCounts,
    Mean,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)


@pytest.fixture(scope="module")
def binary(golden):
    arrays = golden("torch_semantics/binary_metrics")
    cases = range(1 + max(int(name.split("/")[0]) for name in arrays if name[0].isdigit()))
    return [{n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{i}/")} for i in cases]


def test_counts_and_their_ratios_equal_scikit_learn(binary):
    size = max(case["labels"].size for case in binary)
    for case in binary:
        padding = (0, size - case["labels"].size)
        scores, labels = (np.pad(case[name], padding) for name in ("scores", "labels"))
        mask = np.pad(np.ones_like(case["labels"]), padding)
        counts = BinaryCounts.from_probs(scores, labels, mask)
        names = ("tp", "tn", "fp", "fn")
        assert [int(getattr(counts, name)) for name in names] == list(case["tp_tn_fp_fn"])
        np.testing.assert_array_equal(counts.confusion(), case["confusion_rows_true_cols_pred"])
        for name, value in counts.compute().items():
            np.testing.assert_allclose(value, case[name], rtol=1e-6, err_msg=name)


def test_roc_curve_and_area_equal_scikit_learn(binary):
    for case in binary:
        np.testing.assert_allclose(roc_auc(case["labels"], case["scores"]), case["roc_auc"])
        if "roc_fpr" in case:
            fpr, tpr, thresholds = roc_curve(case["labels"], case["scores"])
            np.testing.assert_allclose(fpr, case["roc_fpr"], rtol=1e-12)
            np.testing.assert_allclose(tpr, case["roc_tpr"], rtol=1e-12)
            assert thresholds[0] == np.inf


def test_precision_recall_curve_by_hand():
    precision, recall, thresholds = precision_recall_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    np.testing.assert_allclose(thresholds, [0.1, 0.35, 0.4, 0.8])
    np.testing.assert_allclose(precision, [0.5, 2 / 3, 0.5, 1, 1])
    np.testing.assert_allclose(recall, [1, 1, 0.5, 0.5, 0])


scores = hnp.arrays(np.float64, 20, elements=st.integers(0, 6).map(lambda k: k / 6))
labels = hnp.arrays(np.int64, 20, elements=st.integers(0, 1))


@settings(deadline=None, max_examples=100)
@given(scores, labels)
def test_area_is_the_share_of_pairs_in_the_right_order_ties_half(scores, labels):
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not positive.size or not negative.size:
        assert np.isnan(roc_auc(labels, scores))
        return
    difference = positive[:, None] - negative
    expected = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert roc_auc(labels, scores) == pytest.approx(expected)


@settings(deadline=None, max_examples=15)
@given(scores, labels, st.sampled_from([0, 7, 20]))
def test_merged_parts_equal_the_whole(scores, labels, cut):
    whole = BinaryCounts.from_probs(scores, labels)
    parts = BinaryCounts.empty()
    for part in (slice(cut), slice(cut, None)):
        parts += BinaryCounts.from_probs(scores[part], labels[part])
    assert jax.tree.map(int, parts) == jax.tree.map(int, whole)


def test_masked_examples_do_not_count():
    values, mask = jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])
    assert float(Mean.from_values(values, mask).compute()) == 2.0
    counts = BinaryCounts.from_probs(values, jnp.array([1, 0, 1]), mask)
    assert jax.tree.map(int, counts) == BinaryCounts(tp=1, tn=0, fp=1, fn=0)


def test_means_merge_by_their_counts_in_a_scan():
    batches = jnp.arange(12.0).reshape(3, 4)
    mean, _ = jax.lax.scan(
        lambda m, batch: (m.merge(Mean.from_values(batch)), None), Mean.empty(), batches
    )
    assert float(mean.compute()) == 5.5
    assert np.isnan(Mean.empty().compute())


def test_undefined_ratios_are_zero():
    assert set(jax.tree.map(float, BinaryCounts.empty().compute()).values()) == {0.0}


def test_logit_zero_and_a_tiny_negative_logit_are_open():
    probs = prob_open(jnp.float32([0.0, -1e-9, -1e-3]))
    assert int(BinaryCounts.from_probs(probs, jnp.ones(3)).tp) == 2


def test_bad_shapes_and_nan_scores_are_named():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        BinaryCounts.from_probs(jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        Mean.from_values(jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(ValueError, match="1 of 2 scores"):
        roc_auc([0, 1], [0.5, np.nan])
    with pytest.raises(ValueError, match=r"\(3,\)"):
        roc_curve([0, 1, 0], [0.5])
