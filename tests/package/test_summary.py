"""The table of a model."""

import jax
import jax.numpy as jnp
import pytest
from all_models import MODELS
from cases import I
from layer_cases import VOCAB

import jaxrnn
from jaxrnn import seq2seq

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", MODELS)
def test_a_summary_counts_what_init_draws(name):
    model, tokens = MODELS[name]
    size = VOCAB if tokens else I
    whole = jaxrnn.summary(model, size, jnp.float32).rows[0]
    params = jax.eval_shape(lambda key: model.init(key, size, jnp.float32), KEY)
    state = jax.eval_shape(lambda p: model.initial_state(p), params)
    assert whole.num_params == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert whole.num_bytes == 4 * whole.num_params
    assert whole.state_size == sum(leaf.size for leaf in jax.tree.leaves(state))
    assert (whole.input_size, whole.output_size) == (size, model.output_size)


def test_layers_of_layers_have_rows_of_their_own():
    inner = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(4)), jaxrnn.dense(3))
    model = jaxrnn.stack(
        jaxrnn.embedding(9, 4),
        jaxrnn.residual(jaxrnn.layer(jaxrnn.zoneout(jaxrnn.lstm(4), 0.1))),
        jaxrnn.dropout(inner, 0.3),
    )
    rows = jaxrnn.summary(model, 9).rows
    assert [(row.name, row.depth, row.input_size, row.output_size) for row in rows] == [
        ("stack(...)", 0, 9, 3),
        ("embedding(9, 4)", 1, 9, 4),
        ("residual(layer(zoneout(lstm(4), 0.1)))", 1, 4, 4),
        ("dropout(stack(...), rate=0.3)", 1, 4, 3),
        ("layer(gru(4))", 2, 4, 4),
        ("dense(3)", 2, 4, 3),
    ]
    assert rows[0].num_params == sum(r.num_params for r in rows if r.depth == 1)
    assert rows[3].num_params == sum(r.num_params for r in rows if r.depth == 2)


def test_an_encoder_decoder_has_two_sizes():
    model = seq2seq.encoder_decoder(
        jaxrnn.layer(jaxrnn.gru(5)),
        jaxrnn.lstm(4),
        inputs=jaxrnn.embedding(7, 3),
        readout=jaxrnn.dense(7),
    )
    table = jaxrnn.summary(model, (6, 7))
    assert table.rows[0].name == "seq2seq.encoder_decoder(...)"
    assert [row.name for row in table.rows[1:]] == [
        "layer(gru(5))",
        "lstm(4)",
        "embedding(7, 3)",
        "dense(7)",
    ]
    assert str(table).endswith(f"{table.rows[0].num_bytes:,} bytes")


def test_a_cell_made_by_hand_has_one_row():
    cell = jaxrnn.gru(5)
    (row,) = jaxrnn.summary(cell._replace(output_size=5), 2).rows
    assert (row.name, row.num_params) == ("Cell", 2 * 15 + 5 * 15 + 2 * 15)
