"""Weights of tf.keras 2's CuDNNLSTM and CuDNNGRU in the layout of LSTM and GRU.

These layers keep two biases per gate, the input's and the state's, in one row, and every gate's kernels
transposed. So the size of the bias tells what a file holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kcompile.keras.tracing.variable import Variable

Shape = tuple[int, ...]
_NAMES = ["kernel", "recurrent_kernel", "bias"]


def cudnn_shapes(variables: Sequence[Variable], shapes: Sequence[Shape]) -> dict[int, Shape]:
    """Return position -> shape of the biases that lie as CuDNN layers keep them."""
    found = {}
    for n in range(2, len(variables)):
        part, (kernel, recurrent, bias) = variables[n - 2 : n + 1], shapes[n - 2 : n + 1]
        if [v.name for v in part] != _NAMES or len(recurrent) != 2 or not recurrent[0]:
            continue
        gates, wide = recurrent[1] // recurrent[0], recurrent[1]
        own = {4: (wide,), 3: (2, wide)}.get(gates)
        fits = (kernel, recurrent) == tuple(tuple(v.shape) for v in part[:2])
        if fits and tuple(part[2].shape) == own and bias == (2 * wide,):
            found[n] = bias
    return found


def from_cudnn(arrays: Sequence[np.ndarray], biases: Sequence[int]) -> list[np.ndarray]:
    """Return the arrays with the kernels and biases converted that end at the positions `biases`."""
    found = list(arrays)
    for n in biases:
        found[n - 2 : n + 1] = _converted(*found[n - 2 : n + 1])
    return found


def _converted(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    gates = recurrent.shape[1] // recurrent.shape[0]
    both = bias.reshape(2, -1)
    blocks = [np.split(k, gates, axis=1) for k in (kernel, recurrent)]
    kernels = [np.concatenate([b.T.reshape(b.shape, order="F") for b in part], axis=1) for part in blocks]
    return [*kernels, both if gates == 3 else both.sum(0)]
