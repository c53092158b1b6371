"""The primitives: each op's infer, reference, vjp, lowering and samples, together.

Importing this package fills `ir.op.OPS`; every primitive is also a name here: `ops.add(x, y)`. The
plain functions over `contract` are names here too. An op of a plugin (entry-point group
`kcompile.ops`) becomes a name the first time it is asked for.
"""

from __future__ import annotations

from kcompile import plugins
from kcompile.errors import suggestion
from kcompile.ir.op import OPS, Op
from kcompile.ops import (  # noqa: F401  (fill OPS)
    bits,
    control,
    custom,
    elementwise,
    index,
    order,
    pack,
    pick,
    pool_gradient,
    random,
    reduce,
    scan,
    shape,
    sum_tiles,
    unpool,
    unpool_tiles,
    window,
    winograd,
)
from kcompile.ops import contract as _contract
from kcompile.ops import conv as _conv

FUNCTIONS = (
    _contract.matmul,
    _contract.einsum,
    _conv.conv,
    _conv.depthwise_conv,
    _conv.conv_transpose,
)

# last: some ops and functions carry the name of their module
BUILT_IN = frozenset(OPS)  # plugins register theirs later
globals().update(OPS)
globals().update({function.__name__: function for function in FUNCTIONS})


def __getattr__(name: str) -> Op:
    if not name.startswith("_"):
        plugins.load("ops")
        if name in OPS:
            return OPS[name]
    raise AttributeError(f"no primitive is called {name!r}.{suggestion(name, OPS)}")
