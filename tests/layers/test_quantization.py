"""Weights of 8 bits: what they stand for, and that layers take them everywhere."""

import functools
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, B, I, T, random_normal
from covering import quick
from layer_cases import LAYERS, QUICK, VOCAB

import jaxrnn
from jaxrnn import checkpoint, convert, export
from jaxrnn._numerics import int8
from jaxrnn.quantization import Int8, dequantize, quantize

CELL = jaxrnn.lstm(5)
PARAMS = CELL.init(jax.random.key(0), I, jnp.float32)
XS = random_normal(1, (T, B, I), jnp.float32)
LANGUAGE_MODEL = jaxrnn.stack(
    jaxrnn.embedding(50, 64),
    jaxrnn.layer(jaxrnn.lstm(192)),
    jaxrnn.layer(jaxrnn.gru(192)),
    jaxrnn.layer(jaxrnn.elman(192)),
    jaxrnn.dense(50),
)


def num_bytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def streamed(layer, params, xs):
    step = jax.jit(layer.step)
    state, ys = layer.initial_state(params, (B,)), []
    for x in xs:
        state, y = step(params, state, x)
        ys.append(y)
    return state, jax.tree.map(lambda *each: jnp.stack(each), *ys)


def assert_same(actual, expected, atol=2e-6):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=0, atol=atol),
        actual,
        expected,
    )


def test_a_language_model_has_at_most_three_tenths_of_the_bytes():
    params = LANGUAGE_MODEL.init(jax.random.key(0), 50, jnp.float32)
    small = quantize(params)
    assert num_bytes(small) <= 0.3 * num_bytes(params)
    weights = jax.tree.leaves(small, is_leaf=lambda node: isinstance(node, Int8))
    assert sum(isinstance(each, Int8) for each in weights) == 8
    shapes = jax.tree.map(jnp.shape, (params, dequantize(small)))
    assert shapes[0] == shapes[1]


def test_values_and_scales_are_those_of_plain_numpy():
    w = np.random.default_rng(0).normal(size=(7, 5))
    w[:, 3] = 0
    found = quantize(jaxrnn.DenseParams(w=w, b=np.ones(5))).w
    scale = abs(w).max(0, keepdims=True) / 127
    scale[:, 3] = 1
    np.testing.assert_allclose(found.scale, scale, rtol=1e-15)
    np.testing.assert_array_equal(found.values, np.round(w / scale))
    assert found.values.dtype == jnp.int8
    assert abs(dequantize(found) - w).max() <= scale.max() / 2 + 1e-12
    np.testing.assert_array_equal(
        quantize(jaxrnn.DenseParams(-w, w)).w.values, -found.values
    )
    table = quantize(jaxrnn.EmbeddingParams(w)).table
    assert table.scale.shape == (7, 1)
    assert table.shape == (7, 5)


def test_what_is_no_matrix_of_the_library_stays():
    other = {"w": np.ones((30, 30)), "layer": (PARAMS, None)}
    found = quantize(other)
    assert found["w"] is other["w"]
    assert found["layer"][0].b is PARAMS.b
    assert isinstance(found["layer"][0].w_h, Int8)
    one_input = CELL.init(jax.random.key(0), 1, jnp.float32)
    assert quantize(one_input).w_x is one_input.w_x  # its scales would be as large


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_weights_of_16_bits_keep_their_dtype(dtype):
    layer = jaxrnn.layer(jaxrnn.lstm(40))
    params = layer.init(jax.random.key(0), 30, dtype)
    xs = random_normal(1, (T, B, 30), jnp.float32).astype(dtype)
    small = quantize(params)
    assert small.w_h.dtype == small.w_h.scale.dtype == dtype
    expected = layer.apply(params, xs)[1]
    for ys in (layer.apply(small, xs)[1], streamed(layer, small, xs)[1]):
        assert ys.dtype == dtype
        assert abs(ys.astype("f") - expected.astype("f")).max() < 0.03


def test_a_column_with_nan_is_nan_and_others_are_not():
    for bad in (np.nan, np.inf):
        w = np.ones((40, 30), np.float32)
        w[3, 5] = bad
        with jax.debug_nans(False):
            found = np.isnan(dequantize(quantize(jaxrnn.DenseParams(w, w[0]))).w)
        assert found[:, 5].all()
        assert found.sum() == 40


