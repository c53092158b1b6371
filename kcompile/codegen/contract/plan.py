"""Plan: every decision of one contraction kernel as plain data; `describe` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcompile.codegen.contract.affine import Memory, ceildiv, extent
from kcompile.codegen.contract.border import Window
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.tiles import Columns, RowTile, column_blocks
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal

if TYPE_CHECKING:
    from kcompile.codegen.contract.planes import Planes

PRODUCTS_PER_OPERATION = 8  # this many multiply-adds take as long as one operation of a simple kernel
PAGE_BYTES = 4096
FAR_BYTES = 1 << 18  # fewer are in a near cache
FEWEST_MAKING_ROWS = 6  # of a tile that makes a panel: beside so many products two more stores per vector are free
FEWEST_UNITS, FEWEST_GROUPS = 16, 4  # row tiles, and groups of column blocks, of a plan that packs late
DIRECT, SCRATCH, TRANSPOSED = "direct", "scratch", "transposed"


@dataclass(frozen=True)
class Plan:
    """A tiled contraction.

    problem:   rhs is the operand read in vectors, lhs the one read in scalars (or vectors, see below).
    vector:    the axis vectors lie along; an axis of extent 1 if there is none.
    a, b:      lhs and rhs in memory. b's stride along `vector` is 1; a's is 0, or 1 if `lhs_is_vector`.
    packed: b is a copy in panels. turned: a is a copy with k along its rows (turn.py).
    beside: a is a copy whose elements lie beside their partners in k (beside.py).
    planes: b is a copy of an image, its pixels side by side (planes.py).
    block_stride: elements of b from one column block to the next.
    outer:     axes run one point at a time: batch, and those of n that are not `vector`.
    k, cut, k_steps: axes of the sum; from `cut` on they form blocks of `k_steps` steps of axis `cut`.
    blocked:   True if k may have more than one block: partial sums wait in a scratch.
    finish:    DIRECT: stores are evaluated in registers; SCRATCH: in a loop over the stored tile;
               TRANSPOSED: the same on the transposed tile, vectors along the rows.
    units_per_task, blocks_per_task: row tiles and column blocks that one task runs over.
    crosswise: lhs is read along k and turned in registers (crosswise.py).
    asked: operands that lie far away and whose lines are asked for before they are needed (ask.py).
    chains: partial sums of each result that a tile keeps, added at its end.
    ahead: each block of k asks for the lines of the next one (see longk.py).
    blocks_per_share: 0, or: k itself is shared among tasks, this many blocks each (see `shares`).
    packs_late, copies_late: panels are made, rows of lhs are copied, by the task that first needs them (late.py).
    lined: those rows lie in lines (lines.py); `a` then has strides of whole groups of steps and whole row tiles.
    windows: those on a border whose zeros are not multiplied (border.py).
    """

    problem: Problem
    lanes: int
    vector: Axis
    lhs_is_vector: bool
    a: Memory
    b: Memory
    packed: bool
    turned: bool
    block_stride: DimLike
    outer: tuple[Axis, ...]
    rows: RowTile
    columns: Columns
    k: tuple[Axis, ...]
    cut: int
    k_steps: DimLike
    blocked: bool
    finish: str
    units_per_task: int
    cycles: float
    blocks_per_task: int = 1
    blocks_per_share: DimLike = 0
    ahead: bool = False
    crosswise: bool = False
    asked: tuple[str, ...] = ()
    chains: int = 1
    beside: bool = False
    packs_late: bool = False
    copies_late: bool = False
    lined: bool = False
    planes: Planes | None = None
    windows: tuple[Window, ...] = ()

    @property
    def ends_in_half(self) -> bool:
        """True if blocks of k cut the axis of pairs and its last may be half: a block then has single steps."""
        pair = self.problem.pair
        return self.blocked and pair is not None and not pair.is_even and self.k[self.cut] == pair.axis

    @property
    def prefetched(self) -> bool:
        """True if each row of the next column block must be asked for: rows pages apart, which no hardware foresees."""
        if self.packed or not self.k or self.blocks == 1 or self.rows.max_rows < 6:
            return False
        return abs(nominal(self.b.stride(self.k[-1]))) * self.b.dtype.size_bytes >= PAGE_BYTES

    @property
    def may_be_late(self) -> bool:
        """True if panels may be made by tasks: many row tiles meet each, and there are some groups of column blocks."""
        if not self.packed or self.keeps or self.blocks_per_share or self.columns.fold > 1:
            return False  # what is folded in place must not be made twice at once
        groups = nominal(extent(self.outer) * self.groups)
        return nominal(self.units) >= FEWEST_UNITS and groups >= FEWEST_GROUPS

    @property
    def makes_panels(self) -> bool:
        """True if a panel that is packed late is made by the first tile that needs it, while it multiplies."""
        rhs = self.problem.rhs.memory
        if not self.packs_late or self.problem.pair or rhs is None or not self.k:
            return False
        if self.windows or self.problem.rhs.k:
            return False  # a tile that leaves out steps would leave them out of the panel; or it has other steps
        return rhs.stride(self.vector) == 1 and self.rows.max_rows >= FEWEST_MAKING_ROWS

    @property
    def panel_marks(self) -> DimLike:
        """Marks that say which panels are there: one for each, or for each in each block of k."""
        return self.panels * (self.k_blocks if self.makes_panels else 1)

    @property
    def may_copy_late(self) -> bool:
        """True if tasks may copy rows of lhs: those are copied that k runs along, and none twice."""
        rows = self.problem.lhs.rows
        return self.is_divisible and rows is not None and len(self.k) == 1 and not self.problem.pair

    @property
    def keeps(self) -> bool:
        """True if the panels last from call to call."""
        return self.packed and self.problem.rhs.is_steady

    @property
    def asks_after(self) -> DimLike:
        """Each tile asks for what lies so many elements of rhs further: the next panel of weights; 0: it does not.

        Weights that are many come from far. While all row tiles meet one panel, the next one arrives.
        """
        rhs = self.problem.rhs
        if not rhs.is_steady or self.lhs_is_vector or self.rows.max_rows < 6 or not self.k:
            return 0
        if not self.packed:
            if nominal(self.b.stride(self.k[-1])) != self.block_lanes:
                return 0  # not in panels, see `prefetched`
            if nominal(dim.product(self.problem.shapes[self.b.buffer])) * self.b.dtype.size_bytes < FAR_BYTES:
                return 0
        return extent(self.k) * self.block_lanes

    @property
    def windows_in_tile(self) -> tuple[tuple[Window, int], ...]:
        """Those whose place in the result moves along the rows of a tile, and how many rows that is."""
        rows = {self.rows.along: self.rows.sizes[0], **{a: a.extent for a in self.rows.inside}}
        return tuple((w, rows[w.out]) for w in self.windows if w.out in rows)

    def is_whole(self, axis: Axis) -> bool:
        """True if every tile has all of an axis of the result along its rows."""
        return axis in self.rows.inside or (axis == self.rows.along and self.rows.sizes == (axis.extent,))

    @property
    def windows_begun(self) -> tuple[Axis, ...]:
        """Their axes of k whose first step in a block a tile must be told."""
        return tuple(w.tap for w in self.windows if self.blocked and w.tap in self.k[: self.cut + 1])

    @property
    def block_lanes(self) -> int:
        return self.columns.vectors * self.lanes

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector, and so the alignment of tiles in a scratch."""
        return self.lanes * self.problem.dtype.size_bytes

    @property
    def blocks(self) -> DimLike:
        """Column blocks."""
        return column_blocks(self.vector.extent, self.columns, self.lanes)

    @property
    def panel_axes(self) -> tuple[Axis, ...]:
        """Axes run one point at a time that rhs has: each point has panels of its own."""
        return tuple(a for a in self.outer if self.problem.rhs.uses(a))

    @property
    def panel_k(self) -> tuple[Axis, ...]:
        """Axes of the sum along which panels are made."""
        return self.problem.rhs.k or self.k

    @property
    def panels(self) -> DimLike:
        """Panels of a packed rhs."""
        return extent(self.panel_axes) * self.blocks

    @property
    def tile_axes(self) -> tuple[Axis, ...]:
        """Axes run one point at a time that lhs has: each point has row tiles of its own."""
        return tuple(a for a in self.outer if self.problem.lhs.uses(a))

    @property
    def groups(self) -> DimLike:
        """Groups of column blocks: what a task has of them."""
        return ceildiv(self.blocks, self.blocks_per_task)

    @property
    def units_along(self) -> DimLike:
        """Row tiles along the tiled axis."""
        return ceildiv(self.rows.along.extent, self.rows.sizes[0])

    @property
    def units(self) -> DimLike:
        """Row tiles of one column block."""
        return extent(self.rows.outside) * self.units_along

    @property
    def chunks(self) -> DimLike:
        """Tasks of one group of column blocks."""
        return ceildiv(self.units, self.units_per_task)

    @property
    def tiles_tasks(self) -> DimLike:
        """Tasks that make up the result: (outer, group, chunk)."""
        return extent(self.outer) * self.groups * self.chunks

    @property
    def k_blocks(self) -> DimLike:
        """Blocks of k."""
        if not self.k:
            return 1
        return extent(self.k[: self.cut]) * ceildiv(self.k[self.cut].extent, self.k_steps)

    @property
    def shares(self) -> DimLike:
        """Parts of k that are summed by tasks of their own; depends on sizes only."""
        return ceildiv(self.k_blocks, self.blocks_per_share) if self.blocks_per_share != 0 else 1

    @property
    def is_divisible(self) -> bool:
        """True if row tiles may be grouped as the threads' parts fall: nothing is kept per group but its scratch."""
        return self.units_per_task * self.blocks_per_task > 1 and not self.blocks_per_share and not self.problem.sums

    @property
    def tasks(self) -> DimLike:
        """What the pool divides: tiles where these may be grouped anyhow, so that all threads end together."""
        if self.is_divisible:
            return extent(self.outer) * self.blocks * self.units
        return self.shares * self.tiles_tasks

    @property
    def task_elements(self) -> int:
        """Elements of scratch one task takes."""
        squares = self.lanes * self.block_lanes if self.finish == TRANSPOSED else 0  # whole squares are read
        return self.units_per_task * self.blocks_per_task * self.unit_elements + squares

    @property
    def is_parked(self) -> bool:
        """True if tiles are ever written to a scratch."""
        return self.blocked or self.finish != DIRECT

    @property
    def unit_elements(self) -> int:
        """Elements of scratch one row tile takes."""
        return self.rows.max_rows * self.block_lanes

    @property
    def cost_per_task(self) -> DimLike:
        steps = dim.floordiv(extent(self.k), self.shares * PRODUCTS_PER_OPERATION) + 1
        tiles = 1 if self.is_divisible else self.units_per_task * self.blocks_per_task
        return steps * tiles * self.unit_elements

    def describe(self) -> str:
        """One line for people: path, tile, blocks."""
        tile = f"{'+'.join(str(s * self.rows.inner_rows) for s in self.rows.sizes[:1])}x{self.block_lanes}"
        parts = [f"tiled {tile}", f"k {'x'.join(str(a.extent) for a in self.k) or 1}"]
        if self.blocked:
            parts.append(f"block {self.k_steps} of k[{self.cut}]")
        if self.problem.pair:
            parts.append("pairs")
        if self.lhs_is_vector:
            parts.append("elementwise rows")
        if self.crosswise:
            parts.append("crosswise")
        if self.blocks_per_share:
            parts.append(f"{self.shares} shares")
        if self.ahead:
            parts.append("asked ahead")
        if self.blocks_per_task > 1:
            parts.append(f"tasks of {self.units_per_task}x{self.blocks_per_task} tiles")
        if self.planes:
            parts.append("planes")
        if self.windows:
            parts.append(f"border of {' and '.join(w.tap.name for w in self.windows)} left out")
        if self.columns.fold > 1:
            parts.append(f"last vector of {' and '.join(map(str, self.columns.folds))} steps")
        if self.columns.upright:
            parts.append(f"{self.columns.tail_lanes} columns upright")
        if self.packed:
            parts.append("kept panels" if self.keeps else "packed late" if self.packs_late else "packed")
        if self.turned:
            parts.append("turned")
        if self.beside:
            parts.append("partners beside")
        if self.problem.lhs.rows:
            how = " late, in lines" if self.lined else " late" if self.copies_late else ""
            parts.append(f"rows copied{how}")
        if self.finish != DIRECT:
            parts.append(self.finish)
        return ", ".join(parts)


def shared_elements(plan: Plan) -> DimLike:
    """Elements of the packed rhs in the shared workspace."""
    return 0 if plan.keeps else panel_elements(plan)


def panel_elements(plan: Plan) -> DimLike:
    """Elements of the packed rhs."""
    return plan.panels * extent(plan.k) * plan.block_lanes if plan.packed else 0


def partial_elements(plan: Plan) -> DimLike:
    """Elements of the partial sums, if k is shared among tasks."""
    return plan.tasks * plan.task_elements if plan.blocks_per_share else 0
