"""Cells, layers and unrolls describe themselves: code, JSON, pickle, equality."""

import copy
import functools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, B, H, I, T
from layer_cases import LAYERS

import jaxrnn
from jaxrnn import seq2seq
from jaxrnn._descriptions.from_spec import differences
from jaxrnn._descriptions.spec import FACTORIES

WRAPPED = {
    "zoneout": lambda: jaxrnn.zoneout(jaxrnn.lstm(5), 0.1, cell_rate=0.2),
    "recurrent dropout": lambda: jaxrnn.recurrent_dropout(jaxrnn.gru(5), 0.3),
    "candidate dropout": lambda: jaxrnn.candidate_dropout(jaxrnn.gru(5), 0.3),
    "learned state": lambda: jaxrnn.learned_state(jaxrnn.lstm(5)),
    "all states": lambda: jaxrnn.all_states(jaxrnn.lstm(5)),
    "no outputs": lambda: jaxrnn.no_outputs(jaxrnn.lstm(5)),
    "reparametrized": lambda: jaxrnn.reparametrized(jaxrnn.elman(5), scaled),
    "a function of this module": lambda: jaxrnn.elman(5, activation=twice),
    "attending": lambda: seq2seq.attending(jaxrnn.gru(5), 3, seq2seq.additive(4)),
    "encoder-decoder": lambda: seq2seq.encoder_decoder(
        jaxrnn.layer(jaxrnn.gru(5)),
        jaxrnn.lstm(4),
        inputs=jaxrnn.embedding(7, 3),
        readout=jaxrnn.dense(7),
        attention=seq2seq.dot_product(),
    ),
    "partial": lambda: jaxrnn.layer(
        jaxrnn.gru(5),
        unroll_fn=functools.partial(jaxrnn.unroll_chunked, chunk_size=3),
    ),
    "unroll of a factory": lambda: jaxrnn.layer(
        jaxrnn.gru(5), unroll_fn=jaxrnn.unroll_with(chunk_size=3)
    ),
    "numbers of NumPy": lambda: jaxrnn.lstm(np.int64(5), forget_bias=np.float32(2)),
    "a list": lambda: jaxrnn.conv_gru(5, [3], [4]),
}
MADE = {
    **{name: functools.partial(case.make, H) for name, case in CELLS.items()},
    **{name: functools.partial(case.make, None) for name, case in LAYERS.items()},
    **WRAPPED,
}
OWN_FUNCTION = ("reparametrized", "a function of this module")
everything = pytest.mark.parametrize("name", MADE)


def twice(x):
    return jnp.tanh(2 * x)


def scaled(params):
    return jax.tree.map(lambda leaf: 2 * leaf, params)


@everything
def test_two_made_alike_are_equal(name):
    made, again = MADE[name](), MADE[name]()
    assert made == again
    assert (made != again) is False
    assert hash(made) == hash(again)
    assert made != jaxrnn.elman(3)


@everything
def test_the_representation_is_code_that_makes_it(name):
    made = MADE[name]()
    names = {"jaxrnn": jaxrnn, "jax": jax, "functools": functools}
    own = f"{__name__}."
    code = repr(made).replace(own, "")
    assert eval(code, names | {"twice": twice, "scaled": scaled}) == made


@everything
def test_pickle_and_deepcopy_return_an_equal(name):
    made = MADE[name]()
    assert pickle.loads(pickle.dumps(made)) == made
    assert copy.deepcopy(made) == made
    assert copy.copy(made) == made


@pytest.mark.parametrize("name", [n for n in MADE if n not in OWN_FUNCTION])
def test_json_returns_an_equal(name):
    made = MADE[name]()
    text = made.spec.to_json(indent=1)
    assert jaxrnn.from_spec(text) == made
    assert jaxrnn.from_spec(json.loads(text)) == made
    assert jaxrnn.from_spec(made.spec) == made


