"""Weights come from other frameworks and go to them exactly."""

import itertools
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, H, I, T, random_like, random_normal, random_params
from frameworks import need

import jaxrnn
from jaxrnn import convert
from jaxrnn._layers.recurrent import BidirectionalParams
from jaxrnn.convert._parts import AVERAGE

RELU = {"activation": jax.nn.relu}
CELLS = {
    "elman": jaxrnn.elman(H),
    "elman-relu": jaxrnn.elman(H, **RELU),
    "lstm": jaxrnn.lstm(H),
    "gru": jaxrnn.gru(H),
    "gru-before": jaxrnn.gru(H, reset_after=False),
    "projected-lstm": jaxrnn.projected_lstm(H + 2, H),
    "peephole-lstm": jaxrnn.peephole_lstm(H),
}


def layers_of(cell):
    """A cell in one and two layers, in one direction and in both."""
    one, both = jaxrnn.layer(cell), jaxrnn.bidirectional(cell, cell)
    return {
        "one": one,
        "two": jaxrnn.stack(one, one),
        "both": both,
        "two-both": jaxrnn.stack(both, both),
    }


FORMS = list(layers_of(CELLS["lstm"]))


def problem(layer, dtype=jnp.float64, input_size=I):
    params = random_params(1, layer, dtype, input_size)
    return params, random_normal(2, (T, B, input_size), dtype)


def without_state_biases(params):
    """Move to ``b`` what a GRU of another framework has no second bias for."""

    def moved(p):
        if not isinstance(p, jaxrnn.GRUParams):
            return p
        r, z, n = jnp.split(p.b_h, 3)
        kept = jnp.concatenate([jnp.zeros_like(r), jnp.zeros_like(z), n])
        return p._replace(b=p.b + p.b_h - kept, b_h=kept)

    return jax.tree.map(
        moved, params, is_leaf=lambda p: isinstance(p, jaxrnn.GRUParams)
    )


def without_biases(params):
    """The parameters of a model that has no biases."""
    return jax.tree.map(lambda p: jnp.zeros_like(p) if p.ndim == 1 else p, params)


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_equal(actual, layer, params):
    """Check a pair that a converter returned."""
    assert actual[0] == layer
    assert_same(actual[1], params)


def assert_near(actual, expected, tolerance=1e-12):
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def values_and_gradients(run, weights, xs):
    """Outputs, and the gradients of a weighted sum of them."""
    ys, pull = jax.vjp(run, weights, xs)
    return ys, *pull(random_normal(9, ys.shape, ys.dtype))


def of_layer(layer, params, xs):
    return values_and_gradients(lambda p, x: layer.apply(p, x)[1], params, xs)


def unique(dparams, kept=("n",)):
    """Leave out gradients of biases that another framework does not have."""

    def without(p):
        if not isinstance(p, jaxrnn.GRUParams):
            return p
        parts = zip("rzn", jnp.split(p.b_h, 3), strict=True)
        b_h = [part if gate in kept else jnp.zeros_like(part) for gate, part in parts]
        return p._replace(b_h=jnp.concatenate(b_h))

    return jax.tree.map(without, dparams, is_leaf=lambda p: hasattr(p, "w_h"))


def assert_all_near(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(assert_near, actual, expected)


def grid(cells, forms=FORMS):
    return pytest.mark.parametrize(
        ("name", "form"),
        [
            pytest.param(name, form, id=f"{name}-{form}")
            for name, form in itertools.product(cells, forms)
        ],
    )


# PyTorch


def torch_module(torch, layer, params, **options):
    """The module whose weights ``to_torch`` writes, with other numbers."""
    recurrent = params if type(params) is tuple else (params,)
    both = isinstance(recurrent[0], BidirectionalParams)
    own = recurrent[0].forward if both else recurrent[0]
    sizes = {"hidden_size": H}
    kind = torch.nn.LSTM
    if isinstance(own, jaxrnn.ElmanParams):
        kind = torch.nn.RNN
        relu = "relu" in repr(layer)
        sizes["nonlinearity"] = "relu" if relu else "tanh"
    elif isinstance(own, jaxrnn.GRUParams):
        kind = torch.nn.GRU
    elif isinstance(own, jaxrnn.ProjectedLSTMParams):
        sizes = {"hidden_size": H + 2, "proj_size": H}
    sizes |= {"num_layers": len(recurrent), "bidirectional": both}
    return kind(own.w_x.shape[0], **sizes, **options, dtype=torch.float64)


def load(torch, module, weights):
    tensors = {name: torch.from_numpy(np.array(w)) for name, w in weights.items()}
    module.load_state_dict(tensors)
    return module


@pytest.mark.parametrize("bias", [True, False])
@grid(["elman", "elman-relu", "lstm", "gru", "projected-lstm"])
def test_torch(name, form, bias):
    torch = need("torch")
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer)
    if not bias:
        params = without_biases(params)
    weights = convert.to_torch(layer, params, bias=bias)
    module = load(torch, torch_module(torch, layer, params, bias=bias), weights)
    inputs = torch.tensor(np.asarray(xs), requires_grad=True)
    expected = module(inputs)[0]
    ys, dparams, dxs = of_layer(layer, params, xs)
    assert_near(ys, expected.detach().numpy())
    dys = random_normal(9, ys.shape, ys.dtype)
    expected.backward(torch.tensor(np.asarray(dys)))
    assert_near(dxs, inputs.grad.numpy())
    gradients = convert.to_torch(layer, dparams)
    for key, weight in module.named_parameters():
        if "gru" not in name:  # whose two biases have gradients of their own
            key = key.replace("bias_hh", "bias_ih")
        assert_near(gradients[key], weight.grad.numpy())
    assert_equal(convert.from_torch(module), layer, params)


