import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import metrics

T, B, V = 6, 3, 4
keys = jax.random.split(jax.random.key(0), 4)
logits = jax.random.normal(keys[0], (T, B, V))
labels = jax.random.randint(keys[1], (T, B), 0, V)
mask = jax.random.bernoulli(keys[2], 0.6, (T, B))
spoilt = jnp.where(mask[..., None], logits, jnp.nan)
wrong = jnp.where(mask, labels, 99)
masks = pytest.mark.parametrize("mask", [None, mask], ids=["all", "mask"])


def chosen(mask):
    valid = np.ones((T, B), bool) if mask is None else np.asarray(mask)
    return np.asarray(labels)[valid], np.asarray(logits.argmax(-1))[valid]


@masks
def test_accuracy_counts_valid_steps(mask):
    actual, predicted = chosen(mask)
    expected = (actual == predicted).mean()
    assert float(metrics.accuracy(logits, labels, mask=mask)) == pytest.approx(expected)
    if mask is not None:
        found = metrics.accuracy(spoilt, wrong, mask=mask)
        assert float(found) == pytest.approx(expected)


@masks
def test_confusion_and_f1_equal_counts_by_hand(mask):
    expected = np.zeros((V, V), int)
    for actual, predicted in zip(*chosen(mask), strict=True):
        expected[actual, predicted] += 1
    np.testing.assert_array_equal(
        metrics.confusion_matrix(logits, labels, mask=mask), expected
    )
    for each in range(V):
        hits = expected[each, each]
        precision = hits / max(expected[:, each].sum(), 1)
        recall = hits / max(expected[each].sum(), 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        found = metrics.f1_score(logits, labels, mask=mask)[each]
        assert float(found) == pytest.approx(f1, abs=1e-6)


def test_labels_outside_the_classes_do_not_count():
    strange = labels.at[0].set(-1).at[1].set(V)
    assert int(metrics.confusion_matrix(logits, strange).sum()) == (T - 2) * B
    hits = metrics.accuracy(logits, strange) * (T - 2) * B
    expected = (labels[2:] == logits[2:].argmax(-1)).sum()
    assert float(hits) == pytest.approx(float(expected), rel=1e-6)


@masks
def test_errors_equal_numpy(mask):
    targets = jax.random.normal(keys[3], logits.shape)
    valid = np.ones((T, B), bool) if mask is None else np.asarray(mask)
    errors = np.asarray(logits - targets)[valid]
    found = metrics.root_mean_squared_error(logits, targets, mask=mask)
    assert float(found) == pytest.approx(np.sqrt((errors**2).mean()))
    found = metrics.mean_absolute_error(logits, targets, mask=mask)
    assert float(found) == pytest.approx(np.abs(errors).mean())
    if mask is not None:
        assert np.isfinite(metrics.mean_absolute_error(spoilt, targets, mask=mask))


def test_nothing_valid_gives_zero():
    nothing = jnp.zeros((T, B), bool)
    assert float(metrics.accuracy(logits, labels, mask=nothing)) == 0
    assert float(metrics.mean_absolute_error(logits, logits, mask=nothing)) == 0
    assert np.isnan(metrics.f1_score(logits, labels, mask=nothing)).all()
    assert metrics.macro_f1(logits, labels, mask=nothing) == 0


def test_perplexity_and_bits_of_a_fair_die():
    loss = jnp.log(6.0)
    assert float(metrics.perplexity(loss)) == pytest.approx(6)
    assert float(metrics.nats_to_bits(loss)) == pytest.approx(np.log2(6))


def test_persistence_repeats_the_last_step():
    found = metrics.persistence(logits, 2)
    np.testing.assert_array_equal(found, np.stack([logits[-1]] * 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.accuracy(logits, labels[1:]), ValueError, r"\(6, 3\).*\(5, 3"),
        (lambda: metrics.accuracy(logits, logits[..., 0]), TypeError, "labels must be"),
        (
            lambda: metrics.f1_score(logits, labels, mask=labels),
            TypeError,
            "mask must be boolean",
        ),
        (
            lambda: metrics.mean_absolute_error(logits, logits[:1]),
            ValueError,
            "targets must have the shape of predictions",
        ),
        (
            lambda: metrics.root_mean_squared_error(logits, logits, mask=mask[1:]),
            ValueError,
            "mask must have shape",
        ),
        (lambda: metrics.persistence(logits[:0]), ValueError, "at least one step"),
        (lambda: metrics.persistence(logits, 0), ValueError, "horizon must be at"),
    ],
)
def test_wrong_labels_and_masks_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_logits_that_are_nan_are_wrong():
    logits = np.array([[9.0, 0.0], [np.nan, np.nan], [np.nan, 0.0]])
    labels = np.array([0, 0, 1])
    np.testing.assert_allclose(metrics.accuracy(logits, labels), 1 / 3)
    assert metrics.confusion_matrix(logits, labels).tolist() == [[1, 0], [0, 0]]
    # Precision 1 and recall 1/2; and no step of class 1 is found.
    np.testing.assert_allclose(metrics.f1_score(logits, labels), [2 / 3, 0], rtol=1e-6)


def test_ignored_labels_count_in_no_metric():
    logits = np.eye(3)[[0, 1, 2, 0]]
    labels = np.array([0, 1, -100, 2])
    np.testing.assert_allclose(metrics.accuracy(logits, labels), 2 / 3, rtol=1e-6)
    assert int(metrics.confusion_matrix(logits, labels).sum()) == 3


def test_classes_that_do_not_occur_are_left_out_of_the_macro_average():
    logits = np.eye(3)[[0, 1, 1, 0]]
    labels = np.array([0, 1, 1, 0])
    assert float(metrics.macro_f1(logits, labels)) == 1
    assert np.isnan(metrics.f1_score(logits, labels)).tolist() == [False, False, True]
    # Predicted, but never there: it counts, as in scikit-learn.
    spoilt = np.eye(3)[[0, 1, 2, 0]]
    np.testing.assert_allclose(
        metrics.f1_score(spoilt, labels), [1, 2 / 3, 0], rtol=1e-6
    )
    np.testing.assert_allclose(metrics.macro_f1(spoilt, labels), 5 / 9, rtol=1e-6)
    nothing = np.zeros(4, bool)
    assert float(metrics.macro_f1(logits, labels, mask=nothing)) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bits", "nats_to_bits"),
        ("confusion", "confusion_matrix"),
        ("error_rate", "token_error_rate"),
        ("f1", "f1_score"),
    ],
)
def test_old_names_warn_and_lead_to_the_new_ones(old, new):
    with pytest.warns(DeprecationWarning, match=f"is now called .*{new}"):
        assert getattr(metrics, old) is getattr(metrics, new)


def test_a_name_that_never_was_is_an_attribute_error():
    with pytest.raises(AttributeError, match="metrics' has no attribute 'f2'"):
        _ = metrics.f2
