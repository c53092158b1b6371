"""keras.ops: conversion, casting, shapes, and Python-level control flow."""

from __future__ import annotations

import functools

import numpy as np

from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.keras.ops.elementwise import add, clip, equal, greater_equal, less, logical_not, where
from kcompile.keras.ops.function import cast as _cast
from kcompile.keras.ops.function import public, recorded, tensor
from kcompile.keras.ops.shapes import concatenate, expand_dims, moveaxis, squeeze
from kcompile.keras.tracing import custom, loops, tree
from kcompile.keras.tracing.dtypes import result_type, standardize_dtype
from kcompile.keras.tracing.scope import is_tracing, unwrap
from kcompile.keras.tracing.tensor import KerasTensor, as_tensor, is_tensor

__all__ = [
    "associative_scan",
    "cast",
    "cond",
    "convert_to_numpy",
    "convert_to_tensor",
    "copy",
    "custom_gradient",
    "dtype",
    "fori_loop",
    "is_tensor",
    "map",
    "result_type",
    "saturate_cast",
    "scan",
    "standardize_dtype",
    "switch",
    "vectorized_map",
    "while_loop",
]


@public
def convert_to_tensor(x, dtype=None, sparse=None, ragged=None):
    """Convert numbers, lists and arrays to a tensor.

    Python floats become floatx and Python ints int32; NumPy arrays keep their dtype.
    """
    return tensor(x, dtype)


def convert_to_numpy(x) -> np.ndarray:
    """Return a plain NumPy array.

    Raises: an error that says so, while tracing.
    """
    x = unwrap(x)
    if isinstance(x, (Value, KerasTensor)):
        x.__array__()
    return np.array(tensor(x))


@public
def cast(x, dtype):
    """Convert to another dtype."""
    return _cast(tensor(x), dtype)


@public
def saturate_cast(x, dtype):
    """Convert to another dtype, limiting values to its range."""
    name = standardize_dtype(dtype)
    x = tensor(x)
    if name.startswith(("int", "uint")):
        limits = np.iinfo(name)
        x = tensor(clip(x, limits.min, limits.max))
    return _cast(x, name)


@public
def copy(x):
    """Return x as a tensor of its own."""
    x = tensor(x)
    return np.array(x) if isinstance(x, np.ndarray) else x  # nothing changes a Value, or an eager bfloat16


def dtype(x) -> str:
    """Return the dtype of x by its Keras name."""
    return standardize_dtype(x.dtype) if hasattr(x, "dtype") else standardize_dtype(tensor(x).dtype)


@public
def cond(pred, true_fn, false_fn):
    """Return `true_fn()` or `false_fn()`.

    While tracing, with a predicate known only when the program runs, both are computed and the result is
    selected: they may not assign variables, and their results must have equal shapes and dtypes.
    """
    pred = unwrap(pred)
    if not isinstance(pred, Value):
        return true_fn() if bool(pred) else false_fn()
    where_ = "a branch of keras.ops.cond"
    yes, no = custom.branch(true_fn, pred, where_), custom.branch(false_fn, logical_not(pred), where_)
    return tree.map_structure(lambda a, b: where(pred, a, b), yes, no)


@public
def while_loop(cond, body, loop_vars, maximum_iterations=None):
    """Repeat `body` while `cond` holds, at most `maximum_iterations` times.

    While tracing, one step is recorded; how often it runs is known when the program runs. So the loop has a
    gradient only with `maximum_iterations`, and keeps for it what it needs of so many steps.
    """
    single = not isinstance(loop_vars, (tuple, list))
    state = (loop_vars,) if single else tuple(loop_vars)

    def step(state):
        state = body(*state)
        return tuple(state) if isinstance(state, (tuple, list)) else (state,)

    if is_tracing():
        state = tree.map_structure(lambda v: as_tensor(v) if isinstance(v, (bool, int, float)) else v, state)
        state = loops.while_loop(lambda state: cast(cond(*state), "bool"), step, state, maximum_iterations)
        return state[0] if single else state
    count = 0
    while (maximum_iterations is None or count < maximum_iterations) and bool(unwrap(cond(*state))):
        state, count = step(state), count + 1
    return state[0] if single else state


