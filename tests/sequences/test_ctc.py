"""The CTC loss against all alignments there are, and its greedy decoding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import assert_close, compiled, random_normal

import jaxrnn
from jaxrnn import decode, losses

T, N, B, V = 5, 2, 4, 3
logits = np.random.default_rng(0).normal(size=(T, B, V))
labels = np.array([[1, 2], [2, 2], [1, 0], [0, 0]]).T  # one ends, one is empty
label_mask = np.array([[True, True], [True, True], [True, False], [False, False]]).T
mask = np.arange(T)[:, None] < np.array([5, 4, 3, 2])
ctc = jax.jit(losses.ctc, static_argnames=("blank", "reduction"))


def collapsed(path, blank):
    once = [each for each, _ in itertools.groupby(path)]
    return [each for each in once if each != blank]


def by_paths(logits, wanted, blank):
    """The loss of one sequence, from the probability of each path."""
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(V), repeat=len(chances)):
        if collapsed(path, blank) == wanted:
            total += np.prod([chances[t, each] for t, each in enumerate(path)])
    return -np.log(total) if total else np.inf


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_sum_over_paths(masked):
    flags = {"mask": mask if masked else None, "label_mask": label_mask}
    spoilt = np.where(mask[..., None], logits, np.nan) if masked else logits
    values = np.asarray(ctc(spoilt, labels, reduction=losses.per_step, **flags))
    steps = mask.sum(0) if masked else [T] * B
    expected = [
        by_paths(
            logits[: steps[row], row],
            labels[label_mask[:, row], row].tolist(),
            blank=0,
        )
        for row in range(B)
    ]
    assert_close(values, np.array(expected), 1e-6)
    assert_close(ctc(spoilt, labels, **flags), values.mean(), 1e-12)


def test_another_blank_and_no_batch():
    value = ctc(logits[:, 0], np.array([0, 1]), blank=2)
    assert_close(value, by_paths(logits[:, 0], [0, 1], blank=2), 1e-6)


def test_labels_that_do_not_fit_give_infinity_and_no_gradient_to_others():
    short = np.arange(T)[:, None] < np.array([5, 2, 5, 5])  # 2 2 needs 3 steps

    def loss(logits):
        values = losses.ctc(
            logits,
            labels,
            mask=short,
            label_mask=label_mask,
            reduction=losses.per_step,
        )
        return jnp.where(jnp.isfinite(values), values, 0).sum(), values

    grads, values = jax.jit(jax.grad(loss, has_aux=True))(logits)
    assert np.isinf(values).tolist() == [False, True, False, False]
    assert np.isfinite(grads).all()


@pytest.mark.usefixtures("standard_promotion")
def test_a_model_learns_to_spell():
    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(16)), jaxrnn.dense(4))
    xs = random_normal(1, (12, 3, 2), jnp.float32)
    words = np.array([[1, 2, 3], [3, 3, 1], [2, 1, 2]]).T
    params = compiled(model).init(jax.random.key(0), 2, jnp.float32)

    def loss(params):
        return losses.ctc(model.apply(params, xs)[1], words)

    optimizer = optax.adam(0.03)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    for _ in range(150):
        params, state = update(params, state)
    read = jax.jit(lambda params: decode.ctc_greedy(model.apply(params, xs)[1]))
    found, lengths = map(np.asarray, read(params))
    assert lengths.tolist() == [3, 3, 3]
    assert found[:3].tolist() == words.tolist()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_collapses_the_best_path(masked, blank):
    rng = np.random.default_rng(1)
    many = rng.normal(size=(9, 2, 20, V))
    valid = rng.random((9, 2, 20)) < 0.7 if masked else None
    read = jax.jit(decode.ctc_greedy, static_argnames="blank")
    found, lengths = map(np.asarray, read(many, valid, blank=blank))
    path = many.argmax(-1)
    for row in np.ndindex(2, 20):
        steps = path[:, *row][valid[:, *row]] if masked else path[:, *row]
        expected = collapsed(steps.tolist(), blank)
        assert int(lengths[row]) == len(expected)
        filled = expected + [blank] * (9 - len(expected))
        assert found[:, *row].tolist() == filled


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": labels[:, 1:]}, ValueError, r"labels must have shape \(N, \*B\)"),
        ({"labels": labels.astype(float)}, TypeError, "labels must be integers"),
        ({"blank": 3}, ValueError, "blank must be one of the 3 classes, got 3"),
        ({"label_mask": labels}, TypeError, "label_mask must be boolean"),
        ({"mask": mask[1:]}, ValueError, r"mask must have shape \(T, \*B\)"),
    ],
)
def test_wrong_labels_and_masks_are_named(options, error, message):
    with pytest.raises(error, match=message):
        losses.ctc(**{"logits": logits, "labels": labels, **options})


def test_labels_below_zero_are_padding():
    padded = np.where(label_mask, labels, -1)
    by_mask = ctc(logits, labels, label_mask=label_mask)
    assert_close(ctc(logits, padded), by_mask, 1e-12)
    assert_close(ctc(logits, padded, label_mask=label_mask), by_mask, 1e-12)


@pytest.mark.parametrize("wrong", [0, V, V + 9])
def test_a_label_that_is_none_gives_nan(wrong):
    spoilt = labels.copy()
    spoilt[0, 1] = wrong
    flags = {"label_mask": label_mask, "reduction": losses.per_step}
    values = np.asarray(ctc(logits, spoilt, **flags))
    assert np.isnan(values).tolist() == [False, True, False, False]
    # Under the mask it is padding.
    spoilt = np.where(label_mask, labels, wrong)
    assert_close(ctc(logits, spoilt, **flags), ctc(logits, labels, **flags), 0)


def test_a_sequence_that_is_too_short_can_count_zero():
    short = np.arange(T)[:, None] < np.array([5, 2, 5, 5])  # 2 2 needs 3 steps

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(logits):
        flags = {"mask": short, "label_mask": label_mask}
        mean = losses.ctc(logits, labels, zero_infinity=True, **flags)
        return mean, losses.ctc(logits, labels, reduction=losses.per_step, **flags)

    (mean, values), gradient = loss(logits)
    values = np.asarray(values)
    assert_close(mean, values[np.isfinite(values)].sum() / B, 1e-12)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[:, 1].any()


def test_greedy_leaves_out_masked_steps_as_the_loss_does():
    path = np.array([1, 1, 2, 1, 0, 2])
    valid = np.array([True, True, False, True, True, True])
    found, lengths = decode.ctc_greedy(np.eye(V)[path], valid)
    assert np.asarray(found)[: int(lengths)].tolist() == collapsed(path[valid], 0)
    assert int(lengths) == 2
