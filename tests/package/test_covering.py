"""The choice of options that tests run by default (``tests/helpers/covering.py``)."""

import itertools

import pytest
from covering import combinations, covering, groups

OPTIONS = ["abcd", "xy", "pqr", "01"]


def test_covering_array_has_every_pair_of_values():
    met = set.union(*(groups(row, 2) for row in covering(*OPTIONS)))
    for (i, a), (j, b) in itertools.combinations(enumerate(OPTIONS), 2):
        for pair in itertools.product(range(len(a)), range(len(b))):
            assert ((i, pair[0]), (j, pair[1])) in met


def test_covering_array_is_smaller_than_the_product():
    assert len(covering(*OPTIONS)) < 16 < 4 * 2 * 3 * 2


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_covering_array_repeats_no_combination(strength):
    rows = covering(*OPTIONS, strength=strength)
    assert len(set(rows)) == len(rows)


def test_single_values_take_turns_with_the_values_of_other_options():
    assert covering("abcdef", "xy", strength=1) == [(i, i % 2) for i in range(6)]


def test_combinations_keep_the_whole_product_and_mark_the_rest_slow():
    mark = combinations(letter="abc", flag=[False, True], run={"plain": 1, "fast": 2})
    names, rows = mark.args
    assert names == ["letter", "flag", "run"]
    assert {row.id for row in rows} == {
        f"{letter}-{flag}-{run}"
        for letter in "abc"
        for flag in (False, True)
        for run in ("plain", "fast")
    }
    default = [row.values for row in rows if not row.marks]
    assert len(default) == 6
    for first, second in itertools.combinations(range(3), 2):
        pairs = {(row[first], row[second]) for row in default}
        assert pairs == {(row.values[first], row.values[second]) for row in rows}
