"""Cells that draw noise inside of a step, by name, and the noise that they draw."""

import jax
import numpy as np
from cases import H

import jaxrnn
from jaxrnn import candidate_dropout, recurrent_dropout, zoneout

KEY = jax.random.key(3)
RATE = 0.4
CELLS = {
    "elman": jaxrnn.elman,
    "lstm": jaxrnn.lstm,
    "gru": jaxrnn.gru,
    "gru-before": lambda size: jaxrnn.gru(size, reset_after=False),
}


def both(cell):
    return candidate_dropout(recurrent_dropout(cell, RATE), 0.3)


WRAPPERS = {
    "recurrent": lambda cell: recurrent_dropout(cell, RATE),
    "each step": lambda cell: recurrent_dropout(cell, RATE, variational=False),
    "candidate": lambda cell: candidate_dropout(cell, RATE),
    "both": both,
    "both, other order": lambda c: recurrent_dropout(candidate_dropout(c, 0.3), RATE),
    "zoneout": lambda cell: zoneout(cell, RATE),
    "all": lambda cell: zoneout(both(cell), 0.2),
    "all, other order": lambda cell: both(zoneout(cell, 0.2)),
    "learned": lambda cell: jaxrnn.learned_state(zoneout(both(cell), 0.2)),
}


def wrapped(cell, wrapper):
    if wrapper == "cell zoneout":
        return zoneout(CELLS[cell](H), 0.2, cell_rate=0.5)
    return WRAPPERS[wrapper](CELLS[cell](H))


def draw(cell, params, shape):
    """The noise of a run."""
    drawn = jax.jit(cell.noise.draw, static_argnums=2)(KEY, params, shape)
    return np.asarray(drawn)
