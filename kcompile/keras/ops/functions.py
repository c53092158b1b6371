"""Functions of functions: keras.ops.jvp and vectorize, keras.remat."""

from __future__ import annotations

import functools
import re

import numpy as np

from kcompile import autodiff
from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.graph import Value
from kcompile.keras.ops.core import vectorized_map
from kcompile.keras.ops.function import broadcast, dtype_key, public, rank, tensor
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import current_graph, current_scope, unwrap
from kcompile.keras.tracing.tensor import as_tensor
from kcompile.keras.tracing.trace import trace
from kcompile.runtime.interpreted import InterpretedProgram


@public
def jvp(fun, primals, tangents, has_aux=False):
    """Return (fun(*primals), its derivative in the direction of `tangents`), and what else `fun` returns if `has_aux`.

    The derivative is the gradient, by u, of the gradient of u · fun: two reverse sweeps.
    """
    points, ways = ([tensor(v) for v in tree.flatten(list(s))] for s in (primals, tangents))
    if len(points) != len(ways):
        raise ArgumentError(f"jvp: {len(points)} primals and {len(ways)} tangents")

    def both(points, ways):
        graph = current_graph()
        points = [p if isinstance(p, Value) else graph.constant(p) for p in points]
        given = tree.pack_sequence_as(list(primals), points)
        result = fun(*given)
        result, aux = result if has_aux else (result, None)
        results = [unwrap(r) for r in tree.flatten(result)]
        moved = [_moved(r, points, ways) if isinstance(r, Value) else np.zeros_like(r) for r in results]
        found = result, tree.pack_sequence_as(result, moved)
        return (*found, aux) if has_aux else found

    if current_scope() is not None:
        return both(points, ways)
    arrays = {f"{name}{i}": np.asarray(v) for name, many in (("p", points), ("t", ways)) for i, v in enumerate(many)}
    traced = trace(
        lambda values: both(*([values[f"{name}{i}"] for i in range(len(points))] for name in "pt")),
        {k: (a.shape, a.dtype) for k, a in arrays.items()},
    )
    found = traced.pack(InterpretedProgram(traced.graph).run(arrays, traced.arrays()))
    return tree.map_structure(lambda v: as_tensor(np.asarray(v)), found)


def _moved(result: Value, points, ways):
    weight = prim.stop_gradient(result)  # stands for u: nothing else reads it
    slopes = autodiff.pullback([result], [weight], points)
    total = None
    for slope, way in zip(slopes, ways):
        if slope is not None:
            term = prim.reduce_sum(prim.mul(slope, way), axes=tuple(range(rank(slope))), keepdims=False)
            total = term if total is None else prim.add(total, term)
    one = None if total is None else broadcast(tensor(1.0, dtype_key(total)), ())
    found = None if total is None else autodiff.pullback([total], [current_graph().constant(one)], [weight])[0]
    return broadcast(tensor(0.0, dtype_key(result)), result.shape) if found is None else found


def vectorize(pyfunc, *, excluded=None, signature=None):
    """Return a function that applies `pyfunc` to every element of its arguments, which broadcast against each other.

    Args:
        excluded: numbers of arguments that are passed on as they are.
        signature: such as "(m,n),(n)->(m)": `pyfunc` takes and returns tensors of these axes, not elements.
    """
    if not callable(pyfunc):
        raise ArgumentError(f"Expected argument `pyfunc` to be a callable. Received: pyfunc={pyfunc}")
    left_out = frozenset(excluded or ())
    inner = None if signature is None else _axes(signature)

    @functools.wraps(pyfunc)
    def call(*args):
        places = [n for n in range(len(args)) if n not in left_out]
        given = [tensor(args[n]) for n in places]
        ranks = inner if inner is not None else [0] * len(given)
        if len(ranks) != len(given):
            raise ArgumentError(f"vectorize: the signature {signature!r} is not that of {len(given)} arguments")
        outer = [tuple(v.shape[: rank(v) - r]) for v, r in zip(given, ranks)]
        shape = np.broadcast_shapes(*outer) if outer else ()

        def apply(rows):
            rest = iter(rows)
            return pyfunc(*(a if n in left_out else next(rest) for n, a in enumerate(args)))

        if not shape:
            return apply([as_tensor(v) if isinstance(v, np.ndarray) else v for v in given])
        count = int(np.prod(shape))
        rows = []
        for value, r in zip(given, ranks):
            core = tuple(value.shape[rank(value) - r :])
            wide = prim.reshape(value, shape=(*(1,) * (len(shape) - rank(value) + r), *value.shape))
            rows.append(prim.reshape(broadcast(wide, (*shape, *core)), shape=(count, *core)))
        found = vectorized_map(apply, rows)
        return tree.map_structure(lambda v: _shaped(v, shape), found)

    return call


def _shaped(rows, shape):
    rows = tensor(rows)
    found = prim.reshape(rows, shape=(*shape, *rows.shape[1:]))
    return as_tensor(found) if isinstance(found, np.ndarray) else found


def _axes(signature: str) -> list[int]:
    """How many axes each argument of a signature has."""
    if not re.fullmatch(r"\s*(\([\w\s,]*\)\s*,?\s*)+->\s*(\([\w\s,]*\)\s*,?\s*)+", signature):
        raise ShapeError(f"vectorize: not a signature: {signature!r}")
    return [len(re.findall(r"\w+", group)) for group in re.findall(r"\(([^)]*)\)", signature.split("->")[0])]


def remat(f):
    """Return `f`: what a gradient computes again rather than keeps is decided by the memory planner for all."""
    return f