def test_torch_keeps_both_biases_in_their_sum():
    torch = need("torch")
    module = torch.nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    layer, params = convert.from_torch(module)
    xs = random_normal(0, (T, B, I), jnp.float64)
    expected = module(torch.tensor(np.asarray(xs)))[0].detach().numpy()
    assert_near(layer.apply(params, xs)[1], expected)
    again = convert.from_torch(load(torch, module, convert.to_torch(layer, params)))
    assert_equal(again, layer, params)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_torch_cells_become_layers(kind):
    torch = need("torch")
    cell = getattr(torch.nn, kind)(I, H, dtype=torch.float64)
    layer, params = convert.from_torch(cell)
    xs = random_normal(0, (T, B, I), jnp.float64)
    state, expected = None, []
    for x in torch.tensor(np.asarray(xs)):
        state = cell(x, state)
        expected.append(state[0] if kind == "LSTMCell" else state)
    expected = torch.stack(expected).detach().numpy()
    assert_near(layer.apply(params, xs)[1], expected)


def test_torch_sequential():
    torch = need("torch")
    nn = torch.nn
    module = nn.Sequential(
        nn.Embedding(9, 4),
        nn.LSTM(4, H, 2, dropout=0.2),
        nn.Dropout(0.1),
        nn.LayerNorm(H),
        nn.Linear(H, 2),
    )
    layer, params = convert.from_torch(module)
    lstm = jaxrnn.layer(jaxrnn.lstm(H))
    assert layer == jaxrnn.stack(
        jaxrnn.embedding(9, 4),
        jaxrnn.dropout(jaxrnn.stack(jaxrnn.dropout(lstm, 0.2), lstm), 0.1),
        jaxrnn.layer_norm(H),
        jaxrnn.dense(2),
    )
    load(torch, module, convert.to_torch(layer, params))
    assert_same(convert.from_torch(module)[1], params)
    module.eval()
    tokens = np.arange(T * B).reshape(T, B) % 9
    ys = module[1](module[0](torch.tensor(tokens)))[0]
    expected = module[4](module[3](ys)).detach().numpy()
    assert_near(layer.apply(params, tokens)[1], expected, 1e-5)


def test_torch_in_16_bits():
    torch = need("torch")
    module = torch.nn.GRU(I, H, dtype=torch.bfloat16)
    _, params = convert.from_torch(module)
    assert params.w_x.dtype == jnp.bfloat16
    expected = module.weight_ih_l0.detach().float().numpy()
    np.testing.assert_array_equal(params.w_x.T.astype(jnp.float32), expected)


# State dicts, without PyTorch


def state_dict(cell, form="two-both", prefix=""):
    layer = layers_of(cell)[form]
    params, _ = problem(layer)
    weights = convert.to_torch(layer, params)
    return layer, params, {prefix + name: w for name, w in weights.items()}


KIND = {"elman": "rnn", "elman-relu": "rnn_relu", "projected-lstm": "lstm"}


@pytest.mark.parametrize("prefix", ["", "encoder.rnn."])
@grid(["elman", "elman-relu", "lstm", "gru", "projected-lstm"], ["one", "two-both"])
def test_state_dict(name, form, prefix):
    layer, params, weights = state_dict(CELLS[name], form, prefix)
    kind = KIND.get(name, name)
    assert_same(convert.from_torch_state_dict(weights, kind)[1], params)
    more = weights | {"head.weight": np.ones((2, H))}
    if prefix:
        assert_equal(
            convert.from_torch_state_dict(more, kind, prefix=prefix), layer, params
        )


def test_state_dict_in_a_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs [checkpoint]")
    layer, params, weights = state_dict(CELLS["gru"])
    path = tmp_path / "gru.safetensors"
    contiguous = {name: np.ascontiguousarray(w) for name, w in weights.items()}
    safetensors.save_file(contiguous, path)
    assert_equal(convert.from_torch_state_dict(path, "gru"), layer, params)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        convert.from_torch_state_dict(path, "gru")


def edited(change, cell="lstm"):
    _, _, weights = state_dict(CELLS[cell])
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("weight_hh_l1"), "must have the name 'weight_hh_l1'"),
        (lambda w: w.pop("bias_hh_l0"), "must have the name 'bias_hh_l0'"),
        (
            lambda w: [w.pop(n) for n in list(w) if "_l0" in n],
            "must have the name weight_ih_l0",
        ),
        (
            lambda w: w.update(weight=w["bias_ih_l0"]),
            "no recurrent module has: 'weight'",
        ),
        (
            lambda w: w.update(weight_ih_l3=w["weight_ih_l1"]),
            "must have the name 'weight_ih_l2'",
        ),
        (
            lambda w: w.update(weight_ih_l1=w["weight_ih_l0"]),
            re.escape(f"weight_ih_l1 must have shape ({4 * H}, {2 * H}), got"),
        ),
        (lambda w: w.update(bias_ih_l0=np.ones(3)), "bias_ih_l0 must have shape"),
        (
            lambda w: w.update({"other.weight_ih_l0": 1}),
            "prefix must be given if state_dict has several recurrent modules",
        ),
        (
            lambda w: w.update(weight_hr_l0=np.ones((H, H + 2))),
            "weight_hh_l0 must have",
        ),
    ],
)
def test_a_wrong_state_dict_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        convert.from_torch_state_dict(edited(change), "lstm")


def test_another_kind_is_named():
    _, _, weights = state_dict(CELLS["gru"])
    with pytest.raises(ValueError, match="this fits kind 'gru'"):
        convert.from_torch_state_dict(weights, "lstm")
    with pytest.raises(ValueError, match="kind must be one of rnn, rnn_relu"):
        convert.from_torch_state_dict(weights, "mlp")