@quick("name", list(LAYERS), by_default=QUICK)
def test_every_layer_takes_them_as_the_floats_that_they_stand_for(name):
    case = LAYERS[name]
    layer = case.make(None)
    params = layer.init(jax.random.key(0), I, jnp.float32)
    if name == "layer-norm":
        with pytest.raises(ValueError, match="got LayerNormParams without one"):
            quantize(params)
        return
    small = quantize(params)
    xs = np.arange(T * B).reshape(T, B) % VOCAB if case.tokens else XS
    mask = np.arange(T)[:, None] < np.array([T, 3, 5])
    run = jax.jit(layer.apply)
    expected = run(dequantize(small), xs, mask=mask)
    assert_same(run(small, xs, mask=mask), expected)
    if case.causal:
        assert_same(streamed(layer, small, xs), run(small, xs))


CELLS_WITH_PRODUCTS = [name for name in CELLS if "conv" not in name]
BY_DIGITS = ("elman", "lstm", "gru", "gru-before", "mgu")


@quick("name", CELLS_WITH_PRODUCTS, by_default=BY_DIGITS)
def test_every_cell_steps_with_them(name):
    cell = CELLS[name].cell
    params = cell.init(jax.random.key(0), I, jnp.float32)
    small = quantize(params)
    layer = jaxrnn.layer(cell)
    whole = jax.jit(functools.partial(jaxrnn.unroll, cell))(small, XS)
    assert_same(streamed(layer, small, XS), whole, 1e-5)


def test_a_convolution_takes_them_too():
    layer = jaxrnn.layer(jaxrnn.conv_lstm(4, (3,), (6,)))
    params = layer.init(jax.random.key(0), I, jnp.float32)
    xs = random_normal(1, (T, B, 6, I), jnp.float32)
    small = quantize(params)
    assert_same(streamed(layer, small, xs), layer.apply(dequantize(small), xs), 1e-5)


# The product


@pytest.mark.parametrize("lead", [(), (1,), (2, 3)])
@pytest.mark.parametrize("product", [int8._by_digits, int8._at_once])
def test_products_are_as_exact_as_those_of_float32(product, lead):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(*lead, 300)) * 10.0 ** rng.integers(-9, 9)).astype(np.float32)
    values = rng.integers(-127, 128, size=(300, 40)).astype(np.int8)
    found = np.asarray(jax.jit(product)(x, values))
    assert found.dtype == np.float32
    exact = x.astype("d") @ values.astype("d")
    largest = abs(x.astype("d")).max() * 127 * 300**0.5
    assert abs(found - exact).max() < 1e-6 * largest


def test_digits_have_the_limits_of_floats():
    values = np.full((7, 5), 127, np.int8)
    by_digits = jax.jit(int8._by_digits)
    np.testing.assert_array_equal(by_digits(np.zeros((3, 7), "f"), values), 0)
    for bad in (np.nan, np.inf, -np.inf):
        x = np.ones((3, 7), np.float32)
        x[1, 2] = bad
        with jax.debug_nans(False):
            found = np.isnan(by_digits(x, values))
        assert found[1].all()
        assert found.sum() == 5


def test_a_product_chooses_digits_for_few_rows_of_up_to_32_bits(monkeypatch):
    calls = []
    by_digits = int8._by_digits
    monkeypatch.setattr(
        int8, "_by_digits", lambda *args: calls.append(1) or by_digits(*args)
    )
    monkeypatch.setattr(sys, "platform", "linux")
    w = quantize(jaxrnn.DenseParams(np.eye(40, dtype="f"), np.zeros(40, "f"))).w
    wide = w._replace(scale=np.full((1, 40), 1 / 127))
    for rows, weight, count in [(3, w, 1), (99, w, 0), (3, wide, 0)]:
        calls.clear()
        x = np.ones((rows, 40), weight.dtype)
        np.testing.assert_allclose(int8.dot_int8(jnp.asarray(x), weight), x, atol=1e-6)
        assert len(calls) == count
    monkeypatch.setattr(sys, "platform", "darwin")
    np.testing.assert_allclose(int8.dot_int8(jnp.ones((3, 40), "f"), w), 1, atol=1e-6)
    assert not calls


def test_inputs_and_states_have_gradients():
    layer = jaxrnn.layer(jaxrnn.gru(5))
    small = quantize(layer.init(jax.random.key(0), I, jnp.float32))
    state = layer.initial_state(small, (B,)) + 0.5

    def loss(run, params, state, xs):
        return jnp.sin(run(params, state, xs)[1]).sum()

    for run, xs in [
        (layer.step, XS[0]),
        (lambda params, state, xs: layer.apply(params, xs, state), XS),
    ]:
        found, expected = (
            jax.grad(loss, argnums=(2, 3))(run, params, state, xs)
            for params in (small, dequantize(small))
        )
        assert_same(found, expected, 1e-5)


