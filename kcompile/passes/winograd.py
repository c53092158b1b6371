"""Convolutions of 3x3 windows with fewer multiplications, where that is faster and exact enough.

    contract(pad(x), w)   ->   winograd_output(contract(winograd_input(x), winograd_filter(w)))

Only where the filter depends on nothing but parameters, state and constants that the program leaves as they
are: then `hoist` takes its transform out of the program. A training step, which changes them, is left alone.

How many results a tile has is a pure function of the sizes of one image and of the target, so it is the same
for every batch size and wherever the program runs. What a tile costs in accuracy (largest error by largest
result, float32, unit-variance data, 64 to 512 input channels; the direct sum has 2e-7 to 6e-7):

    tile 2   3e-7 to 7e-7     precision "high" and "default"
    tile 3   1.4e-6 to 2.9e-6 precision "default"; for small images, of which larger tiles leave much unused
    tile 4   1.4e-6 to 3.1e-6 precision "default"

Precision "highest" keeps the direct sum. An infinity or NaN reaches all results of the tiles that read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import CONSTANT, INPUT, PARAMETER, STATE, Graph, Node, Value, rebuild
from kcompile.ir.op import Kind
from kcompile.ops.spec import Spec, parse_spec
from kcompile.ops.winograd import WINDOW, tile_count
from kcompile.target import Target

PRECISIONS = {"default": (2, 3, 4), "high": (2,), "highest": ()}  # tiles that may be used

# Estimated cycles; measured on Zen 5 with images of 5 to 112 rows and 16 to 256 channels. Multiplications run at
# this share of the peak, while the filter comes from where it lies; transforms run at the speed of what holds the
# values between. The second-level cache is the core's own, the third is counted as half: others use it too.
DIRECT_SHARE, NARROW_SHARE, PRODUCT_SHARE = 0.95, 0.83, 0.9  # narrow: one vector of columns, and more loads than two
FILTER_BYTES_PER_CYCLE = (32, 16, 4)  # from the second-level cache, the third, memory, which all cores share
TRANSFORM_BYTES_PER_CYCLE = (24, 16, 5)
STEPS, STEP_CYCLES = 2, 2000  # kernels more in a call: the transforms of input and result
BATCHES = (1, 32)  # a tile is the same for all sizes: it should pay for both
MARGIN = 1.15  # a smaller gain does not pay for the error
PANEL_VECTORS = 2  # of a register tile of many rows


@dataclass(frozen=True)
class Convolution:
    """A contraction that is a 3x3 convolution: its operands and how many zeros stand in front of x."""

    x: Value
    w: Value
    low: tuple[int, int]
    out: tuple[int, int]


def use_winograd(graph: Graph, *, target: Target, precision: str = "default") -> Graph:
    """Replace convolutions by transforms and products where `choose_tile` says so.

    Before: contractions; borders are pads of their own.
    After:  none whose filter is prepared could be a faster winograd convolution that `precision` allows.
    """
    tiles = PRECISIONS[precision]
    if not tiles or _changes_parameters(graph):
        return graph
    nodes = [n for n in graph.live_nodes() if not n.is_source and n.op.kind is Kind.CONTRACT]
    chosen: dict[Node, tuple[Convolution, int]] = {}
    for node in nodes:
        found = as_convolution(node)
        if found is not None and _is_prepared(found.w, graph):
            tile = choose_tile(found, target, tiles)
            if tile is not None:
                chosen[node] = found, tile
    if not chosen:
        return graph

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        if node not in chosen:
            return None
        found, tile = chosen[node]
        x = inputs[0]
        if found.x is not node.inputs[0]:  # the pad is part of the input's transform
            x = x.node.inputs[0]
        panel = panel_columns(found.w.shape[3], target)
        u = ops.winograd_filter(inputs[1], tile=tile, panel=panel)
        v = ops.winograd_input(x, tile=tile, low=found.low, out=found.out)
        products = ops.contract(v, u, spec="b,p,t,u,c;p,q,c,n->b,p,t,u,q,n", sizes=())
        products = ops.reshape(products, shape=(*v.shape[:-1], found.w.shape[3]))
        return ops.winograd_output(products, tile=tile, out=found.out)

    return rebuild(graph, visit)


def _changes_parameters(graph: Graph) -> bool:
    return any(a.target.node.role == PARAMETER for a in graph.assignments.values())


def _is_prepared(w: Value, graph: Graph) -> bool:
    """True if `w` is a function of what the program does not change."""
    changed = {a.target.node for a in graph.assignments.values()}
    stack, seen = [w.node], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.role == INPUT or node in changed:
            return False
        stack += [] if node.is_source else [v.node for v in node.inputs]
    return any(n.role in (PARAMETER, STATE, CONSTANT) for n in seen)


# which contractions are meant ----------------------------------------------------------------------

_CONVOLUTION = parse_spec("b,i+r,j+s,c;r,s,c,n->b,i,j,n")


def as_convolution(node: Node) -> Convolution | None:
    """Return what a contraction convolves if it is a 3x3 convolution of float32 with stride and dilation 1."""
    x, w = node.inputs
    if x.dtype.name != "f32" or not _same_up_to_names(parse_spec(node.attrs["spec"]), _CONVOLUTION):
        return None
    sizes = (*w.shape, *x.shape[1:])
    if tuple(w.shape[:2]) != (WINDOW, WINDOW) or not all(dim.is_static(n) for n in sizes):
        return None
    out = tuple(node.output.shape[1:3])
    if 0 in (*sizes, *out):
        return None
    low = (0, 0)
    if _is_border_of_zeros(x.node):
        low = tuple(x.node.attrs["low"][1:3])
        x = x.node.inputs[0]
    return Convolution(x, w, low, out)


def _same_up_to_names(spec: Spec, other: Spec) -> bool:
    names: dict[str, str] = {}

    def same(a, b) -> bool:
        return len(a) == len(b) and all(names.setdefault(x, y) == y for x, y in zip(a, b))

    if len(spec.lhs) != len(other.lhs) or len(spec.rhs) != len(other.rhs):
        return False
    for side, wanted in zip(spec.sides, other.sides):
        for d, e in zip(side, wanted):
            if [c for _, c in d] != [c for _, c in e] or not same([x for x, _ in d], [x for x, _ in e]):
                return False
    return same(spec.out, other.out) and len(set(names.values())) == len(names)


def _is_border_of_zeros(node: Node) -> bool:
    if node.is_source or node.op.name != "pad" or node.attrs["value"] != 0 or any(node.attrs["interior"]):
        return False
    low, high = node.attrs["low"], node.attrs["high"]
    around = all(n == 0 for side in (low, high) for n in (side[0], side[-1]))
    return around and all(dim.is_static(n) and n >= 0 for n in (*low, *high))


# what it costs --------------------------------------------------------------------------------------


def choose_tile(found: Convolution, target: Target, tiles: tuple[int, ...]) -> int | None:
    """The tile that makes images fastest, alone and many at a time; None if the direct sum is (nearly) as fast."""
    gains = {tile: gain(found, tile, target) for tile in tiles}
    best = max(gains, key=gains.get)
    return best if gains[best] > MARGIN else None


def gain(found: Convolution, tile: int, target: Target) -> float:
    """How many times as fast as the direct sum: the geometric mean over BATCHES."""
    ratios = [direct_cycles(found, n, target) / tile_cycles(found, tile, n, target) for n in BATCHES]
    return math.prod(ratios) ** (1 / len(ratios))


def direct_cycles(found: Convolution, images: int, target: Target) -> float:
    """Estimated cycles of the direct sum per image."""
    c, n = found.w.shape[2:]
    oh, ow = found.out
    weights = WINDOW * WINDOW * c * n
    share = DIRECT_SHARE if n > target.lanes(4) else NARROW_SHARE
    products = weights * oh * ow / (2 * target.lanes(4) * share)
    return max(products, _filter_cycles(weights, target) / images)


def tile_cycles(found: Convolution, tile: int, images: int, target: Target) -> float:
    """Estimated cycles with tiles per image."""
    c, n = found.w.shape[2:]
    oh, ow = found.out
    points = (tile + WINDOW - 1) ** 2
    rows = tile_count(oh, tile) * tile_count(ow, tile)
    lanes = target.lanes(4)
    products = points * rows * c * (-(-n // lanes) * lanes) / (2 * lanes * PRODUCT_SHARE)
    h, w = found.x.shape[1:3]
    between = points * rows * (c + n)  # written once; that it is read is part of the products
    moved = between + h * w * c + oh * ow * n
    level = _level(images * between * 4, target)
    filters = _filter_cycles(points * c * n, target) / images
    transforms = moved * 4 / TRANSFORM_BYTES_PER_CYCLE[level] + STEPS * STEP_CYCLES / images
    return max(products, filters) + transforms


def _level(nbytes: int, target: Target) -> int:
    """Which level of FILTER_BYTES_PER_CYCLE and TRANSFORM_BYTES_PER_CYCLE holds so many bytes."""
    return 0 if nbytes <= target.l2_bytes else 1 if 2 * nbytes <= target.l3_bytes else 2


def _filter_cycles(elements: int, target: Target) -> float:
    """Cycles to read a filter, which all images of a batch share."""
    return elements * 4 / FILTER_BYTES_PER_CYCLE[_level(elements * 4, target)]


def panel_columns(columns: int, target: Target) -> int:
    """Columns of the filter that lie together: a register tile's, or all if they do not make up whole panels.

    A tile then reads its part of the filter as one stream; rows of all columns would be pages apart.
    """
    panel = PANEL_VECTORS * target.lanes(4)
    return panel if columns % panel == 0 else columns