def test_another_dtype_is_named():
    weights = edited(lambda w: w.update(bias_ih_l0=np.ones(4 * H, int)))
    with pytest.raises(TypeError, match="bias_ih_l0 must be floating, got dtype int64"):
        convert.from_torch_state_dict(weights)
    weights = edited(lambda w: w.update(weight_hh_l0=w["weight_hh_l0"].astype("f")))
    with pytest.raises(TypeError, match="must have one dtype, got float32, float64"):
        convert.from_torch_state_dict(weights)
    _, _, weights = state_dict(CELLS["lstm"])
    with jax.enable_x64(False), pytest.raises(TypeError, match="float64 is off in JAX"):
        convert.from_torch_state_dict(weights)


def test_other_files_are_not_read(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(ValueError, match="can run code that is hidden in it"):
        convert.from_torch_state_dict(path)


@pytest.mark.parametrize("value", [3, [1, 2], None])
def test_a_state_dict_is_a_mapping(value):
    with pytest.raises(TypeError, match="state_dict must be a mapping"):
        convert.from_torch_state_dict(value)


# Keras, in float32: a recurrent layer of Keras on JAX cannot run in float64


def run_keras(layer, xs):
    """The outputs of a Keras layer, with time first."""
    variables = layer.trainable_variables, layer.non_trainable_variables
    values = [[v.value for v in group] for group in variables]
    with jax.enable_x64(False):
        ys, _ = layer.stateless_call(*values, xs.swapaxes(0, 1))
    return ys.swapaxes(0, 1)


@pytest.fixture
def keras(standard_promotion):
    return need("keras")


@grid(["elman", "elman-relu", "lstm", "gru", "gru-before"])
def test_keras(keras, name, form):
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer, jnp.float32)
    if name == "gru-before":  # whose biases Keras has once
        params = jax.tree.map(
            lambda p: p._replace(b_h=jnp.zeros_like(p.b_h)),
            params,
            is_leaf=lambda p: isinstance(p, jaxrnn.GRUParams),
        )
    module = convert.to_keras(layer, params)
    assert_near(run_keras(module, xs), layer.apply(params, xs)[1], 3e-6)
    assert_equal(convert.from_keras(module), layer, params)


@pytest.mark.parametrize("space", [(5,), (5, 4), (4, 3, 2)], ids=["1D", "2D", "3D"])
def test_keras_convolutions(keras, space):
    layer = jaxrnn.layer(jaxrnn.conv_lstm(3, (3,) * len(space), space))
    params = random_params(1, layer, jnp.float32, 2)
    xs = random_normal(2, (T, B, *space, 2), jnp.float32)
    module = convert.to_keras(layer, params)
    assert_near(run_keras(module, xs), layer.apply(params, xs)[1], 3e-6)
    assert_equal(convert.from_keras(module), layer, params)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
def test_keras_merges(keras, mode):
    layers = keras.layers
    module = layers.Bidirectional(layers.GRU(H, return_sequences=True), merge_mode=mode)
    module.build((None, None, I))
    layer, params = convert.from_keras(module)
    xs = random_normal(2, (T, B, I), jnp.float32)
    assert_near(run_keras(module, xs), layer.apply(params, xs)[1], 3e-6)
    assert convert.from_keras(convert.to_keras(layer, params))[0] == layer


def test_a_file_can_name_every_merge():
    code = """
import jaxrnn
spec = 'MERGES'
for each in spec.split(';'):
    jaxrnn.from_spec(each)
assert 'jaxrnn.convert' not in __import__('sys').modules
"""
    lstm = jaxrnn.lstm(H)
    specs = [
        jaxrnn.bidirectional(lstm, lstm, merge=merge).spec.to_json()
        for merge in (jnp.add, jnp.multiply, AVERAGE)
    ]
    line = [sys.executable, "-c", code.replace("MERGES", ";".join(specs))]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_keras_sequential(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Embedding(9, 4),
            layers.LSTM(H, return_sequences=True, dropout=0.2, use_bias=False),
            layers.Dropout(0.1),
            layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True),
            layers.LayerNormalization(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.build((None, None))
    layer, params = convert.from_keras(model)
    lstm = jaxrnn.dropout(
        jaxrnn.layer(jaxrnn.lstm(H)), input_rate=0.2, variational=True
    )
    assert layer == jaxrnn.stack(
        jaxrnn.embedding(9, 4),
        jaxrnn.dropout(lstm, 0.1),
        jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(3)), jaxrnn.layer(jaxrnn.gru(2))),
        jaxrnn.layer_norm(2, epsilon=0.001),
        jaxrnn.dense(2, activation=jax.nn.softmax),
    )
    tokens = np.arange(T * B, dtype=np.int32).reshape(T, B) % 9
    expected = run_keras(model, tokens)
    assert_near(layer.apply(params, tokens)[1], expected, 3e-6)
    assert_near(run_keras(convert.to_keras(layer, params), tokens), expected, 3e-6)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_keras_without_biases(keras, kind):
    module = getattr(keras.layers, kind)(H, use_bias=False, return_sequences=True)
    module.build((None, None, I))
    layer, params = convert.from_keras(module)
    xs = random_normal(2, (T, B, I), jnp.float32)
    assert_near(run_keras(module, xs), layer.apply(params, xs)[1], 3e-6)


def test_keras_leaves_out_mask_zero_with_a_note(keras):
    module = keras.layers.Embedding(9, I, mask_zero=True)
    module.build((None, None))
    with pytest.warns(UserWarning, match="mask_zero is left out: pass mask=tokens"):
        assert convert.from_keras(module)[0] == jaxrnn.embedding(9, I)


def test_keras_leaves_out_recurrent_dropout_with_a_note(keras):
    module = keras.layers.LSTM(H, recurrent_dropout=0.5)
    module.build((None, None, I))
    with pytest.warns(UserWarning, match="recurrent_dropout is left out"):
        assert convert.from_keras(module)[0] == jaxrnn.layer(jaxrnn.lstm(H))


