"""Op records and the one table of them.

An op carries no behaviour: it is a name and a handful of small functions. Calling it does the right
thing for what it is given: arrays are computed with `ref`, graph values emit a node, wildcards build
a pattern. So gradients, rewrite rules, layers and eager code are written in one language.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile import plugins
from kcompile.errors import CompilerBug, PluginError


class Kind(enum.Enum):
    """How an op reads its operands; fusion is decided on kinds alone."""

    ELEMENTWISE = "elementwise"  # one output element from the same (broadcast) element of each operand
    SHAPE = "shape"  # one output element from one operand element at a computed place
    INDEX = "index"  # as SHAPE, but the place is loaded (gather)
    RANDOM = "random"  # one output element from the seed and its own position
    REDUCE = "reduce"  # many operand elements along axes into one
    WINDOW = "window"  # many operand elements in a sliding window into one
    CONTRACT = "contract"  # sums of products of two operands
    TILES = "tiles"  # several elements of a tile from several of another
    SCATTER = "scatter"  # many elements added to loaded places
    PACK = "pack"  # operands laid side by side in one flat buffer
    CONTROL = "control"  # holds a body graph
    OPAQUE = "opaque"  # its own kernel, nothing fuses into it


@dataclass(frozen=True, eq=False)
class Op:
    """All the compiler must know of one primitive.

    infer(*types, **attrs) -> Type            raises ShapeError or DTypeError
    ref(*arrays, **attrs) -> array            plainly right NumPy; defines the meaning
    vjp(g, y, *inputs, **attrs) -> tuple      one cotangent (or None) per input, written in ops
    lower(*types, **attrs) -> Form            types, never LLVM; see forms/records.py
    samples(rng) -> iterable of (arrays, attrs)   odd shapes included; feeds every generic test
    cost: rough scalar operations per output element, for fusion's decisions
    """

    name: str
    kind: Kind
    infer: Callable[..., Any]
    ref: Callable[..., Any]
    vjp: Callable[..., Sequence[Any]] | None = None
    lower: Callable[..., Any] | None = None
    samples: Callable[..., Any] | None = None
    cost: int = 1
    differentiable: bool = True  # False: gradients stop here (comparisons, integer results)
    facts: Mapping[str, Any] = field(default_factory=dict)  # e.g. identity element, commutative=True

    def __call__(self, *operands, **attrs):
        for operand in operands:
            if type(operand) is np.ndarray:
                continue
            calling = getattr(operand, "__op_call__", None)
            if calling is not None:  # a graph Value, a pattern, ...
                return calling(self, operands, attrs)
        return self.ref(*operands, **attrs)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter `op` in the table. Raises PluginError if the name is taken by another op."""
    if op.name in OPS:
        raise PluginError(f"op {op.name!r} is defined twice: by {OPS[op.name].ref.__module__} and {op.ref.__module__}")
    OPS[op.name] = op
    return op


def get(name: str) -> Op:
    """Return the op called `name`, from a plugin too."""
    if name not in OPS:
        plugins.load("ops")
    try:
        return OPS[name]
    except KeyError:
        raise CompilerBug(f"no op is called {name!r}; is the plugin that brings it installed?") from None
