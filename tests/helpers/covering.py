"""Choose what runs by default: combinations of options, and examples of a table."""

import collections
import itertools

import pytest


def quick(argument, values, by_default):
    """Parametrize a test over ``values``, and mark those not ``by_default`` slow.

    Args:
        argument: the name of an argument, or a tuple of names.
        values: its values; tuples of values for a tuple of names.
        by_default: those that run without ``-m slow``.

    >>> [len(each.marks) for each in quick("name", "abc", by_default="b").args[1]]
    [1, 0, 1]
    """
    assert set(by_default) <= set(values)
    rows = [
        pytest.param(
            *(value if isinstance(argument, tuple) else (value,)),
            marks=() if value in by_default else pytest.mark.slow,
        )
        for value in values
    ]
    return pytest.mark.parametrize(argument, rows)


def groups(row, strength):
    """The groups of ``strength`` values that a combination has, with their places."""
    return set(itertools.combinations(enumerate(row), strength))


def covering(*options, strength=2):
    """Choose combinations in which every group of ``strength`` values occurs.

    Args:
        options: for each option, its values.
        strength: 2 for a pairwise covering array, 1 to meet each value once.

    Returns:
        Combinations as tuples of indices into the options, far fewer than their
        product. Each has most groups not met before it.

    >>> covering("ab", "wxyz", strength=1)
    [(0, 0), (1, 1), (0, 2), (1, 3)]
    >>> rows = covering("ab", "xy", "01")
    >>> len(rows), sorted(set.union(*(groups(row, 2) for row in rows)))[:2]
    (4, [((0, 0), (1, 0)), ((0, 0), (1, 1))])
    """
    product = list(itertools.product(*(range(len(values)) for values in options)))
    missing = set().union(*(groups(row, strength) for row in product))
    used = collections.Counter()

    def gain(row):
        new = len(groups(row, strength) & missing)
        # Equals take turns; among pairs that would take more combinations.
        return new, -sum(used[value] for value in enumerate(row)) * (strength == 1)

    chosen = []
    while missing:
        best = max(product, key=gain)
        chosen.append(best)
        used.update(enumerate(best))
        missing -= groups(best, strength)
    return chosen


def combinations(strength=2, **options):
    """Parametrize a test over the product of its options, and mark most of it slow.

    The combinations of :func:`covering` run by default, the others with ``-m slow``.

    Args:
        strength: as in :func:`covering`; it may not be more than there are options.
        options: for each argument of the test, its values, or a dict from the names
            of the values to the values.
    """
    named = {
        name: values
        if isinstance(values, dict)
        else {getattr(v, "__name__", str(v)): v for v in values}
        for name, values in options.items()
    }
    chosen = set(covering(*named.values(), strength=strength))
    rows = []
    for row in itertools.product(*(range(len(values)) for values in named.values())):
        items = [list(v.items())[i] for v, i in zip(named.values(), row, strict=True)]
        names, values = zip(*items, strict=True)
        marks = () if row in chosen else pytest.mark.slow
        rows.append(pytest.param(*values, id="-".join(names), marks=marks))
    return pytest.mark.parametrize(list(named), rows)