# Flax


@grid(["elman", "elman-relu", "lstm", "gru"])
def test_linen(name, form):
    need("flax")
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer)
    params = without_state_biases(params)
    module, variables = convert.to_flax(layer, params)
    expected, dvariables, expected_dxs = values_and_gradients(
        module.apply, variables, xs
    )
    ys, dparams, dxs = of_layer(layer, params, xs)
    assert_near(ys, expected)
    assert_near(dxs, expected_dxs)
    assert_all_near(convert.to_flax(layer, unique(dparams))[1], dvariables)
    assert_equal(convert.from_flax(module, variables), layer, params)
    assert_same(convert.to_flax(*convert.from_flax(module, variables))[1], variables)


@grid(["elman", "elman-relu", "lstm", "gru"])
def test_nnx(name, form):
    nnx = need("flax.nnx")
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer)
    params = jax.tree.map(
        lambda p: p._replace(b_h=jnp.zeros_like(p.b_h)) if hasattr(p, "b_h") else p,
        params,
        is_leaf=lambda p: hasattr(p, "w_h"),
    )
    module = convert.to_nnx(layer, params)
    graph, weights, rest = nnx.split(module, nnx.Param, ...)
    expected, dweights, expected_dxs = values_and_gradients(
        lambda weights, xs: nnx.merge(graph, weights, rest, copy=True)(xs), weights, xs
    )
    ys, dparams, dxs = of_layer(layer, params, xs)
    assert_near(ys, expected)
    assert_near(dxs, expected_dxs)
    gradients = convert.to_nnx(layer, unique(dparams, kept=()))
    assert_all_near(nnx.state(gradients, nnx.Param), dweights)
    assert_equal(convert.from_nnx(module), layer, params)


def test_other_cells_of_flax():
    nn, nnx = need("flax.linen"), need("flax.nnx")
    xs = random_normal(2, (T, B, I), jnp.float64)
    cell = nn.LSTMCell(H, param_dtype=jnp.float64)
    module = nn.RNN(cell, time_major=True, reverse=True, keep_order=True)
    variables = random_like(3, module.init(jax.random.key(0), xs))
    layer, params = convert.from_flax(module, variables)
    assert layer == jaxrnn.layer(jaxrnn.lstm(H), reverse=True)
    assert_near(layer.apply(params, xs)[1], module.apply(variables, xs))

    cell = nnx.LSTMCell(I, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    layer, params = convert.from_nnx(cell)
    assert_near(layer.apply(params, xs)[1], nnx.RNN(cell, time_major=True)(xs))


def stack_with_all():
    return jaxrnn.stack(
        jaxrnn.embedding(9, 4),
        jaxrnn.dropout(jaxrnn.layer(jaxrnn.lstm(H)), 0.1),
        jaxrnn.layer_norm(H),
        jaxrnn.dense(2),
    )


@pytest.mark.usefixtures("standard_promotion")
def test_stacks_in_flax_haiku_and_equinox():
    need("flax"), need("haiku"), need("equinox")
    layer = stack_with_all()
    params = random_params(1, layer, jnp.float64, 1)
    lstm, *others = dict(layer.spec.arguments)["layers"][1:]
    embedding = jaxrnn.embedding(9, 4)
    plain = jaxrnn.stack(embedding, jaxrnn.layer(jaxrnn.lstm(H)), *others)
    assert lstm != jaxrnn.layer(jaxrnn.lstm(H))  # it has dropout
    tokens = np.arange(T * B).reshape(T, B) % 9
    with pytest.warns(UserWarning, match="dropout is left out"):
        module, variables = convert.to_flax(layer, params)
    assert_near(module.apply(variables, tokens), layer.apply(params, tokens)[1])
    assert_equal(convert.from_flax(module, variables), plain, params)

    with pytest.warns(UserWarning, match="dropout is left out"):
        weights = convert.to_haiku(layer, params)
    names = ["embed", "lstm", "layer_norm", "linear"]
    again, theirs = convert.from_haiku(weights, names)
    assert again == plain
    jax.tree.map(assert_near, theirs, params)  # b_f has lost and got 1

    assert_equal(convert.from_nnx(convert.to_nnx(layer, params)), layer, params)
    modules = convert.to_equinox(layer, params)
    assert_equal(convert.from_equinox(modules), layer, params)


def test_convolutions_of_flax_and_haiku():
    hk = need("haiku")
    need("flax")
    layer = jaxrnn.layer(jaxrnn.conv_lstm(3, (3, 3), (5, 4)))
    params = random_params(1, layer, jnp.float64, 2)
    xs = random_normal(2, (T, B, 5, 4, 2), jnp.float64)
    expected = layer.apply(params, xs)[1]
    module, variables = convert.to_flax(layer, params)
    assert_near(module.apply(variables, xs), expected)
    again, theirs = convert.from_flax(module, variables, spatial_shape=(5, 4))
    assert again == layer
    jax.tree.map(assert_near, theirs, params)

    def run(xs):
        core = hk.Conv2DLSTM((5, 4), 3, 3)
        zero = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(B))
        return hk.dynamic_unroll(core, xs, zero)[0]

    weights = convert.to_haiku(layer, params)
    apply = hk.without_apply_rng(hk.transform(run)).apply
    assert_near(apply(weights, xs), expected)
    again, theirs = convert.from_haiku(weights, spatial_shape=(5, 4))
    assert again == layer
    jax.tree.map(assert_near, theirs, params)


# Haiku