def test_a_pickled_layer_computes_the_same():
    layer = jaxrnn.stack(
        jaxrnn.layer(jaxrnn.multihead(jaxrnn.lstm, 6, 2)), jaxrnn.dense(2)
    )
    again = pickle.loads(pickle.dumps(layer))
    params = layer.init(jax.random.key(0), I)
    xs = np.ones((T, B, I))
    expected = layer.apply(params, xs)[1]
    np.testing.assert_array_equal(again.apply(params, xs)[1], expected)


def test_a_description_in_json_names_every_part():
    layer = jaxrnn.layer(jaxrnn.elman(5, activation=twice))
    with pytest.raises(
        TypeError, match=r"^cell.activation must be a value that can be written"
    ):
        layer.spec.to_json()


def test_other_arguments_are_not_equal():
    assert jaxrnn.gru(5) != jaxrnn.gru(5, reset_after=False)
    assert jaxrnn.gru(5) != jaxrnn.gru(6)
    assert jaxrnn.elman(5, activation=twice) != jaxrnn.elman(5)


def test_a_cell_made_by_hand_has_no_description():
    cell = jaxrnn.Cell(*jaxrnn.lstm(5)[:5])
    assert cell.spec is None
    assert cell == jaxrnn.Cell(*cell)
    assert cell != jaxrnn.lstm(5)
    assert hash(cell) == hash(jaxrnn.Cell(*cell))
    assert repr(cell).startswith("Cell(init=functools.partial")
    layer = jaxrnn.layer(cell)
    assert layer == jaxrnn.layer(cell)
    with pytest.raises(TypeError, match=r"^cell must be a value that can be written"):
        layer.spec.to_json()
    assert pickle.loads(pickle.dumps(jaxrnn.Cell(*cell))).step.func is cell.step.func


def test_an_argument_that_is_traced_leaves_no_description():
    @jax.jit
    def described(bias):
        made = jaxrnn.highway(jaxrnn.dense(3), gate_bias=bias)
        assert made.spec is None
        assert made == jaxrnn.Layer(*made)
        return bias

    described(1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", jaxrnn.elman(5).step),
        ("project", jaxrnn.elman(5).project),
        ("initial_state", jaxrnn.elman(5).initial_state),
        ("output_size", 4),
    ],
)
def test_what_described_another_step_is_dropped(field, value):
    cell = jaxrnn.zoneout(jaxrnn.mingru(3), 0.1)._replace(
        coefficients=jaxrnn.mingru(3).coefficients
    )
    changed = cell._replace(**{field: value})
    offers = ("adjoint", "noise", "coefficients", "derived", "spec")
    assert [getattr(changed, name) for name in offers] == [None] * 5
    kept = cell._replace(**{field: value}, adjoint=cell.adjoint)
    assert kept.adjoint is cell.adjoint


def test_a_replaced_step_is_the_one_that_runs():
    def halved(params, state, a_x):
        return jax.tree.map(
            lambda leaf: leaf / 2, jaxrnn.mingru(3).step(params, state, a_x)
        )

    cell = jaxrnn.mingru(3)._replace(step=halved)
    params = cell.init(jax.random.key(0), I)
    xs = np.ones((T, B, I))
    expected = jaxrnn.unroll(cell, params, xs)[1]
    np.testing.assert_array_equal(jaxrnn.layer(cell).apply(params, xs)[1], expected)
    for unroll in (
        jaxrnn.unroll_bptt,
        jaxrnn.unroll_chunked,
        jaxrnn.unroll_associative,
    ):
        with pytest.raises(ValueError, match="cell must"):
            unroll(cell, params, xs)


