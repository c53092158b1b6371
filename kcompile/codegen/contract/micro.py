"""The function that computes one register tile: its place, the loops over a block of k, what becomes of the sums."""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract import ask, columns, lines
from kcompile.codegen.contract.crosswise import Crosswise
from kcompile.codegen.contract.epilogue import Along, store_vector
from kcompile.codegen.contract.frame import Frame, Signature
from kcompile.codegen.contract.plan import DIRECT, Plan
from kcompile.codegen.contract.tile_loops import Tile, TileLoops
from kcompile.codegen.llvm_types import I1, I64, Index, vector
from kcompile.codegen.module import Param, pointer
from kcompile.ir.dim import Axis


def tile_axes(plan: Plan) -> list[Axis]:
    """Axes whose values a tile function takes: where the tile is in the result."""
    return [*plan.outer, *plan.rows.outside, plan.rows.along, plan.vector]


def tile_function(
    module,
    target,
    sig: Signature,
    plan: Plan,
    name: str,
    steps: int,
    vectors: int,
    masked: bool,
    makes: bool = False,
    copies: bool = False,
):
    """Write the function that computes one tile of `steps` steps x `vectors` vectors.

    Parameters: the leading ones, then lhs and rhs at the tile's corner and block start, scratch, what to ask for, the
    value of each axis of `tile_axes`, the number of steps of the cut axis, whether this is the first
    and the last block of k, the number of columns that exist, and where the block begins in `plan.windows_begun`.

    makes: it reads rhs where it lies, at one more parameter behind `b`, and leaves the panel behind.
    copies: it copies the rows of the next tile too; parameters more behind `scratch`, see lines.py.
    """
    more = [
        pointer("a", align_bytes=1),
        pointer("b", align_bytes=1),
        *([pointer("source", "readonly", align_bytes=1)] if makes else []),
        pointer("scratch", align_bytes=plan.vector_bytes),
        *(lines.params() if copies else []),
        *ask.params(plan),
        *columns.params(plan),
        *(Param(f"at{i}", I64) for i, _ in enumerate(tile_axes(plan))),
        Param("steps", I64),
        Param("first", I1),
        Param("last", I1),
        Param("valid", I64),
        *(Param(f"begun{i}", I64) for i, _ in enumerate(plan.windows_begun)),
    ]
    frame = Frame.internal(module, target, name, sig, more)
    b = frame.b
    frame.places.update({axis: b[f"at{i}"] for i, axis in enumerate(tile_axes(plan))})
    rows = [(dict(zip((plan.rows.along, *plan.rows.inside), at))) for at in _row_points(plan, steps)]
    masks = column_masks(b, plan, vectors, b["valid"]) if masked else [None] * vectors
    writer = TileLoops(frame, plan, rows, vectors, masks, makes, copies)
    if plan.crosswise:
        turned = Crosswise(frame, plan.a, plan.b, plan.k, plan.vector, plan.lanes, plan.problem.dtype)
        acc = [[row] for row in turned.rows(b["a"], b["b"], writer.row_offsets)]
    else:
        acc = writer.sum(writer.start(b["scratch"], b["first"]))
    if plan.finish == DIRECT and not plan.blocked:
        _finish_direct(frame, plan, rows, acc, masks)
    elif plan.finish == DIRECT:
        with b.if_else(b["last"]) as (then, otherwise):
            with then:
                _finish_direct(frame, plan, rows, acc, masks)
            with otherwise:
                writer.park(acc, b["scratch"])
    else:
        writer.park(acc, b["scratch"])
    b.ret()
    return b.fn


def _row_points(plan: Plan, steps: int) -> list[tuple[int, ...]]:
    points: list[tuple[int, ...]] = [()]
    for size in (steps, *(a.extent for a in plan.rows.inside)):
        points = [(*p, i) for p in points for i in range(size)]
    return points


def column_masks(b: KernelBuilder, plan: Plan, vectors: int, valid: Index) -> list[ir.Value | None]:
    """Which lanes of each vector of the tail exist; None for a vector that is known to be full."""
    masks: list[ir.Value | None] = [None] * vectors
    lanes, known = plan.lanes, plan.columns.tail_lanes
    if known is None:
        return [b.tail_mask(lanes, b.sub(valid, j * lanes)) for j in range(vectors)]
    if known:
        masks[-1] = ir.Constant(vector(I1, lanes), [I1(int(i < known)) for i in range(lanes)])
    return masks


def _finish_direct(frame: Frame, plan: Plan, rows, acc: Tile, masks) -> None:
    """Evaluate the stores on the tile in registers, row by row."""
    points = [
        [_point(frame, plan, row, j, masks[j], value) for j, value in enumerate(acc[i])] for i, row in enumerate(rows)
    ]
    for j in range(len(masks)):
        columns.add(plan, [row[j] for row in points], j * plan.lanes)
    for at in (at for row in points for at in row):
        for store in plan.problem.stores:
            store_vector(at, store)


def _point(frame: Frame, plan: Plan, row: dict[Axis, int], j: int, mask, value: ir.Value) -> Along:
    """Vector `j` of a row of the tile."""
    b = frame.b
    places = {axis: b.add(frame.places.get(axis, 0), place) for axis, place in row.items()}
    places[plan.vector] = b.add(frame.places[plan.vector], j * plan.lanes)
    valid = None if mask is None else b.sub(b["valid"], j * plan.lanes)
    return Along(frame.with_places(places), plan.vector, plan.lanes, mask, valid, value)