@grid(["elman-relu", "lstm", "gru-before"], ["one", "two"])
def test_haiku(name, form):
    hk = need("haiku")
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer)
    core_of = {"elman-relu": hk.VanillaRNN, "lstm": hk.LSTM, "gru-before": hk.GRU}[name]

    def run(xs):
        core = core_of(H) if form == "one" else hk.DeepRNN([core_of(H), core_of(H)])
        zero = jax.tree.map(lambda a: a.astype(xs.dtype), core.initial_state(B))
        return hk.dynamic_unroll(core, xs, zero)[0]

    weights = convert.to_haiku(layer, params)
    transformed = hk.without_apply_rng(hk.transform(run))
    made = transformed.init(jax.random.key(0), xs)
    assert jax.tree.structure(made) == jax.tree.structure(weights)
    expected, dweights, expected_dxs = values_and_gradients(
        transformed.apply, weights, xs
    )
    ys, dparams, dxs = of_layer(layer, params, xs)
    assert_near(ys, expected)
    assert_near(dxs, expected_dxs)
    dparams = unique(dparams, kept=())
    # The forget gate of an LSTM is 1 less in Haiku, which is no part of a gradient.
    zero = convert.to_haiku(layer, jax.tree.map(jnp.zeros_like, params))
    gradients = jax.tree.map(jnp.subtract, convert.to_haiku(layer, dparams), zero)
    for module in dweights:
        if module.endswith("linear_1"):  # the same bias as that of linear
            gradients[module]["b"] = gradients[module[:-2]]["b"]
    assert_all_near(gradients, dweights)
    again, theirs = convert.from_haiku(weights)
    assert again == layer
    if name == "elman-relu":
        assert_same(theirs, params)
    assert_near(again.apply(theirs, xs)[1], layer.apply(params, xs)[1])


def test_haiku_with_one_bias():
    hk = need("haiku")

    def run(xs):
        core = hk.VanillaRNN(H, double_bias=False)
        zero = core.initial_state(B).astype(xs.dtype)
        return hk.dynamic_unroll(core, xs, zero)[0]

    xs = random_normal(2, (T, B, I), jnp.float64)
    transformed = hk.without_apply_rng(hk.transform(run))
    weights = random_like(3, transformed.init(jax.random.key(0), xs))
    layer, params = convert.from_haiku(weights)
    assert_near(layer.apply(params, xs)[1], transformed.apply(weights, xs))


def test_haiku_modules_with_other_names():
    layer = jaxrnn.layer(jaxrnn.gru(H, reset_after=False))
    params, _ = problem(layer)
    weights = {"net/core": convert.to_haiku(layer, params)["gru"]}
    again, _ = convert.from_haiku(weights, {"net/core": "gru"})
    assert again == layer
    with pytest.raises(ValueError, match="must have default names of Haiku"):
        convert.from_haiku(weights)
    with pytest.raises(ValueError, match="must have kinds of vanilla_rnn, lstm"):
        convert.from_haiku(weights, {"net/core": "mlp"})
    with pytest.raises(ValueError, match="must have the parameter 'w' of 'net/core/l"):
        convert.from_haiku(weights, {"net/core": "lstm"})
    weights["linear"] = {"w": np.ones((H, 2)), "b": np.ones(2)}
    weights["gru"] = weights.pop("net/core")
    with pytest.raises(ValueError, match="must be given in their order"):
        convert.from_haiku(weights)
    dense = {"linear": weights["linear"], "linear_1": weights["linear"]}
    with pytest.raises(ValueError, match="what is computed between them is not in par"):
        convert.from_haiku(dense)


# Equinox


def run_equinox(cell, xs, reverse=False):
    zero = jnp.zeros((B, H))
    first = (zero, zero) if hasattr(cell, "bias") and "LSTM" in repr(cell) else zero

    def step(state, x):
        state = jax.vmap(cell)(x, state)
        return state, state[0] if isinstance(state, tuple) else state

    return jax.lax.scan(step, first, xs, reverse=reverse)[1]


@grid(["lstm", "gru"])
def test_equinox(name, form):
    eqx = need("equinox")
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer)
    params = without_state_biases(params)
    modules = convert.to_equinox(layer, params)
    arrays, rest = eqx.partition(modules, eqx.is_array)

    def run(arrays, xs):
        modules = eqx.combine(arrays, rest)
        for module in modules if isinstance(modules, list) else [modules]:
            cells = module if isinstance(module, tuple) else (module,)
            ys = [run_equinox(c, xs, reverse=bool(i)) for i, c in enumerate(cells)]
            xs = jnp.concatenate(ys, axis=-1)
        return xs

    expected, darrays, expected_dxs = values_and_gradients(run, arrays, xs)
    ys, dparams, dxs = of_layer(layer, params, xs)
    assert_near(ys, expected)
    assert_near(dxs, expected_dxs)
    gradients = convert.to_equinox(layer, unique(dparams))
    assert_all_near(eqx.filter(gradients, eqx.is_array), darrays)
    assert_equal(convert.from_equinox(modules), layer, params)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_equinox_without_biases(kind):
    eqx = need("equinox")
    make = getattr(eqx.nn, kind)
    cell = make(I, H, use_bias=False, dtype=jnp.float64, key=jax.random.key(0))
    layer, params = convert.from_equinox(cell)
    xs = random_normal(2, (T, B, I), jnp.float64)
    assert_near(layer.apply(params, xs)[1], run_equinox(cell, xs))


# ONNX


@pytest.fixture
def onnx():
    need("onnx")
    return need("onnxruntime")


def run_onnx(onnxruntime, model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {name: np.asarray(x) for name, x in inputs.items()})