def test_a_new_initialiser_keeps_the_adjoint():
    cell = jaxrnn.lstm(5)
    changed = cell._replace(init=cell.init)
    assert changed.adjoint is cell.adjoint
    assert changed.spec is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no json", "spec must be JSON, got 'no json'"),
        ('{"factory": "os.system"}', "spec must name a factory that this version of"),
        ('{"factory": "jaxrnn.gru"}', "spec must have the arguments of jaxrnn.gru"),
        (
            '{"factory": "jaxrnn.gru", "arguments": {"size": 3}}',
            r"spec must have only arguments that jaxrnn.gru takes .*, got \['size'\]",
        ),
        (
            '{"function": "jax.numpy.load"}',
            "spec must name a function that this",
        ),
        ('{"unnamed": "f"}', "spec must have only parts that a file can name, got f"),
    ],
)
def test_a_description_of_something_else_is_refused(spec, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        jaxrnn.from_spec(spec)


def test_a_description_of_another_type_is_refused():
    with pytest.raises(
        TypeError, match=r"^spec must be a Spec, a string or a dict, got"
    ):
        jaxrnn.from_spec(5)


def model(cell, *more):
    return jaxrnn.stack(jaxrnn.embedding(7, 3), jaxrnn.layer(cell), *more)


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (model(jaxrnn.gru(5)), model(jaxrnn.gru(5)), []),
        (
            model(jaxrnn.gru(5)),
            model(jaxrnn.gru(5, reset_after=False)),
            [
                "layers[1].cell: jaxrnn.gru(reset_after=True) in the file, "
                "jaxrnn.gru(reset_after=False) here"
            ],
        ),
        (
            model(jaxrnn.elman(5), jaxrnn.dense(2)),
            model(jaxrnn.orthogonal_rnn(5), jaxrnn.dense(3)),
            [
                "layers[1].cell: jaxrnn.elman(w_h_init=jaxrnn.initializers.orthogonal) "
                "in the file, jaxrnn.orthogonal_rnn(map_fn=jaxrnn.exponential_map, "
                "w_h_init=jaxrnn.random_rotations) here",
                "layers[2]: jaxrnn.dense(size=2) in the file, "
                "jaxrnn.dense(size=3) here",
            ],
        ),
        (
            model(jaxrnn.gru(5)),
            jaxrnn.dense(3),
            ["model: jaxrnn.stack(layers=(", "jaxrnn.dense(size=3"],
        ),
    ],
)
def test_differences_name_the_part(found, wanted, expected):
    plain = [json.loads(each.spec.to_json()) for each in (found, wanted)]
    lines = list(differences(*plain))
    if expected and expected[0].startswith("model"):
        assert lines[0].startswith(expected[0])
        assert expected[1] in lines[0]
    else:
        assert lines == expected


def specs_in(value):
    """The descriptions of an object and of all its parts."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        for each in value:
            yield from specs_in(each)
    elif getattr(value, "spec", None) is not None:
        yield value.spec
        for _, argument in value.spec.arguments:
            yield from specs_in(argument)


EXAMPLES = {}
for _make in MADE.values():
    EXAMPLES |= {spec.factory: spec for spec in specs_in(_make())}


def wrong_values(value):
    """Values of another type or outside of any range, for an argument of a factory."""
    if isinstance(value, bool):
        return ["no", 2, None]
    if isinstance(value, int):
        return [2.5, "3", -1]
    if isinstance(value, float):
        return ["0.1", np.nan, np.inf, np.ones(2)]
    if callable(value) or hasattr(value, "spec"):
        return [5, "name"]
    return []


@pytest.mark.parametrize("factory", EXAMPLES)
def test_a_wrong_value_of_any_argument_is_named(factory):
    spec = EXAMPLES[factory]
    for name, value in spec.arguments:
        for wrong in wrong_values(value):
            arguments = tuple((n, wrong if n == name else v) for n, v in spec.arguments)
            with pytest.raises((TypeError, ValueError)) as caught:
                spec._replace(arguments=arguments).build()
            assert str(caught.value).startswith(name), (name, wrong, caught.value)


def test_every_factory_has_an_example():
    # The second is what leaky_integrator and antisymmetric are made of.
    inner = {"jaxrnn.initializers.per_gate", "jaxrnn.integrator"}
    assert FACTORIES.keys() - EXAMPLES.keys() == inner
