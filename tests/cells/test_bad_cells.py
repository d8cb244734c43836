"""Cells that cannot be are named: the argument, what was expected and what came."""

import jax
import jax.numpy as jnp
import pytest
from cases import H, I, T

import jaxrnn


def test_an_adjoint_that_sums_over_the_wrong_axes_is_named():
    """Unbatched it would be a number, and adding to zeros would hide that."""
    cell = jaxrnn.elman(H)

    def accumulate(params, xs, residuals, da_xs):
        dparams, dxs = cell.adjoint.accumulate(params, xs, residuals, da_xs)
        return dparams._replace(b=da_xs[0].sum((0, 1))), dxs

    wrong = cell._replace(adjoint=cell.adjoint._replace(accumulate=accumulate))
    params = cell.init(jax.random.key(0), I)
    with pytest.raises(ValueError, match=r"accumulate\.b must have shape \(5,\)"):
        jaxrnn.bptt(wrong, params, jnp.ones((T, I)), jnp.ones((T, H)))


@pytest.mark.parametrize("make", [jaxrnn.elman, jaxrnn.lstm, jaxrnn.gru, jaxrnn.dense])
def test_wrong_sizes_are_named(make):
    name = "size" if make is jaxrnn.dense else "hidden_size"
    for size in (0, -3):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got {size}"):
            make(size)
    for size in (2.0, "5", None, True, (5,)):
        with pytest.raises(TypeError, match=f"{name} must be an int, got"):
            make(size)
    with pytest.raises(ValueError, match="input_size must be at least 1, got 0"):
        make(5).init(jax.random.key(0), 0)
    with pytest.raises(TypeError, match="dtype must be a floating dtype, got int32"):
        make(5).init(jax.random.key(0), 2, jnp.int32)


def test_columns_that_are_no_multiple_of_the_gates():
    init = jaxrnn.initializers.per_gate(jaxrnn.initializers.orthogonal, 4)
    with pytest.raises(ValueError, match=r"a multiple of 4 columns, got \(3, 10\)"):
        init(jax.random.key(0), (3, 10), jnp.float32)


def test_a_wrong_activation_is_named():
    with pytest.raises(
        TypeError, match="activation must be a function of arrays, got 'tanh'"
    ):
        jaxrnn.elman(5, activation="tanh")


CELLS_THAT_CANNOT_BE = {
    "projection": (
        lambda: jaxrnn.projected_lstm(5, 5),
        ValueError,
        r"projection_size must be .*below hidden_size.*got 5",
    ),
    "heads": (
        lambda: jaxrnn.multihead(jaxrnn.lstm, 8, 3),
        ValueError,
        "num_heads must divide hidden_size = 8, got 3",
    ),
    "no head": (
        lambda: jaxrnn.multihead(lambda size: size, 8, 2),
        TypeError,
        r"make_cell\(size\) must be a Cell, got int",
    ),
    "a cell for heads": (
        lambda: jaxrnn.multihead(jaxrnn.lstm(4), 8, 2),
        TypeError,
        "make_cell must be a function of a size to a cell, such as jaxrnn.lstm, got",
    ),
    "noisy heads": (
        lambda: jaxrnn.multihead(
            lambda size: jaxrnn.zoneout(jaxrnn.gru(size), 0.1), 8, 2
        ),
        ValueError,
        "make_cell must make cells that draw no noise",
    ),
    "even kernel": (
        lambda: jaxrnn.conv_lstm(5, (3, 4), (8, 8)),
        ValueError,
        r"kernel_shape must be odd, so that a kernel has a centre, got \(3, 4\)",
    ),
    "kernel of other dimensions": (
        lambda: jaxrnn.conv_gru(5, (3,), (8, 8)),
        ValueError,
        r"kernel_shape must have one size for each axis of spatial_shape = \(8, 8\)",
    ),
    "kernel of one number": (
        lambda: jaxrnn.conv_lstm(5, 3, (8, 8)),
        ValueError,
        r"kernel_shape must be a tuple of one to three sizes, such as \(3, 3\), got 3",
    ),
    "four dimensions": (
        lambda: jaxrnn.conv_lstm(5, (3,) * 4, (8,) * 4),
        ValueError,
        "kernel_shape must be a tuple of one to three sizes",
    ),
    "spectral radius": (
        lambda: jaxrnn.echo_state(5, spectral_radius=0),
        ValueError,
        "spectral_radius must be positive and finite, got 0",
    ),
    "connections": (
        lambda: jaxrnn.echo_state(5, connections=6),
        ValueError,
        "connections must be at most hidden_size = 5, got 6",
    ),
    "time constant": (
        lambda: jaxrnn.leaky_integrator(5, time_constant=0.5),
        ValueError,
        "step_size must be at most time_constant = 0.5, got 1.0",
    ),
    "no time constant": (
        lambda: jaxrnn.leaky_integrator(5, time_constant=-1),
        ValueError,
        "time_constant must be positive and finite, got -1",
    ),
    "no number": (
        lambda: jaxrnn.leaky_integrator(5, time_constant="1"),
        TypeError,
        "time_constant must be a number, got '1'",
    ),
    "antisymmetric step": (
        lambda: jaxrnn.antisymmetric(5, step_size=float("inf")),
        ValueError,
        "step_size must be positive and finite, got inf",
    ),
    "decays": (
        lambda: jaxrnn.lru(5, least_decay=0.9, most_decay=0.5),
        ValueError,
        r"most_decay must be above least_decay = 0\.9, got 0\.5",
    ),
    "unstable decay": (
        lambda: jaxrnn.lru(5, most_decay=1),
        ValueError,
        "most_decay must be at least 0 and below 1, got 1",
    ),
    "depth": (
        lambda: jaxrnn.recurrent_highway(5, depth=0),
        ValueError,
        "depth must be at least 1, got 0",
    ),
    "cell clip": (
        lambda: jaxrnn.lstm(5, cell_clip=0),
        ValueError,
        "cell_clip must be positive and finite, got 0",
    ),
    "map": (
        lambda: jaxrnn.orthogonal_rnn(5, map_fn="cayley"),
        TypeError,
        "map_fn must be a function of a matrix, got 'cayley'",
    ),
    "activation": (
        lambda: jaxrnn.jordan(5, 2, output_activation="tanh"),
        TypeError,
        "output_activation must be a function of arrays, got 'tanh'",
    ),
    "transformation": (
        lambda: jaxrnn.reparametrized(jaxrnn.elman(5), 1.0),
        TypeError,
        "transform must be a function, got 1.0",
    ),
}


@pytest.mark.parametrize("name", CELLS_THAT_CANNOT_BE)
def test_a_cell_that_cannot_be_is_named(name):
    make, error, message = CELLS_THAT_CANNOT_BE[name]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "transform",
    [lambda p: p._replace(b=p.b[:1]), lambda p: p._replace(b=0.0), tuple],
    ids=["shape", "number", "tuple"],
)
def test_a_transformation_to_something_else_is_named(transform):
    cell = jaxrnn.reparametrized(jaxrnn.elman(5), transform)
    params = cell.init(jax.random.key(0), I)
    message = "transform must return parameters like those it gets"
    with pytest.raises(TypeError, match=message):
        jaxrnn.unroll(cell, params, jnp.ones((T, I)))
