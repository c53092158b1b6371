"""keras.ops: the public tensor functions.

function.py     what all share: recording, conversion, promotion
core.py         conversion, cast, control flow
elementwise.py  arithmetic, comparison, logic, transcendental: two tables
shapes.py       reshape, transpose, concatenate, pad, ...
creation.py     zeros, arange, eye, ...
reductions.py   sum, mean, max, argmax, ...
indexing.py     take, one_hot, x[...]
scattering.py   scatter, slice_update, segment_sum, ...
ordering.py     sort, top_k, quantile, searchsorted, unique, ...
products.py     matmul, dot, einsum
nn.py           activations, normalisation, cross-entropies
convolution.py  conv, depthwise, separable, transposed
pooling.py      max_pool, average_pool
windows.py      padding arithmetic of the last two
"""

from kcompile.errors import MissingNameError, suggestion
from kcompile.keras.ops import (
    convolution,
    core,
    creation,
    elementwise,
    function,
    indexing,
    nn,
    ordering,
    pooling,
    products,
    reductions,
    scattering,
    shapes,
)

_FAMILIES = (
    convolution, core, creation, elementwise, indexing, nn, ordering, pooling, products, reductions, scattering, shapes,
)  # fmt: skip
globals().update(function.PUBLIC)
for _module in (core, elementwise, convolution, pooling):
    globals().update({name: getattr(_module, name) for name in _module.__all__})

shape, ndim, size, broadcast_shape = shapes.shape, shapes.ndim, shapes.size, shapes.broadcast_shape
amax, amin = reductions.amax, reductions.amin
swish, hard_swish = nn.swish, nn.hard_swish

__all__ = sorted({*function.PUBLIC, *core.__all__, "shape", "ndim", "size", "amax", "amin", "swish", "hard_swish"})


def __getattr__(name: str):
    raise MissingNameError(f"keras.ops.{name} is not available in kcompile.{suggestion(name, __all__)}")
