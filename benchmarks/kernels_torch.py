"""The cases of `kernel_cases.py` in PyTorch eager.

Where PyTorch offers several ways (images as NCHW or channels last, Adam fused or not), each is tried when a case is
prepared, and the fastest is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.kernel_cases import DATA, FORWARD, INFERENCE, Case, arrays, image_shapes
from benchmarks.kernel_chain import chain

aten = torch.ops.aten
TRIES = 5


def prepare(case: Case) -> Callable[[], object]:
    """A function that runs a case once, in the fastest of the ways there are."""
    ways = [without_tape(way) for way in _ways(case)]
    return min(ways, key=_seconds) if len(ways) > 1 else ways[0]


def without_tape(run: Callable) -> Callable:
    """The same without recording for gradients."""

    def inner():
        with torch.inference_mode():
            return run()

    return inner


def _seconds(run: Callable) -> float:
    run()
    taken = []
    for _ in range(TRIES):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _ways(case: Case) -> list[Callable]:
    v = {n: torch.from_numpy(a) for n, a in arrays(case).items()}
    kind, s = case.kind, case.sizes
    if kind.startswith("gemm"):
        a, b = v["a"].T if "a'" in kind else v["a"], v["b"].T if "b'" in kind else v["b"]
        return [lambda: a @ b]
    if kind == "chain":
        return [lambda: chain(torch, s[0], v["x"], v["y"])]
    if kind == "adam":
        return [_adam(v["g"], fused) for fused in (False, True)]
    if kind.startswith(("conv", "depthwise")):
        return [_convolution(case, v, layout) for layout in LAYOUTS]
    if "labels" in v:
        v["labels"] = v["labels"].long()
    if kind in _ROWS:
        return [lambda: _ROWS[kind](**v)]
    return [_image(kind, s, v, layout) for layout in LAYOUTS]


# rows -----------------------------------------------------------------------------------------------------


def _softmax_gradient(x, dy):
    return aten._softmax_backward_data(dy, torch.softmax(x, -1), -1, x.dtype)


def _cross_entropy(x, labels):
    return F.cross_entropy(x, labels, reduction="none")


def _cross_entropy_gradient(x, labels):
    y = torch.log_softmax(x, -1)
    d = aten.nll_loss_backward(torch.ones(()), y, labels, None, 2, -100, torch.tensor(float(len(x))))
    return aten._log_softmax_backward_data(d, y, -1, x.dtype)


def _layer_norm_gradient(x, gamma, beta, dy):
    _, mean, scale = aten.native_layer_norm(x, gamma.shape, gamma, beta, 1e-5)
    return aten.native_layer_norm_backward(dy, x, gamma.shape, mean, scale, gamma, beta, [True, False, False])[0]


_ROWS = {
    "softmax": lambda x: torch.softmax(x, -1),
    "softmax gradient": _softmax_gradient,
    "cross-entropy": _cross_entropy,
    "cross-entropy gradient": _cross_entropy_gradient,
    "layer norm": lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta),
    "layer norm gradient": _layer_norm_gradient,
}


# images -----------------------------------------------------------------------------------------------------


def _nchw(array):
    return array.permute(0, 3, 1, 2).contiguous()


def _channels_last(array):
    return array.permute(0, 3, 1, 2)


LAYOUTS = (_nchw, _channels_last)


def _convolution(case: Case, v: dict, layout: Callable) -> Callable:
    kind, _, direction = case.kind.partition(" ")
    x_shape, w_shape, _ = image_shapes(case)
    stride, groups = [case.sizes[-1]] * 2, x_shape[3] if kind == "depthwise" else 1
    pads = [(n - 1) // 2 for n in w_shape[:2]]
    given = {n: layout(a) for n, a in v.items() if n != "w"}
    # filters: [window, window, in, out] -> [out, in, window, window]; depthwise: [.., channels, 1] -> [channels, 1, ..]
    order = (2, 3, 0, 1) if kind == "depthwise" else (3, 2, 0, 1)
    form = torch.channels_last if layout is _channels_last else torch.contiguous_format
    w = v["w"] if "w" in v else torch.zeros(w_shape)
    w = w.permute(order).contiguous(memory_format=form)
    x = given["x"] if "x" in given else layout(torch.zeros(x_shape))
    if direction in (FORWARD, INFERENCE):
        return lambda: F.conv2d(x, w, None, stride, pads, 1, groups)
    wanted = [direction == DATA, direction != DATA, False]
    dy, common = given["dy"], (None, stride, pads, [1, 1], False, [0, 0], groups, wanted)
    return lambda: aten.convolution_backward(dy, x, w, *common)[0 if direction == DATA else 1]


def _batch_norm_gradient(x, gamma, beta, dy):
    _, mean, scale = aten.native_batch_norm(x, gamma, beta, None, None, True, 0.0, 1e-5)
    wanted = [True, False, False]
    return aten.native_batch_norm_backward(dy, x, gamma, None, None, mean, scale, True, 1e-5, wanted)[0]


def _image(kind: str, sizes: tuple, v: dict, layout: Callable) -> Callable:
    given = {n: layout(a) if a.ndim == 4 else a for n, a in v.items()}
    x = given["x"] if "x" in given else layout(torch.zeros(sizes))
    if kind == "batch norm":
        return lambda: F.batch_norm(x, None, None, given["gamma"], given["beta"], training=True, eps=1e-5)
    if kind == "batch norm gradient":
        return lambda: _batch_norm_gradient(x, given["gamma"], given["beta"], given["dy"])
    if kind == "average pool gradient":
        window = ([2, 2], [2, 2], [0, 0], False, True, None)
        return lambda: aten.avg_pool2d_backward(given["dy"], x, *window)
    if kind == "batch norm statistics":
        return lambda: torch.var_mean(x, dim=(0, 2, 3), unbiased=False)
    if kind == "max pool":
        return lambda: F.max_pool2d(x, 2)
    if kind == "average pool":
        return lambda: F.avg_pool2d(x, 2)
    assert kind == "max pool gradient"

    def gradient():
        _, where = aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
        return aten.max_pool2d_with_indices_backward(given["dy"], x, [2, 2], [2, 2], [0, 0], [1, 1], False, where)

    return gradient


def _adam(g, fused: bool) -> Callable:
    p = torch.nn.Parameter(torch.from_numpy(np.zeros(g.shape, "float32")))
    p.grad = g.clone()
    return torch.optim.Adam([p], fused=fused).step