@grid(["elman", "elman-relu", "lstm", "gru", "gru-before", "peephole-lstm"])
def test_onnx(onnx, name, form):
    layer = layers_of(CELLS[name])[form]
    params, xs = problem(layer, jnp.float32)
    lengths = np.array([T, 1, 4], np.int32)[:B]
    mask = jaxrnn.lengths_to_mask(jnp.asarray(lengths), T)
    model = convert.to_onnx(layer, params)
    assert_near(run_onnx(onnx, model, xs=xs)[0], layer.apply(params, xs)[1], 1e-6)
    ragged = convert.to_onnx(layer, params, lengths=True)
    ys = run_onnx(onnx, ragged, xs=xs, lengths=lengths)[0]
    assert_near(ys, layer.apply(params, xs, mask=mask)[1], 1e-6)
    for each in (model, ragged):
        assert_equal(convert.from_onnx(each.SerializeToString()), layer, params)


def test_onnx_with_states(onnx):
    layer = jaxrnn.stack(jaxrnn.layer(CELLS["lstm"]), jaxrnn.layer(CELLS["gru"]))
    params, xs = problem(layer, jnp.float32)
    state = random_like(3, layer.initial_state(params, (B,)))
    inputs = {f"state_{n}": s[None] for n, s in enumerate(jax.tree.leaves(state))}
    model = convert.to_onnx(layer, params, states=True)
    ys, *last = run_onnx(onnx, model, xs=xs, **inputs)
    expected_state, expected = layer.apply(params, xs, state)
    assert_near(ys, expected, 1e-6)
    for each, other in zip(last, jax.tree.leaves(expected_state), strict=True):
        assert_near(each[0], other, 1e-6)


def test_onnx_of_a_whole_model(onnx, tmp_path):
    layer = stack_with_all()
    params = random_params(1, layer, jnp.float32, 1)
    tokens = np.arange(T * B, dtype=np.int32).reshape(T, B) % 9
    lengths = np.array([T, 1, 4], np.int32)[:B]
    path = tmp_path / "model.onnx"
    model = convert.to_onnx(layer, params, path, lengths=True)
    mask = jaxrnn.lengths_to_mask(jnp.asarray(lengths), T)
    ys = run_onnx(onnx, model, xs=tokens, lengths=lengths)[0]
    assert_near(ys, layer.apply(params, tokens, mask=mask)[1], 1e-6)
    assert_same(convert.from_onnx(path)[1], params)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="must be a whole ONNX model"):
        convert.from_onnx(path)


LOOPS = {
    "mgu": jaxrnn.layer(jaxrnn.mgu(H)),
    "lstm-clip": jaxrnn.layer(jaxrnn.lstm(H, cell_clip=0.5)),
    "layer-norm-gru": jaxrnn.layer(jaxrnn.layer_norm_gru(H)),
    "minlstm": jaxrnn.residual(jaxrnn.layer(jaxrnn.minlstm(I))),
    "janet": jaxrnn.stack(jaxrnn.embedding(9, I), jaxrnn.layer(jaxrnn.janet(H))),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("standard_promotion")
def test_onnx_of_other_layers(onnx, name):
    need("jax2onnx")
    layer = LOOPS[name]
    tokens = np.arange(T * B, dtype=np.int32).reshape(T, B) % 9
    params, xs = problem(layer, jnp.float32)
    xs = tokens if name == "janet" else xs
    model = convert.to_onnx(layer, params, loops=True, input_size=I)
    assert_near(run_onnx(onnx, model, xs=xs)[0], layer.apply(params, xs)[1], 1e-6)
    short = xs[:3, :2]  # sizes are dynamic
    ys = run_onnx(onnx, model, xs=short)[0]
    assert_near(ys, layer.apply(params, short)[1], 1e-6)


def test_options_of_loops_are_checked(onnx):
    need("jax2onnx")
    layer = LOOPS["mgu"]
    params = init(layer)
    with pytest.raises(ValueError, match="input_size must be given with loops"):
        convert.to_onnx(layer, params, loops=True)
    with pytest.raises(ValueError, match="loops must be False for a model with leng"):
        convert.to_onnx(layer, params, loops=True, input_size=I, lengths=True)
    layer = jaxrnn.layer(jaxrnn.mgu(H), reverse=True)
    with pytest.raises(ValueError, match=r"^cannot convert .* jax2onnx cannot: "):
        convert.to_onnx(layer, params, loops=True, input_size=I)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.filterwarnings("ignore")
def test_onnx_of_torch(onnx, kind, batch_first, tmp_path):
    torch = need("torch")
    options = {"bidirectional": True, "batch_first": batch_first}
    module = getattr(torch.nn, kind)(I, H, 2, **options)
    xs = random_normal(2, (T, B, I), jnp.float32)
    tensor = torch.tensor(np.asarray(xs.swapaxes(0, 1) if batch_first else xs))
    path = tmp_path / "model.onnx"
    torch.onnx.export(module, (tensor,), str(path), dynamo=False)
    layer, params = convert.from_onnx(path)
    again, theirs = convert.from_torch(module)
    assert layer == again
    jax.tree.map(lambda a, b: assert_near(a, b, 1e-6), params, theirs)


def edited_onnx(change, cell="lstm"):
    layer = jaxrnn.layer(CELLS[cell])
    model = convert.to_onnx(layer, problem(layer, jnp.float32)[0])
    change(model.graph.node)
    return model


def attribute(name, value):
    def change(nodes):
        onnx = need("onnx")
        nodes[0].attribute.append(onnx.helper.make_attribute(name, value))

    return change


def other_operator(nodes):
    nodes[1].op_type = "Softsign"


def fixed_lengths(nodes):
    nodes[0].input.append("axes_1")  # any constant will do


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute("clip", 3.0), "jaxrnn does not have the attribute clip"),
        (attribute("input_forget", 1), "the attribute input_forget"),
        (attribute("layout", 1), "the attribute layout"),
        (
            attribute("activations", ["Sigmoid", "Tanh", "Relu"]),
            "activations must be .*, got",
        ),
        (fixed_lengths, "its sequence lengths are fixed in the model"),
        (other_operator, "the operator Softsign .* jaxrnn has no layer for it"),
    ],
)
def test_an_onnx_model_with_something_else_is_refused(onnx, change, message):
    with pytest.raises(ValueError, match=message):
        convert.from_onnx(edited_onnx(change))