def test_ensembles_have_scales_of_their_own():
    layer = jaxrnn.layer(CELL)
    keys = jax.random.split(jax.random.key(0), 3)
    small = quantize(jax.vmap(lambda key: layer.init(key, I, jnp.float32))(keys))
    assert small.w_h.scale.shape == (3, 1, 20)
    together = jax.vmap(lambda params: streamed(layer, params, XS)[1])(small)
    for index in range(3):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], small)
        assert_same(together[index], layer.apply(own, XS)[1])


# Files


def test_files_keep_them(tmp_path):
    model = jaxrnn.stack(
        jaxrnn.embedding(VOCAB, 8), jaxrnn.layer(jaxrnn.gru(8)), jaxrnn.dense(VOCAB)
    )
    params = model.init(jax.random.key(0), VOCAB, jnp.float32)
    small, path = quantize(params), tmp_path / "model.safetensors"
    checkpoint.save_params(path, small, model=model)
    like = jax.eval_shape(quantize, params)
    jax.tree.map(
        np.testing.assert_array_equal,
        checkpoint.load_params(path, like, model=model),
        small,
    )
    checkpoint.save_model(path, model, small)
    loaded, values = checkpoint.load_model(path)
    assert loaded == model
    jax.tree.map(np.testing.assert_array_equal, values, small)


@pytest.mark.skipif(
    importlib.util.find_spec("flatbuffers") is None,
    reason="flatbuffers is not installed: pip install -e '.[export]'",
)
@pytest.mark.parametrize("batch_size", [None, B])
def test_artefacts_keep_them(tmp_path, batch_size):
    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(8)), jaxrnn.dense(3))
    small = quantize(model.init(jax.random.key(0), I, jnp.float32))
    path = tmp_path / "model.safetensors"
    export.export(model, small, I, batch_size=batch_size).save(path)
    artefact = export.load(path)
    assert artefact.params["[0].w_h.values"].dtype == jnp.int8
    expected = model.apply(small, XS)
    assert_same(artefact.apply(XS), expected, 1e-5)
    state = artefact.initial_state(B)
    for x in XS:
        state, y = artefact.step(state, x)
    assert_same((state, y), (expected[0], expected[1][-1]), 1e-5)


def test_converters_take_the_floats_that_they_stand_for():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: pip install -e '.[compare]'")
    layer = jaxrnn.layer(CELL)
    small = quantize(PARAMS)
    found = convert.to_torch(layer, small)
    for name, expected in convert.to_torch(layer, dequantize(small)).items():
        np.testing.assert_array_equal(found[name], expected)


# Bad input


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (quantize(PARAMS), TypeError, "got int8 weights: they are quantised already"),
        ((), ValueError, "must have a weight matrix .*, got tuple without one"),
        ({"w": np.ones((9, 9))}, ValueError, "must have a weight matrix"),
        (PARAMS.w_h, ValueError, "must have a weight matrix"),
        (
            [PARAMS._replace(w_h=np.ones((5, 20), int))],
            TypeError,
            r"params\[0\]\.w_h must be floating, got dtype int64",
        ),
    ],
    ids=["again", "empty", "no type of ours", "an array", "integers"],
)
def test_what_cannot_be_quantised_is_named(params, error, message):
    with pytest.raises(error, match=message):
        quantize(params)


def test_gradients_of_int8_weights_are_refused():
    layer, small = jaxrnn.layer(CELL), quantize(PARAMS)
    with pytest.raises(TypeError, match="int8"):
        jax.grad(lambda params: layer.apply(params, XS)[1].sum())(small)
    refused = r"params must have floating weights here, got int8 weights: jaxrnn\.quant"
    with pytest.raises(TypeError, match=refused):
        jaxrnn.bptt(CELL, small, XS, np.ones((T, B, 5), "f"))
    with pytest.raises(TypeError, match=refused):
        jaxrnn.rtrl_init(CELL, small, (B,))


def test_layers_refuse_int8_weights_of_another_size():
    layer = jaxrnn.layer(jaxrnn.lstm(6))
    with pytest.raises(ValueError, match=r"params\.w_x must have shape \(I, 24\)"):
        layer.apply(quantize(PARAMS), XS)
    with pytest.raises(ValueError, match=r"params\.w_x must have shape \(I, 24\)"):
        layer.step(quantize(PARAMS), None, XS[0])
    with pytest.raises(TypeError, match="of type GRUParams, got LSTMParams"):
        jaxrnn.layer(jaxrnn.gru(5)).apply(quantize(PARAMS), XS)
