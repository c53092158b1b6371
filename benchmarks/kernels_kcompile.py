"""The cases of `kernel_cases.py` in keras.ops, traced and compiled. Batch sizes are known, as in a fixed model."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.kernel_cases import DATA, FORWARD, INFERENCE, Case, arrays, image_shapes, shapes
from benchmarks.kernel_chain import chain
from kcompile import autodiff, pipeline
from kcompile.codegen.operations import weight
from kcompile.codegen.program import runs
from kcompile.forms.records import Loops
from kcompile.forms.work import work
from kcompile.keras import ops
from kcompile.keras.tracing import Variable, trace
from kcompile.keras.tracing.scope import unwrap


def prepare(case: Case) -> Callable[[], dict[str, np.ndarray]]:
    """Compile a case; the function runs it once."""
    traced, given = _traced(case)
    program = pipeline.compile(traced.graph)
    bound = program.bind(traced.arrays())
    return lambda: bound.run(given)


def operations(case: Case) -> dict[str, int]:
    """Scalar operations of a case in vector instructions, and those of them that multiply, without its products."""
    built = pipeline.build(_traced(case)[0].graph)
    weigh = functools.partial(weight, target=built.target)
    forms = [built.forms[run.kernel.name] for run in runs(built.program.steps)]
    found = [work(form, {}, weigh) for form in forms if isinstance(form, Loops)]
    return {"operations": sum(w.operations for w in found), "multiplies": sum(w.multiplies for w in found)}


def _traced(case: Case):
    given = {**arrays(case), **_unread(case)}
    known = {}
    if case.kind.endswith(INFERENCE):
        known["w"] = Variable(given.pop("w"), name="w")
    run = _adam(case) if case.kind == "adam" else lambda v: {"y": _result(case, {**v, **known})}
    specs = {n: (a.shape, a.dtype.name) for n, a in given.items()}
    return trace(run, specs, name="case"), given


def _unread(case: Case) -> dict[str, np.ndarray]:
    """The operand a gradient is taken by that is linear in it: the gradient does not read it."""
    if case.kind == "average pool gradient":
        return {"x": np.zeros(case.sizes, "float32")}
    if not case.kind.startswith(("conv", "depthwise")):
        return {}
    return {n: np.zeros(s, "float32") for n, s in zip("xw", image_shapes(case)) if n not in shapes(case)}


def _result(case: Case, v: dict):
    kind, s = case.kind, case.sizes
    if kind.startswith("gemm"):
        a = ops.transpose(v["a"]) if "a'" in kind else v["a"]
        return ops.matmul(a, ops.transpose(v["b"]) if "b'" in kind else v["b"])
    if kind.startswith(("conv", "depthwise")):
        return _convolution(case, v)
    if kind == "chain":
        return chain(ops, s[0], v["x"], v["y"])
    if kind.endswith(" gradient"):
        forward = Case(case.group, kind.removesuffix(" gradient"), s)
        if kind.startswith("cross-entropy"):
            return _gradient(_result(forward, v), 1.0, v["x"])
        return _gradient(_result(forward, v), v["dy"], v["x"])
    if kind == "softmax":
        return ops.softmax(v["x"], axis=-1)
    if kind == "cross-entropy":
        return ops.sparse_categorical_crossentropy(v["labels"], v["x"], from_logits=True)
    if kind == "batch norm":
        mean, variance = ops.moments(v["x"], axes=[0, 1, 2])
        return ops.batch_normalization(v["x"], mean, variance, -1, v["beta"], v["gamma"], 1e-5)
    if kind == "layer norm":
        mean, variance = ops.moments(v["x"], axes=[-1], keepdims=True)
        return (v["x"] - mean) * ops.rsqrt(variance + 1e-5) * v["gamma"] + v["beta"]
    if kind == "batch norm statistics":
        return ops.stack(ops.moments(v["x"], axes=[0, 1, 2]))
    pool = ops.max_pool if kind == "max pool" else ops.average_pool
    return pool(v["x"], 2, 2, "valid", "channels_last")


def _gradient(y, dy, wrt):
    return autodiff.grad(unwrap(ops.sum(y * dy)), [unwrap(wrt)])[0]


def _convolution(case: Case, v: dict):
    kind, _, direction = case.kind.partition(" ")
    op, stride = ops.conv if kind == "conv" else ops.depthwise_conv, case.sizes[-1]
    if direction in (FORWARD, INFERENCE):
        return op(v["x"], v["w"], stride, "same", "channels_last")
    return _gradient(op(v["x"], v["w"], stride, "same", "channels_last"), v["dy"], v["x" if direction == DATA else "w"])


def _adam(case: Case):
    p, m, u = (Variable(np.zeros(case.sizes, "float32"), name=n) for n in ("p", "m", "u"))

    def run(v: dict) -> dict:
        m.assign(0.9 * m.value + 0.1 * v["g"])
        u.assign(0.999 * u.value + 0.001 * ops.square(v["g"]))
        p.assign(p.value - 0.001 * m.value / (ops.sqrt(u.value) + 1e-7))
        return {}

    return run
