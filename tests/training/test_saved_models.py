"""A model and its parameters in one file, which needs no code to be read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from all_models import MODELS
from cases import I, assert_close
from layer_cases import VOCAB

import jaxrnn
from jaxrnn import checkpoint, seq2seq
from jaxrnn.checkpoint import _format

KEY = jax.random.key(0)
LSTM = jaxrnn.layer(jaxrnn.lstm(5))
PARAMS = LSTM.init(KEY, 2, jnp.float32)


def drawn(model, *sizes):
    """Parameters of the structure that ``init`` draws, without its programs."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: model.init(key, *sizes, jnp.float32), KEY)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes
    )


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert type(a) is type(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_and_its_parameters_come_back(name, tmp_path):
    model, tokens = MODELS[name]
    params = drawn(model, VOCAB if tokens else I)
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, model, params)
    loaded, values = checkpoint.load_model(path)
    assert loaded == model
    assert_same(values, params)


def test_the_loaded_model_computes_the_same(tmp_path):
    checkpoint.save_model(tmp_path / "model", LSTM, PARAMS, {"step": "7"})
    model, params = checkpoint.load_model(tmp_path / "model")
    xs = jnp.ones((7, 3, 2), jnp.float32)
    assert_close(model.apply(params, xs), LSTM.apply(PARAMS, xs), 0)
    assert checkpoint.load_metadata(tmp_path / "model") == {"step": "7"}
    assert_same(checkpoint.load_params(tmp_path / "model", PARAMS, model=LSTM), PARAMS)


def test_an_encoder_decoder_comes_back(tmp_path):
    model = seq2seq.encoder_decoder(
        jaxrnn.layer(jaxrnn.gru(5)),
        jaxrnn.lstm(4),
        inputs=jaxrnn.embedding(7, 3),
        readout=jaxrnn.dense(7),
        attention=seq2seq.additive(4),
    )
    params = drawn(model, 6, 7)
    checkpoint.save_model(tmp_path / "model", model, params)
    loaded, values = checkpoint.load_model(tmp_path / "model")
    assert loaded == model
    assert_same(values, params)


def test_dtypes_and_numbers_come_back(tmp_path):
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    checkpoint.save_model(tmp_path / "model", LSTM, params)
    assert_same(checkpoint.load_model(tmp_path / "model")[1], params)
    wide = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
    checkpoint.save_model(tmp_path / "model", LSTM, wide)
    with jax.enable_x64(False):
        narrow = checkpoint.load_model(tmp_path / "model")[1]
    assert isinstance(narrow.w_x, np.ndarray)
    assert narrow.w_x.dtype == np.float64


def test_a_function_of_the_user_is_refused(tmp_path):
    model = jaxrnn.layer(jaxrnn.elman(5, activation=lambda x: x))
    message = r"cell\.activation must be a value that can be written to a file"
    with pytest.raises(TypeError, match=message):
        checkpoint.save_model(tmp_path / "model", model, drawn(model, 2))
    assert not list(tmp_path.iterdir())


class OwnParams(tuple):
    __slots__ = ()


def test_a_type_that_no_file_can_name_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "model"
    checkpoint.save_model(path, LSTM, PARAMS)
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"params must be parameters of jaxrnn\.layer"):
        checkpoint.save_model(path, LSTM, OwnParams(PARAMS))
    assert path.read_bytes() == before


def changed(path, key, change):
    """Write the file again with other metadata, and a checksum that fits."""
    arrays, metadata = _format.read_file(path)
    value = json.loads(metadata[key])
    metadata[key] = json.dumps(change(value))
    metadata[_format._CHECKSUM] = _format._checksum(arrays, metadata)
    path.write_bytes(_format.safetensors.numpy.save(arrays, metadata))


MODEL, STRUCTURE = _format.MODEL, _format.STRUCTURE


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (MODEL, lambda spec: spec | {"factory": "os.system"}, "name a factory"),
        (MODEL, lambda spec: {"function": "os.system"}, "name a function"),
        (MODEL, lambda spec: [spec], "must be a Spec"),
        (MODEL, lambda spec: spec | {"arguments": {"path": 1}}, r"got \['path'\]"),
        (STRUCTURE, lambda tree: {"os.system": ["leaf"]}, "got 'os.system'"),
        (STRUCTURE, lambda tree: {"jaxrnn.Cell": ["leaf"]}, "got 'jaxrnn.Cell'"),
        (STRUCTURE, lambda tree: {"jaxrnn.LSTMParams": ["leaf"]}, "must have 3 parts"),
        (STRUCTURE, lambda tree: {"jaxrnn.LSTMParams": 3}, "a list of parts"),
        (STRUCTURE, lambda tree: {"tuple": ["leaf"]}, r"must hold the parameter \[0\]"),
        (STRUCTURE, lambda tree: {"list": []}, r"has no place for .b, .w_h, .w_x"),
        (STRUCTURE, lambda tree: 5, "must be a type and its parts"),
        (
            STRUCTURE,
            lambda tree: {"jaxrnn.MGUParams": tree["jaxrnn.LSTMParams"]},
            "MGU",
        ),
    ],
)
def test_a_file_that_names_something_else_is_refused(tmp_path, key, change, message):
    path = tmp_path / "model"
    checkpoint.save_model(path, LSTM, PARAMS)
    changed(path, key, change)
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load_model(path)
    assert str(path) in str(caught.value)


def test_a_file_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "model"
    checkpoint.save_model(path, LSTM, PARAMS)
    arrays, metadata = _format.read_file(path)
    metadata[STRUCTURE] = '{"list": [' * 100_000 + '"leaf"' + "]}" * 100_000
    metadata[_format._CHECKSUM] = _format._checksum(arrays, metadata)
    path.write_bytes(_format.safetensors.numpy.save(arrays, metadata))
    with pytest.raises(ValueError, match="holds no model that can be read"):
        checkpoint.load_model(path)


def test_a_file_without_a_model_says_who_reads_it(tmp_path):
    path = tmp_path / "params"
    checkpoint.save_params(path, PARAMS, model=LSTM)
    with pytest.raises(ValueError, match="holds no model; read it with load_params"):
        checkpoint.load_model(path)


def test_a_file_of_a_model_is_no_state_and_says_so(tmp_path):
    path = tmp_path / "model"
    checkpoint.save_model(path, LSTM, PARAMS)
    with pytest.raises(ValueError, match="but by save_model: read it with load_model"):
        checkpoint.load_state(path, PARAMS)