def test_an_onnx_term_for_each_step_is_no_bias(onnx):
    layer = jaxrnn.dense(T)
    model = convert.to_onnx(layer, random_params(0, layer, jnp.float32))
    (b,) = (each for each in model.graph.initializer if len(each.dims) == 1)
    b.dims[:] = [T, 1, 1]
    with pytest.raises(ValueError, match="it is not the bias of a matrix product"):
        convert.from_onnx(model)


def chain(*nodes, rank=3, opset=17, **constants):
    """A model that applies nodes, each ``(operator, more inputs, attributes)``."""
    onnx = need("onnx")
    made, tensor = [], "xs"
    for index, (kind, more, attributes) in enumerate(nodes):
        inputs = [name or tensor for name in more] if "" in more else [tensor, *more]
        tensor = f"t{index}"
        made.append(onnx.helper.make_node(kind, inputs, [tensor], **attributes))
    float_type = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        made,
        "chain",
        [onnx.helper.make_tensor_value_info("xs", float_type, [None] * rank)],
        [onnx.helper.make_empty_tensor_value_info(tensor)],
        [onnx.numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    versions = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=versions, ir_version=7)


W = np.ones((T, T), np.float32)
MATMUL = ("MatMul", ["w"], {})


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        (
            [MATMUL, ("Transpose", [], {"perm": [0, 2, 1]}), MATMUL],
            {},
            "the axes before it are first, features, second",
        ),
        ([MATMUL, ("Cast", [], {"to": 6})], {}, "numbers must not be cast"),
        ([("Where", ["c", "", "w"], {})], {"c": np.array(False)}, "Where 't|Where ''"),
        (
            [MATMUL, ("Softmax", [], {})],
            {"opset": 11},
            "it does not follow a dense layer",
        ),
        ([MATMUL, ("Reshape", ["s"], {})], {"s": np.array([-1])}, "does not join"),
        ([MATMUL, ("Add", ["b"], {})], {"b": W[:, :1, None]}, "it is not the bias"),
        ([MATMUL], {"rank": 4}, "its input must have two or three axes, got 4"),
        ([("MatMul", ["w", ""], {})], {}, "is not a constant"),
    ],
)
def test_an_onnx_graph_of_another_form_is_refused(onnx, nodes, options, message):
    model = chain(*nodes, w=W, **options)
    with pytest.raises(ValueError, match=f"^cannot convert .*({message})"):
        convert.from_onnx(model)


def test_what_is_no_onnx_model_is_named(onnx):
    with pytest.raises(TypeError, match=r"must be a path, bytes, or an onnx.Model"):
        convert.from_onnx(3)


# What cannot be exact


def init(layer, input_size=I):
    return layer.init(jax.random.key(0), input_size)


L = jaxrnn.layer
LSTM, GRU = jaxrnn.lstm(H), jaxrnn.gru(H)
REFUSED = [
    ("to_torch", L(jaxrnn.gru(H, reset_after=False)), "after the recurrent product"),
    ("to_torch", L(jaxrnn.lstm(H, cell_clip=1.0)), "does not clip the cell state"),
    ("to_torch", L(jaxrnn.peephole_lstm(H)), "torch has no such cell"),
    ("to_torch", L(jaxrnn.elman(H, activation=jnp.sin)), "tanh and ReLU alone"),
    ("to_torch", L(LSTM, reverse=True), "only both directions together"),
    ("to_torch", jaxrnn.bidirectional(LSTM, GRU), "one cell for both"),
    ("to_torch", jaxrnn.bidirectional(LSTM, LSTM, merge=jnp.add), "concatenates both"),
    ("to_torch", L(jaxrnn.zoneout(LSTM, 0.1)), "torch has no such cell"),
    ("to_torch", jaxrnn.dense(2, activation=jnp.tanh), "torch.nn.Linear has none"),
    ("to_torch", jaxrnn.residual(L(jaxrnn.lstm(I))), "only layers of a cell"),
    ("to_haiku", L(GRU), "before the recurrent product"),
    ("to_haiku", L(jaxrnn.elman(H)), "ReLU alone"),
    ("to_haiku", jaxrnn.bidirectional(LSTM, LSTM), "Haiku has none"),
    ("to_haiku", jaxrnn.layer_norm(I, epsilon=0.1), "it is not in Haiku's parameters"),
]


@pytest.mark.parametrize(("function", "layer", "message"), REFUSED)
def test_what_cannot_be_exact_is_refused(function, layer, message):
    with pytest.raises(ValueError, match=f"^cannot convert .*{message}"):
        getattr(convert, function)(layer, init(layer))


def with_bias(layer):
    return random_params(0, layer, jnp.float32)


REFUSED_BY_THEM = [
    ("keras", "to_keras", L(LSTM, reverse=True), "in reversed order"),
    ("keras", "to_keras", L(jaxrnn.mgu(H)), "Keras has no such cell"),
    ("keras", "to_keras", jaxrnn.dense(2, activation=jax.nn.gelu), "that is the same"),
    ("keras", "to_keras", L(jaxrnn.elman(H, activation=jax.nn.leaky_relu)), "the same"),
    ("flax", "to_flax", L(jaxrnn.mgu(H)), "Flax has no such cell"),
    ("flax", "to_nnx", L(GRU), "nnx.GRUCell has none there"),
    ("equinox", "to_equinox", L(jaxrnn.elman(H)), "Equinox has no such cell"),
    ("equinox", "to_equinox", L(LSTM, reverse=True), "jax.lax.scan"),
    ("onnx", "to_onnx", L(jaxrnn.janet(H)), "ONNX has no such cell"),
    ("onnx", "to_onnx", L(jaxrnn.elman(H, activation=jnp.sin)), "the operator RNN has"),
]


