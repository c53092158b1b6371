"""Epilogues that are too long to unroll over a tile: loops over the stored tile.

`finish_function` walks the tile row by row, vectors along the columns. If the result is contiguous
along the rows instead, `transposed_finish_function` turns squares of the tile first.
"""

from __future__ import annotations

import contextlib

from llvmlite import ir

from kcompile.codegen.contract import columns
from kcompile.codegen.contract.epilogue import Along, store_vector
from kcompile.codegen.contract.frame import ROLLED, Frame, Signature
from kcompile.codegen.contract.micro import tile_axes
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.transpose import copy_square, line_table, set_lines
from kcompile.codegen.llvm_types import I64
from kcompile.codegen.module import Param, pointer


def _begin(module, target, sig: Signature, plan: Plan, name: str) -> Frame:
    more = [
        pointer("scratch", align_bytes=plan.problem.dtype.size_bytes),
        *columns.params(plan),
        *(Param(f"at{i}", I64) for i, _ in enumerate(tile_axes(plan))),
        Param("count", I64),
        Param("valid", I64),
    ]
    frame = Frame.internal(module, target, name, sig, more)
    frame.places.update({axis: frame.b[f"at{i}"] for i, axis in enumerate(tile_axes(plan))})
    return frame


def finish_function(module, target, sig: Signature, plan: Plan, name: str, vectors: int, masked: bool) -> ir.Function:
    """Write the function that evaluates the stores on one row tile in the scratch.

    Parameters: leading ones, the tile, the value of each axis of `tile_axes`, steps along the tiled
    axis, columns that exist.
    """
    frame = _begin(module, target, sig, plan, name)
    b, rows, lanes = frame.b, plan.rows, plan.lanes
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(b.loop("step", 0, b["count"], **ROLLED))
        places = {rows.along: b.add(frame.places[rows.along], step)}
        row = step
        for axis in rows.inside:
            inner = stack.enter_context(b.loop(axis.name, 0, axis.extent, **ROLLED))
            places[axis] = inner
            row = b.add(b.mul(row, axis.extent), inner)
        column = stack.enter_context(b.loop("vector", 0, vectors * lanes, lanes, **ROLLED))
        places[plan.vector] = b.add(frame.places[plan.vector], column)
        acc = b.load_vector(b["scratch"], plan.problem.dtype, b.add(b.mul(row, plan.block_lanes), column), lanes)
        valid = b.sub(b["valid"], column) if masked else None
        mask = b.tail_mask(lanes, valid) if masked else None
        at = Along(frame.with_places(places), plan.vector, lanes, mask, valid, acc)
        columns.add(plan, [at], column)
        for store in plan.problem.stores:
            store_vector(at, store)
    b.ret()
    return b.fn


def transposed_finish_function(module, target, sig: Signature, plan: Plan, name: str) -> ir.Function:
    """The same for all rows of a task at once, on the transposed tile: `count` is the number of rows."""
    frame = _begin(module, target, sig, plan, name)
    b, lanes, dtype = frame.b, plan.lanes, plan.problem.dtype
    along, wide = plan.rows.along, plan.block_lanes
    square = b.alloca(dtype, lanes * lanes, align_bytes=64)
    table = line_table(b, lanes)
    width = b.min(b["valid"], wide)
    with b.loop("row", 0, b["count"], lanes, **ROLLED) as row, b.loop("column", 0, width, lanes, **ROLLED) as column:
        corner = b.add(b.mul(row, wide), column)
        set_lines(b, table, [b.at(b["scratch"], dtype, b.add(corner, i * wide)) for i in range(lanes)])
        copy_square(b, table, 0, dtype, square, lanes, dtype, lanes)
        left = b.sub(b["count"], row)
        with b.if_else(b.compare(">=", left, lanes)) as (then, otherwise):
            for branch, valid in ((then, None), (otherwise, left)):
                with branch, b.loop("line", 0, b.min(lanes, b.sub(width, column)), **ROLLED) as line:
                    places = {
                        along: b.add(frame.places[along], row),
                        plan.vector: b.add(frame.places[plan.vector], b.add(column, line)),
                    }
                    acc = b.load_vector(square, dtype, b.mul(line, lanes), lanes)
                    mask = None if valid is None else b.tail_mask(lanes, valid)
                    at = Along(frame.with_places(places), along, lanes, mask, valid, acc)
                    for store in plan.problem.stores:
                        store_vector(at, store)
    b.ret()
    return b.fn
