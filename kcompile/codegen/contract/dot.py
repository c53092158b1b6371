"""The dot path: both operands are contiguous along k, and there are few results per operand read.

    acc[i][j] (a vector along k) += lhs[i, p : p+lanes] * rhs[p : p+lanes, j]

Nothing is packed or transposed: matrix-vector products over rows, Dense(1), attention of one query,
inner products. The lanes are added at the end, halves onto halves, so the order of the sum depends on
sizes only. Rows and columns beyond the last repeat it and are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.contract.affine import Memory, ceildiv, extent
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import ROLLED, Frame, Signature, scalar_value, store_scalar
from kcompile.codegen.contract.plan import PRODUCTS_PER_OPERATION
from kcompile.codegen.contract.tile_loops import multiply_add
from kcompile.codegen.contract.tiles import FMA_LATENCY, FMA_PER_CYCLE, LOADS_PER_CYCLE
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I64, Index, memory_type
from kcompile.codegen.module import Param, leave_loop
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.target import Target

ACCUMULATORS = 16  # at most, in registers
SUM_CYCLES = 8  # to add the lanes of one accumulator
STORE_CYCLES = 4  # per result: scalar epilogue
TILE_CYCLES = 30
L2_VECTOR, L3_VECTOR = 0.5, 3.0  # cycles a vector takes from these caches beyond its share of a load port
ONE = Axis("one", 1)


@dataclass(frozen=True)
class DotPlan:
    """rows x columns results at a time, `unroll` vectors of k per turn for each."""

    problem: Problem
    lanes: int
    m: Axis
    n: Axis
    outer: tuple[Axis, ...]
    k: tuple[Axis, ...]  # the last one is contiguous in both operands
    rows: int
    columns: int
    unroll: int
    cycles: float

    @property
    def tiles(self) -> DimLike:
        """Tiles of one point of `outer`."""
        return ceildiv(self.m.extent, self.rows) * ceildiv(self.n.extent, self.columns)

    @property
    def tasks(self) -> DimLike:
        """Every tile is one: nothing is kept from tile to tile, and threads end together."""
        return extent(self.outer) * self.tiles

    @property
    def cost_per_task(self) -> DimLike:
        steps = dim.floordiv(extent(self.k), PRODUCTS_PER_OPERATION) + 16
        return self.rows * self.columns * steps

    def describe(self) -> str:
        return f"dot {self.rows}x{self.columns}, k {'x'.join(str(a.extent) for a in self.k)}"


def plan(problem: Problem, target: Target) -> DotPlan | None:
    """The best plan of this path; None if the operands are not contiguous along an axis of k."""
    a, b = problem.lhs.memory, problem.rhs.memory
    if a is None or b is None:
        return None
    inner = [x for x in problem.k if a.stride(x) == 1 and b.stride(x) == 1]
    if not inner:
        return None
    k = (*(x for x in problem.k if x is not inner[0]), inner[0])
    m = problem.m[-1] if problem.m else ONE
    n = problem.n[-1] if problem.n else ONE
    outer = tuple(x for x in (*problem.batch, *problem.m, *problem.n) if x not in (m, n))
    lanes = target.lanes(problem.dtype.size_bytes)
    again = _load_again_cycles(extent((*problem.n, *k)), problem.dtype.size_bytes, target)
    best = None
    for rows in (1, 2, 4):
        for columns in (1, 2, 4, 8):
            if rows * columns > min(ACCUMULATORS, target.vector_registers // 2):
                continue
            cycles = _cycles(problem, outer, k, m, n, rows, columns, lanes, again)
            if best is None or cycles < best[0]:
                best = (cycles, rows, columns)
    cycles, rows, columns = best
    unroll = max(1, FMA_LATENCY * FMA_PER_CYCLE // (rows * columns))
    return DotPlan(problem, lanes, m, n, outer, k, rows, columns, unroll, cycles)


def _cycles(problem: Problem, outer, k, m: Axis, n: Axis, rows: int, columns: int, lanes: int, again: float) -> float:
    count = nominal(extent(outer)) * -(-nominal(m.extent) // rows) * -(-nominal(n.extent) // columns)
    steps = nominal(extent(k[:-1])) * -(-nominal(k[-1].extent) // lanes)
    products = rows * columns
    step = max(products / FMA_PER_CYCLE, (rows + columns) / LOADS_PER_CYCLE)
    # the first pass over rhs is as dear in whatever way the product is computed
    passes = max(1, nominal(extent(problem.m)) // rows)
    step += again * columns * (1 - 1 / passes)
    return count * (steps * step + TILE_CYCLES + (SUM_CYCLES + STORE_CYCLES) * products)


def _load_again_cycles(elements: DimLike, size_bytes: int, target: Target) -> float:
    """Cycles per vector of rhs, which every row tile reads anew, from the cache that holds it."""
    nbytes = nominal(elements) * size_bytes
    if nbytes <= target.l1d_bytes // 2:
        return 0.0
    return L2_VECTOR if nbytes <= target.l2_bytes else L3_VECTOR


def emit_phases(module, target, sig: Signature, plan: DotPlan, name: str) -> tuple[Phase, ...]:
    """Write the kernel; return its phases."""
    leave_loop(module)  # windows of a few channels take up to a third longer with the passes for code in vectors
    tile = _tile_function(module, target, sig, plan, f"{name}.dot")
    frame = Frame.exported(module, target, name, sig)
    b = frame.b
    tiles = frame.index(plan.tiles)
    across = frame.index(ceildiv(plan.n.extent, plan.columns))
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        places = unflatten(frame, plan.outer, b.div_nonneg(task, tiles)) if plan.outer else {}
        number = b.mod_nonneg(task, tiles) if plan.outer else task
        row = b.mul(b.div_nonneg(number, across), plan.rows)
        column = b.mul(b.mod_nonneg(number, across), plan.columns)
        outer = [b.index(places[a]) for a in plan.outer]
        b.call(tile, [*frame.leading(), *outer, b.index(row), b.index(column)])
    b.ret()
    return (Phase(name, plan.tasks, plan.cost_per_task),)


def _tile_function(module, target, sig: Signature, plan: DotPlan, name: str) -> ir.Function:
    more = [*(Param(f"at{i}", I64) for i, _ in enumerate(plan.outer)), Param("row", I64), Param("column", I64)]
    frame = Frame.internal(module, target, name, sig, more)
    b, dtype = frame.b, plan.problem.dtype
    frame.places.update({axis: b[f"at{i}"] for i, axis in enumerate(plan.outer)})
    rows = _clamped(frame, b["row"], plan.rows, plan.m)
    columns = _clamped(frame, b["column"], plan.columns, plan.n)
    lhs = [_start(frame, plan.problem.lhs.memory, {plan.m: r}) for r in rows]
    rhs = [_start(frame, plan.problem.rhs.memory, {plan.n: c}) for c in columns]
    zero = b.zero(dtype, plan.lanes)
    acc = [zero] * (plan.rows * plan.columns * plan.unroll)
    acc = _sum(frame, plan, plan.k, acc, lhs, rhs)
    add = b.fadd if dtype.is_float else b.ll.or_ if dtype.category == "bool" else b.ll.add
    sums = b.alloca(dtype, plan.rows * plan.columns, align_bytes=64)
    for i in range(plan.rows * plan.columns):
        parts = acc[i * plan.unroll : (i + 1) * plan.unroll]
        total = parts[0]
        for part in parts[1:]:
            total = add(total, part)
        b.store(b.reduce(total, add), sums, dtype, i)
    down = b.min(plan.rows, b.sub(frame.index(plan.m.extent), b["row"]))
    across = b.min(plan.columns, b.sub(frame.index(plan.n.extent), b["column"]))
    with b.loop("i", 0, down, **ROLLED) as i, b.loop("j", 0, across, **ROLLED) as j:
        here = frame.with_places({plan.m: b.add(b["row"], i), plan.n: b.add(b["column"], j)})
        acc_value = b.load(sums, dtype, b.add(b.mul(i, plan.columns), j))
        for store in plan.problem.stores:
            store_scalar(here, store, scalar_value(here, store.value, acc_value))
    b.ret()
    return b.fn


def _clamped(frame: Frame, first: Index, count: int, axis: Axis) -> list[Index]:
    b = frame.b
    last = b.sub(frame.index(axis.extent), 1)
    return [b.min(b.add(first, i), last) if i else first for i in range(count)]


def _start(frame: Frame, memory: Memory, more: dict[Axis, Index]) -> ir.Value:
    b = frame.b
    total = frame.index(memory.at.offset)
    for axis, place in {**frame.places, **more}.items():
        total = b.add(total, b.mul(place, frame.index(memory.stride(axis))))
    return b.at(frame.pointers[memory.buffer], memory.dtype, total)


def _sum(frame: Frame, plan: DotPlan, axes, acc, lhs, rhs):
    """Loops over k: outer axes step by step, the last one vector by vector."""
    b = frame.b
    if len(axes) == 1:
        return _sum_contiguous(frame, plan, axes[0], acc, lhs, rhs)
    axis = axes[0]
    strides = [frame.index(o.memory.stride(axis)) for o in (plan.problem.lhs, plan.problem.rhs)]
    with b.carried_loop(axis.name, 0, frame.index(axis.extent), acc, unroll=False) as loop:
        moved = [
            [_moved(frame, p, o.memory, b.mul(loop.index, s)) for p in places]
            for places, o, s in zip((lhs, rhs), (plan.problem.lhs, plan.problem.rhs), strides)
        ]
        loop.next(*_sum(frame, plan, axes[1:], loop.carried, *moved))
    return loop.results


def _moved(frame: Frame, place: ir.Value, memory: Memory, elements: Index) -> ir.Value:
    return frame.b.ll.gep(place, [frame.b.index(elements)], source_etype=memory_type(memory.dtype))


def _sum_contiguous(frame: Frame, plan: DotPlan, axis: Axis, acc, lhs, rhs):
    b, lanes = frame.b, plan.lanes
    size = frame.index(axis.extent)
    wide = lanes * plan.unroll
    whole = b.mul(b.div_nonneg(size, wide), wide)
    vectors = b.mul(b.div_nonneg(size, lanes), lanes)
    with b.carried_loop("p", 0, whole, acc, wide, unroll=False) as loop:
        new = list(loop.carried)
        for u in range(plan.unroll):
            new = _step(frame, plan, new, lhs, rhs, b.add(loop.index, u * lanes), u, None)
        loop.next(*new)
    acc = loop.results
    if plan.unroll > 1 and not (isinstance(size, int) and whole == vectors):
        with b.carried_loop("p", whole, vectors, acc, lanes, unroll=False) as loop:
            loop.next(*_step(frame, plan, list(loop.carried), lhs, rhs, loop.index, 0, None))
        acc = loop.results
    if isinstance(size, int) and size % lanes == 0:
        return acc
    mask = b.tail_mask(lanes, b.sub(size, vectors))
    return _step(frame, plan, list(acc), lhs, rhs, vectors, 0, mask)


def _step(frame: Frame, plan: DotPlan, acc: list, lhs, rhs, place: Index, turn: int, mask) -> list:
    """One vector of k for every result; accumulator `turn` of each."""
    b, dtype = frame.b, plan.problem.dtype

    def vector(base, memory: Memory):
        if mask is not None:
            value = b.load_masked(base, memory.dtype, place, mask)
        else:
            value = b.load_vector(base, memory.dtype, place, plan.lanes)
        return widened(b, value, memory.dtype, dtype)

    left = [vector(p, plan.problem.lhs.memory) for p in lhs]
    right = [vector(p, plan.problem.rhs.memory) for p in rhs]
    new = list(acc)
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            at = (i * plan.columns + j) * plan.unroll + turn
            new[at] = multiply_add(b, dtype, x, y, acc[at])
    return new