@pytest.mark.parametrize(("package", "function", "layer", "message"), REFUSED_BY_THEM)
def test_what_a_framework_cannot_do_is_refused(package, function, layer, message):
    need(package)
    with pytest.raises(ValueError, match=f"^cannot convert .*{message}"):
        getattr(convert, function)(layer, with_bias(layer))


def refused_modules():
    return [
        ("torch", lambda torch: torch.nn.LayerNorm((2, 3)), "the last axis alone"),
        ("torch", lambda torch: torch.nn.Embedding(3, 2, max_norm=1.0), "the norm of"),
        ("torch", lambda torch: torch.nn.Dropout(0.5), "no layer whose inputs"),
        ("keras", keras_layer("LSTM", activation="relu"), "activation must be tanh"),
        ("keras", keras_layer("GRU", go_backwards=True), "in reversed order"),
        ("keras", keras_layer("SimpleRNN", activation="mish"), "no activation 'mish'"),
        ("keras", keras_layer("Dense", activation="gelu"), "no activation 'gelu'"),
        ("keras", keras_layer("SimpleRNN", activation="leaky_relu"), "'leaky_relu'"),
        ("keras", keras_layer("Dense", activation=relu), "is not that of Keras"),
        ("keras", keras_layer("LSTM", activation=tanh), "activation must be tanh"),
        ("keras", keras_norm, "the last axis alone"),
        ("keras", keras_layer("ConvLSTM1D", 3, space=(4,)), "jaxrnn pads images"),
        (
            "keras",
            keras_layer("ConvLSTM1D", 2, padding="same", space=(4,)),
            "kernels of an even size",
        ),
        (
            "keras",
            keras_layer("ConvLSTM1D", 3, padding="same", strides=2, space=(4,)),
            "no strides",
        ),
        ("flax.nnx", nnx_norm, "the last axis alone"),
        ("flax.linen", linen("MGUCell"), "its gate keeps the old state"),
        ("flax.linen", linen("LSTMCell", gate_fn=jnp.tanh), "gate_fn must be sigmoid"),
        ("flax.linen", linen("SimpleCell", residual=True), "no residual connection"),
        ("flax.linen", linen("GRUCell", reverse=True), "outputs are in reversed order"),
    ]


def relu(x):
    return 2 * x


def tanh(x):
    return x


def keras_norm(keras):
    layer = keras.layers.LayerNormalization(axis=1)
    layer.build((B, T, I))
    return layer


def nnx_norm(nnx):
    return nnx.LayerNorm(I, reduction_axes=(1, 2), rngs=nnx.Rngs(0))


def keras_layer(name, *arguments, space=(), **options):
    def make(keras):
        layer = getattr(keras.layers, name)(H, *arguments, **options)
        layer.build((None, None, *space, I))
        return layer

    return make


def linen(name, reverse=False, **options):
    def make(nn):
        module = nn.RNN(getattr(nn, name)(H, **options), reverse=reverse)
        xs = jnp.ones((B, T, I), jnp.float32)
        return module, module.init(jax.random.key(0), xs)

    return make


@pytest.mark.parametrize(("package", "make", "message"), refused_modules())
@pytest.mark.usefixtures("standard_promotion")
def test_a_module_that_cannot_be_exact_is_refused(package, make, message):
    made = make(need(package))
    module = made if isinstance(made, tuple) else (made,)
    name = {"flax.linen": "flax", "flax.nnx": "nnx"}.get(package, package)
    with pytest.raises(ValueError, match=f"^cannot convert (.|\n)*{message}"):
        getattr(convert, f"from_{name}")(*module)


def test_a_dtype_of_computation_is_left_out_with_a_note():
    nn = need("flax.linen")
    xs = jnp.ones((B, T, I), jnp.float32)
    variables = nn.RNN(nn.GRUCell(H)).init(jax.random.key(0), xs)
    module = nn.RNN(nn.GRUCell(H, dtype=jnp.bfloat16))
    with pytest.warns(UserWarning, match="dtype bfloat16 in which GRUCell computes"):
        convert.from_flax(module, variables)
    other = nn.RNN(nn.GRUCell(H + 1, param_dtype=jnp.float32))
    with pytest.raises(ValueError, match=f"with {H + 1} features, got {H}"):
        convert.from_flax(other, variables)
    with pytest.raises(TypeError, match=r"must be a mapping .*, got NoneType"):
        convert.from_flax(other, None)


def test_subclasses_are_refused():
    torch = need("torch")

    class Mine(torch.nn.LSTM):
        pass

    with pytest.raises(TypeError, match=r"and no subclass, got .*Mine"):
        convert.from_torch(Mine(I, H))


def test_what_is_not_ours_is_refused():
    params = init(L(LSTM))
    plain = L(LSTM)._replace(spec=None)
    with pytest.raises(ValueError, match="was not made by factories of jaxrnn"):
        convert.to_torch(plain, params)
    with pytest.raises(TypeError, match="layer must be a Layer"):
        convert.to_torch(LSTM, params)
    with pytest.raises(TypeError, match="of type LSTMParams, got GRUParams"):
        convert.to_torch(L(LSTM), init(L(GRU)))
    with pytest.raises(ValueError, match="must have shape"):
        convert.to_torch(L(jaxrnn.lstm(H + 1)), params)
    with pytest.raises(ValueError, match="bias must be True for lstm with biases"):
        convert.to_torch(L(LSTM), params, bias=False)


def test_a_framework_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="needs the package torch: pip install torch"):
        convert.from_torch(types.SimpleNamespace())


def test_the_import_imports_no_framework():
    code = (
        "import sys, jaxrnn.convert; print({'torch', 'keras', 'flax'} & {*sys.modules})"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
