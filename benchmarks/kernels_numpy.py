"""The cases of `kernel_cases.py` that NumPy has functions for, written as one would."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.kernel_cases import Case, arrays
from benchmarks.kernel_chain import chain


def prepare(case: Case) -> Callable[[], object] | None:
    """A function that runs a case once; None where NumPy has nothing of its own."""
    v, kind = arrays(case), case.kind
    if kind.startswith("gemm"):
        a, b = v["a"].T if "a'" in kind else v["a"], v["b"].T if "b'" in kind else v["b"]
        return lambda: a @ b
    if kind == "chain":
        return lambda: chain(np, case.sizes[0], v["x"], v["y"])
    made = {
        "softmax": _softmax,
        "softmax gradient": _softmax_gradient,
        "layer norm": _layer_norm,
        "layer norm gradient": _layer_norm_gradient,
        "cross-entropy": _cross_entropy,
        "cross-entropy gradient": _cross_entropy_gradient,
        "batch norm": _batch_norm,
        "batch norm statistics": lambda x: np.stack([x.mean((0, 1, 2)), x.var((0, 1, 2))]),
    }.get(kind)
    if kind == "adam":
        made = _adam(case.sizes)
    return None if made is None else lambda: made(**v)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax_gradient(x, dy):
    y = _softmax(x)
    return y * (dy - (y * dy).sum(-1, keepdims=True))


def _cross_entropy(x, labels):
    x = x - x.max(-1, keepdims=True)
    return np.log(np.exp(x).sum(-1)) - x[np.arange(len(x)), labels]


def _cross_entropy_gradient(x, labels):
    y = _softmax(x)
    y[np.arange(len(x)), labels] -= 1
    return y


def _batch_norm(x, gamma, beta):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * (gamma / np.sqrt(variance + np.float32(1e-5))) + beta


def _normalised(x):
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-5))
    return centred * scale, scale


def _layer_norm(x, gamma, beta):
    return _normalised(x)[0] * gamma + beta


def _layer_norm_gradient(x, gamma, beta, dy):
    y, scale = _normalised(x)
    d = dy * gamma
    return scale * (d - d.mean(-1, keepdims=True) - y * (d * y).mean(-1, keepdims=True))


def _adam(shape) -> Callable:
    p, m, u = (np.zeros(shape, "float32") for _ in range(3))

    def step(g):
        m[...] = 0.9 * m + 0.1 * g
        u[...] = 0.999 * u + 0.001 * g * g
        p[...] -= 0.001 * m / (np.sqrt(u) + 1e-7)

    return step
