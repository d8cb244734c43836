"""Edit distances and error rates, against the textbook's table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn import metrics

T, S, B = 7, 5, 3
symbols = st.integers(0, 3)
distance = jax.jit(metrics.edit_distance)
error_rate = jax.jit(metrics.token_error_rate)


def by_table(found, wanted):
    """The textbook's table, one entry at a time."""
    table = np.zeros((len(found) + 1, len(wanted) + 1), int)
    table[:, 0] = np.arange(len(found) + 1)
    table[0] = np.arange(len(wanted) + 1)
    for i, one in enumerate(found, 1):
        for j, other in enumerate(wanted, 1):
            table[i, j] = min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (one != other),
            )
    return table[-1, -1]


def arrays(steps, elements):
    row = st.lists(elements, min_size=B, max_size=B)
    return st.lists(row, min_size=steps, max_size=steps).map(np.array)


@settings(deadline=None, max_examples=60)
@given(
    arrays(T, symbols),
    arrays(S, symbols),
    arrays(T, st.booleans()),
    arrays(S, st.booleans()),
)
def test_edit_distance_is_that_of_the_table(found, wanted, valid, counted):
    expected = [
        by_table(found[valid[:, b], b], wanted[counted[:, b], b]) for b in range(B)
    ]
    spoilt = np.where(valid, found, -9), np.where(counted, wanted, 99)
    result = distance(*spoilt, mask=valid, target_mask=counted)
    assert result.tolist() == expected
    rate = error_rate(*spoilt, mask=valid, target_mask=counted)
    assert float(rate) == pytest.approx(sum(expected) / max(counted.sum(), 1))


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("", "", 0)],
)
def test_edit_distance_without_masks_or_batch(found, wanted, expected):
    first, second = (np.array([ord(c) for c in each], int) for each in (found, wanted))
    assert int(distance(first, second)) == expected


def test_rows_are_independent_and_all_batch_dimensions_are_kept():
    found = np.random.default_rng(0).integers(0, 3, (T, 2, B))
    wanted = found[::-1][:S].astype(np.int16)
    result = distance(found, wanted)
    assert result.shape == (2, B)
    alone = [
        [int(distance(found[:, i, j], wanted[:, i, j])) for j in range(B)]
        for i in range(2)
    ]
    assert result.tolist() == alone


def test_mistakes_are_named():
    tokens = jnp.zeros((T, B), int)
    with pytest.raises(TypeError, match="predictions must be integers, got dtype"):
        metrics.edit_distance(jnp.zeros((T, B)), tokens)
    with pytest.raises(ValueError, match=r"batch dimensions of predictions, \(3,\)"):
        metrics.edit_distance(tokens, tokens[:, :2])
    with pytest.raises(ValueError, match="target_mask must have shape"):
        metrics.token_error_rate(tokens, tokens, target_mask=jnp.ones((T, 2), bool))
    with pytest.raises(TypeError, match="mask must be boolean"):
        metrics.token_error_rate(tokens, tokens, mask=tokens)
    with pytest.raises(ValueError, match="targets must have shape"):
        metrics.token_error_rate(tokens, jnp.zeros((), int))
