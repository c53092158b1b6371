"""keras.ops: the public tensor functions.

function.py     what all share: recording, conversion, promotion
core.py         conversion, cast, control flow
elementwise.py  arithmetic, comparison, logic, transcendental: two tables
arithmetic.py   what is composed of these: cbrt, sinc, gcd, fmax, ...
shapes.py       reshape, transpose, concatenate, pad, ...
arrangements.py rot90, kron, cross, trapezoid, depth_to_space, ...
creation.py     zeros, arange, eye, ...
reductions.py   sum, mean, max, argmax, ...
indexing.py     take, one_hot, nonzero
subscripts.py   x[...]
scattering.py   scatter, slice_update, segment_sum, ...
patterns.py     rearrange, fold, unfold
bits.py         view, nextafter
functions.py    jvp, vectorize
ordering.py     sort, top_k, quantile, searchsorted, unique, ...
products.py     matmul, dot, einsum
nn.py           activations, normalisation, cross-entropies
convolution.py  conv, depthwise, separable, transposed
ctc.py          the loss of label sequences, and their decoding
pooling.py      max_pool, average_pool
windows.py      padding arithmetic of the last two
linalg/         factorisations, solvers, norms
signal.py       Fourier transforms, frames
image/          resize, warps, colour, filters
recurrence.py   rnn: what the recurrent layers run
sizes.py        sizes in whatever form users write them
numpy.py        keras.ops.numpy
"""

from kcompile.errors import MissingNameError, suggestion
from kcompile.keras.ops import (  # noqa: F401  (fill PUBLIC)
    arithmetic,
    arrangements,
    bits,
    convolution,
    core,
    creation,
    ctc,
    elementwise,
    function,
    functions,
    image,
    indexing,
    linalg,
    nn,
    numpy,
    ordering,
    patterns,
    pooling,
    products,
    reductions,
    scattering,
    shapes,
    signal,
    subscripts,
)

# functions of keras.ops.image are names there only
globals().update({n: f for n, f in function.PUBLIC.items() if not f.__module__.startswith(f"{image.__name__}.")})
for _module in (core, elementwise, convolution, pooling):
    globals().update({name: getattr(_module, name) for name in _module.__all__})

shape, ndim, size, broadcast_shape = shapes.shape, shapes.ndim, shapes.size, shapes.broadcast_shape
swish, hard_swish, eig = nn.swish, nn.hard_swish, linalg.eig
vectorize = functions.vectorize

__all__ = sorted(
    {n for n, f in globals().items() if f is function.PUBLIC.get(n)}
    | {
        *core.__all__,
        "shape",
        "ndim",
        "size",
        "swish",
        "hard_swish",
        "eig",
        "image",
        "linalg",
        "nn",
        "numpy",
        "vectorize",
    }
)


def __getattr__(name: str):
    raise MissingNameError(f"keras.ops.{name} is not available in kcompile.{suggestion(name, __all__)}")
