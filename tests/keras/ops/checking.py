"""One call per table of cases: every way to compute a public function agrees with real Keras.

check             eager, traced (interpreted), with an open batch, and as a symbolic model operation
check_compiled    all cases of a table in one native program
check_gradient    autodiff against central differences, in float64
"""

from __future__ import annotations

import numpy as np

from kcompile import autodiff, pipeline
from kcompile.ir import interpret
from kcompile.ir.types import Type
from kcompile.ir.types import dtype as ir_dtype
from kcompile.keras import ops
from kcompile.keras.tracing import KerasTensor, trace
from kcompile.keras.tracing.dtypes import is_float
from kcompile.keras.tracing.scope import TraceGraph, TraceScope, enter
from kcompile.runtime.interpreted import InterpretedProgram

LOOSE = {"erfinv", "tan", "prod"}  # steep functions: a unit in the last place of the argument is many of the result


def find(module, name: str):
    """`"image.resize"` of a module."""
    for part in name.split("."):
        module = getattr(module, part)
    return module


def ids(cases) -> list[str]:
    return [f"{n}-{case[0]}" for n, case in enumerate(cases)]


def leaves(result) -> list:
    if isinstance(result, (list, tuple)):
        return [leaf for part in result for leaf in leaves(part)]
    return [result]


def compare(name: str, found, expected, rtol: float = 1e-5, atol: float = 2e-5) -> None:
    """Same structure, dtypes, shapes and nearly the same numbers."""
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        other = np.asarray(other)
        assert one.dtype == other.dtype, f"{name}: {one.dtype} instead of {other.dtype}"
        assert tuple(one.shape) == other.shape, f"{name}: {one.shape} instead of {other.shape}"
        np.testing.assert_allclose(np.asarray(one), other, rtol=2e-4 if name in LOOSE else rtol, atol=atol)


def arrays_of(args) -> dict[str, np.ndarray]:
    """The arguments that a trace takes as inputs: arrays, also those in a list or tuple of arrays."""
    found = {}
    for n, a in enumerate(args):
        parts = a if isinstance(a, (list, tuple)) and a and isinstance(a[0], np.ndarray) else [a]
        found.update({f"x{n}_{i}": p for i, p in enumerate(parts) if isinstance(p, np.ndarray) and p.ndim})
    return found


def with_values(args, values):
    """The arguments with arrays replaced by `values` of their names."""
    result = []
    for n, a in enumerate(args):
        if isinstance(a, (list, tuple)) and a and isinstance(a[0], np.ndarray):
            result.append(type(a)(values.get(f"x{n}_{i}", p) for i, p in enumerate(a)))
        else:
            result.append(values.get(f"x{n}_0", a))
    return result


def check(real_keras, name, args, kwargs, *, traced=True, open_batch=False, rtol=1e-5, atol=2e-5) -> None:
    """Compare one call in every mode with real Keras."""
    expected = find(real_keras.ops, name)(*args, **kwargs)
    function = find(ops, name)
    compare(name, function(*args, **kwargs), expected, rtol, atol)
    arrays = arrays_of(args)
    if not traced or not arrays:
        return
    symbolic = function(
        *with_values(args, {k: KerasTensor(a.shape, str(a.dtype)) for k, a in arrays.items()}), **kwargs
    )
    for one, other in zip(leaves(symbolic), leaves(expected), strict=True):
        assert tuple(one.shape) == tuple(other.shape) and str(one.dtype) == str(np.asarray(other).dtype), name
    for batch in (False, True) if open_batch else (False,):
        specs = {n: ((None, *a.shape[1:]) if batch else a.shape, a.dtype) for n, a in arrays.items()}
        program = trace(lambda values: function(*with_values(args, values), **kwargs), specs)
        found = program.pack(InterpretedProgram(program.graph).run(arrays, program.arrays()))
        compare(name, found, expected, rtol, atol)


def check_compiled(real_keras, cases, *, rtol=1e-5, atol=2e-5) -> None:
    """Compare native code with real Keras: all cases as one program."""
    inputs = {f"c{i}_{k}": a for i, (_, args, _) in enumerate(cases) for k, a in arrays_of(args).items()}

    def program(values):
        results = {}
        for i, (name, args, kwargs) in enumerate(cases):
            mine = {k: values[f"c{i}_{k}"] for k in arrays_of(args)}
            for j, leaf in enumerate(leaves(find(ops, name)(*with_values(args, mine), **kwargs))):
                results[f"r{i}_{j}"] = leaf
        return results

    traced = trace(program, {k: (a.shape, a.dtype) for k, a in inputs.items()})
    found = pipeline.compile(traced.graph).run({k: np.ascontiguousarray(a) for k, a in inputs.items()}, traced.arrays())
    for i, (name, args, kwargs) in enumerate(cases):
        expected = leaves(find(real_keras.ops, name)(*args, **kwargs))
        for j, other in enumerate(expected):
            compare(f"{i}-{name}", found[f"r{i}_{j}"], other, rtol, atol)


def check_gradient(name, args, kwargs, *, step=1e-6, rtol=2e-5, atol=2e-6) -> None:
    """Compare the gradient of a weighted sum of all float results with central differences, in float64."""
    wide = [
        type(a)(_wide(p) for p in a)
        if isinstance(a, (list, tuple)) and a and isinstance(a[0], np.ndarray)
        else _wide(a)
        for a in args
    ]
    arrays = arrays_of(wide)
    real = [k for k, a in arrays.items() if a.dtype.kind == "f"]
    function = find(ops, name)
    rng = np.random.default_rng(5)
    weights: list[np.ndarray] = []

    def loss(values, multiply, add):
        parts = [r for r in leaves(function(*with_values(wide, values), **kwargs)) if is_float(r.dtype)]
        if not weights:
            weights.extend(rng.uniform(0.5, 1.5, tuple(int(n) for n in p.shape)) for p in parts)
        total = None
        for p, w in zip(parts, weights, strict=True):
            term = ops.sum(multiply(p, w))
            total = term if total is None else add(total, term)
        return total

    float(np.asarray(loss({}, ops.multiply, ops.add)))
    graph = TraceGraph("gradient")
    inputs = {k: graph.input(k, Type(ir_dtype(a.dtype), a.shape)) for k, a in arrays.items()}
    with enter(TraceScope(graph)):
        value = loss(inputs, ops.multiply, ops.add)
    for k, gradient in zip(real, autodiff.grad(value, [inputs[k] for k in real])):
        graph.output(k, gradient)
    found, _ = interpret.run(graph, arrays)
    for k in real:
        expected = np.zeros_like(arrays[k])
        for place in np.ndindex(expected.shape):
            sides = []
            for sign in (1, -1):
                moved = {**arrays, k: arrays[k].copy()}
                moved[k][place] += sign * step
                sides.append(float(np.asarray(loss(moved, ops.multiply, ops.add))))
            expected[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(found[k], expected, rtol=rtol, atol=atol, err_msg=f"{name}, {k}")


def _wide(a):
    return a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a
