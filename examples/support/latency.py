"""Steps of a model, by several ways to run it, and their times, for streaming.py.

A runner is a pair ``(state, step)``: the state before the first step, for one stream,
and a function ``step(state, x)`` that returns the state after it and an output.
"""

import importlib
import time

import jax
import numpy as np

from jaxrnn import convert

WARM_UP = 20  # steps before the clock starts


def of_layer(model, params):
    """Step a layer of this process. The state's memory is used again."""
    step = jax.jit(model.step, donate_argnums=1)
    return model.initial_state(params, (1,)), lambda state, x: step(params, state, x)


def of_artefact(artefact):
    """Step an artefact; without jax.jit its checks would run in Python each time."""
    return artefact.initial_state(1), jax.jit(artefact.step, donate_argnums=0)


def of_onnxruntime(model, params):
    """Step an ONNX graph of a stack that begins with an LSTM."""
    onnxruntime = importlib.import_module("onnxruntime")
    graph = convert.to_onnx(model, params, states=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait busily, in the way of the others
    runtime = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    names = [each.name for each in runtime.get_inputs()]

    def step(state, x):
        ys, *state = runtime.run(None, dict(zip(names, [x[None], *state], strict=True)))
        return state, ys[0]

    zeros = np.zeros((1, 1, params[0].w_h.shape[0]), np.float32)
    return [zeros, zeros], step


def run_stream(runners, stream):
    """Feed every input to every runner, in random order, so that they share the load.

    Args:
        runners: ``{name: (state, step)}``.
        stream: inputs ``(T, 1, I)``.

    Returns:
        ``(outputs, seconds)``: ``{name: (T, 1, O)}``, and ``{name: (T,)}``, the times
        from an input in NumPy to an output in NumPy.
    """
    for state, step in runners.values():  # compiles
        state = jax.tree.map(np.copy, state)
        for x in stream[:WARM_UP]:
            state, y = step(state, x)
            np.asarray(y)
    states = {name: state for name, (state, _) in runners.items()}
    outputs, seconds = ({name: [] for name in runners} for _ in range(2))
    rng = np.random.default_rng(0)
    for x in stream:
        for name in rng.permutation(list(runners)).tolist():
            step = runners[name][1]
            start = time.perf_counter()
            states[name], y = step(states[name], x)
            y = np.asarray(y)  # waits for the result
            seconds[name].append(time.perf_counter() - start)
            outputs[name].append(y)
    return tuple(
        {k: np.array(v) for k, v in each.items()} for each in (outputs, seconds)
    )
