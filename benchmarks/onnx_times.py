"""Time ONNX models of jaxrnn beside PyTorch's exports of the same weights.

    python benchmarks/onnx_times.py

Both run in onnxruntime, in turns. Needs the extra ``compare``.
"""

import io
import statistics
import time
import warnings

import numpy as np
import onnxruntime
import torch

from jaxrnn import convert

SHAPE, UNITS = (100, 32, 64), 128
ROUNDS = 20


def torch_export(module, xs):
    """Return the ONNX model that PyTorch writes, as bytes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.tensor(xs),), file, dynamo=False)
    return file.getvalue()


def seconds(session, xs):
    """Time one run that returns the outputs of all steps."""
    (inputs, *_), (outputs, *_) = session.get_inputs(), session.get_outputs()
    start = time.perf_counter()
    session.run([outputs.name], {inputs.name: xs})
    return time.perf_counter() - start


def main():
    """Print the ratio of the times for each kind of module."""
    xs = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    for kind in ("LSTM", "GRU", "RNN"):
        for num_layers, both in ((1, False), (2, True)):
            options = {"num_layers": num_layers, "bidirectional": both}
            module = getattr(torch.nn, kind)(SHAPE[-1], UNITS, **options).eval()
            ours = convert.to_onnx(*convert.from_torch(module))
            models = (ours.SerializeToString(), torch_export(module, xs))
            sessions = [onnxruntime.InferenceSession(model) for model in models]
            times = [[seconds(s, xs) for s in sessions] for _ in range(1 + ROUNDS)]
            own, theirs = map(statistics.median, zip(*times[1:], strict=True))
            print(f"{kind} {options}: {own / theirs:.2f} of the time of torch's export")


if __name__ == "__main__":
    main()