@public
def fori_loop(lower, upper, body_fun, init_val):
    """Run `body_fun(i, value)` for i in lower..upper-1, carrying the value.

    While tracing, one step is recorded and runs as often as the bounds say. With bounds only known when the program
    runs, the loop has no gradient.
    """
    lower, upper = unwrap(lower), unwrap(upper)
    if isinstance(lower, Value) or isinstance(upper, Value):
        start = (_cast(tensor(lower), "int32"), init_val)
        going = lambda i, value: less(i, _cast(tensor(upper), "int32"))  # noqa: E731
        return while_loop(going, lambda i, value: (i + 1, body_fun(i, value)), start)[1]
    if not is_tracing():
        value = init_val
        for i in range(int(lower), int(upper)):
            value = body_fun(i, value)
        return value
    length = upper - lower
    if not isinstance(length, Dim):
        length = max(0, int(length))

    def step(t, value, _):
        return body_fun(add(t, lower), value), None

    return loops.scan(step, init_val, length=length)[0]


@public
def scan(f, init, xs=None, length=None, reverse=False, unroll=1):
    """Carry a state along the first axis of `xs`: `f(carry, x) -> (carry, y)`; returns (last carry, stacked y).

    While tracing, one step is recorded, whatever the length; `unroll` is accepted and has no effect.
    """
    return loops.scan(lambda t, carry, x: f(carry, x), init, xs, length, bool(reverse))


@public
def map(f, xs):
    """Apply `f` to each row of `xs` along the first axis, one after the other, and stack the results."""
    return loops.scan(lambda t, carry, x: ((), f(x)), (), xs)[1]


@public
def vectorized_map(function, elements):
    """Apply `function` to each row of `elements` along the first axis and stack the results.

    As `map`: rows are independent, so what has a form for all rows at once leaves the loop by itself.
    """
    return loops.scan(lambda t, carry, x: ((), function(x)), (), elements)[1]


@public
def associative_scan(f, elems, reverse=False, axis=0):
    """Combine elements along an axis from the first one on (`reverse`: from the last): all partial results.

    `f` takes and returns the nesting of `elems`; it is applied in order.
    """
    flat = [moveaxis(e, axis, 0) for e in tree.flatten(elems)]
    first = [e[-1] if reverse else e[0] for e in flat]
    rest = [e[:-1] if reverse else e[1:] for e in flat]

    def step(t, carry, x):
        pack = lambda leaves: tree.pack_sequence_as(elems, leaves)  # noqa: E731
        # elements are taken along the axis they were given with: the rows of a step have it back
        given = [expand_dims(v, axis) for v in (*carry, *x)]
        made = f(pack(given[: len(carry)]), pack(given[len(carry) :]))
        made = tuple(squeeze(v, axis) for v in tree.flatten(made))
        return made, made

    if flat[0].shape[0] == 1:
        return elems
    _, rows = loops.scan(step, tuple(first), tuple(rest), reverse=reverse)
    both = [[r, expand_dims(v, 0)] if reverse else [expand_dims(v, 0), r] for v, r in zip(first, rows)]
    return tree.pack_sequence_as(elems, [moveaxis(concatenate(pair), 0, axis) for pair in both])


@public
def switch(index, branches, *operands):
    """Call one of `branches` on `operands`; an index out of range takes the nearest.

    While tracing, with an index known only when the program runs, all are computed and one is selected.
    """
    index = unwrap(index)
    if not isinstance(index, Value):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    index = clip(index, 0, len(branches) - 1)
    results = [
        custom.branch(functools.partial(chosen, *operands), equal(index, n), "a branch of keras.ops.switch")
        for n, chosen in enumerate(branches)
    ]
    found = results[0]
    for number, result in enumerate(results[1:], 1):
        found = tree.map_structure(lambda a, b, n=number: where(greater_equal(index, n), b, a), found, result)
    return found


def custom_gradient(f):
    """Give a function a gradient of its own: `f(*args)` returns its result and a gradient function.

    The gradient function takes the gradient of the result and returns that of the arguments, one or a tuple.
    While a training step is traced it is called once; what it computes is compiled with the rest.

    >>> @custom_gradient
    ... def log1pexp(x):
    ...     e = ops.exp(x)
    ...     return ops.log(1 + e), lambda upstream: upstream * (1.0 - 1.0 / (1.0 + e))
    """

    @functools.wraps(f)
    def call(*args, **kwargs):
        return custom.custom_gradient(f, args, kwargs)

    return recorded(call)
