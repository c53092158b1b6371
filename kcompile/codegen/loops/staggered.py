"""Neighbouring rows that go through the nests of a row one nest apart, in one loop.

    for row t:  for j:  top[t] max= x[t, j]                      memory: the row comes in
                        e[t-1, j] = exp(x[t-1, j] - top[t-1])    arithmetic
                        y[t-2, j] = e[t-2, j] / sum[t-2]         memory: the row goes out

Nest after nest, a row waits for memory, then for arithmetic, and at the end of every sum for a chain of dependent
operations. One nest apart, they happen side by side. Every row is computed as it would be alone: the first and last
rows of a stretch are, nest by nest. What follows the last nest (a logarithm of the sum) waits for TOGETHER rows.

Measured, one thread, beside rows that take turns: softmax of 128 rows of 1000 numbers 19.5 and 15.3 us, of 64 MiB 1.6
and 1.1 ms, cross-entropy of 32 MiB 0.95 and 0.77 ms; rows of less than 512 numbers are slower. Gradient of a softmax,
24 rows of 768, 3.0 and 2.1 us; layer norm 1.15 and 1.03; but two arrays from memory, one row apart, 3.9 and 5.3 ms.
"""

from __future__ import annotations

from kcompile.codegen.loops import streaming
from kcompile.codegen.loops.ahead import COMPUTES, PART_OF_CACHE
from kcompile.codegen.loops.flat import Group, Part, loads_of, mentions, stride
from kcompile.codegen.loops.folds import folds
from kcompile.codegen.loops.reduce import is_scan
from kcompile.codegen.loops.vectors import pattern_of
from kcompile.forms import scalar
from kcompile.forms.records import LOCAL, Accumulate
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.target import Target

MOST_STAGES = 4
LEAST_VECTORS = 40  # of a row: what is done once per row costs more here than where rows take turns
LEAST_BLOCK_VECTORS = 2  # the same where blocks of rows do
MOST_ELEMENTS = 8192  # of a row: longer ones are summed in blocks
MOST_COST = 80  # operations of a point, all nests: more than that has work enough to hide what else there is
FEW_POINTS = 16  # of a nest that is done once, like what has no axis
TOGETHER = 16  # rows whose last numbers are computed together: a vector of them
LINE, PAGE, NEAR = 64, 4096, 1024  # bytes; near: a few steps of a loop
AHEAD_BYTES = 24576  # of an array: asked for before they are needed

Stages = tuple[tuple[int, ...], ...]  # numbers of groups: a nest, and what is computed once before and behind it


def block_stages(part: Part, rows: int, target: Target) -> Stages:
    """The same for blocks of so many short rows, whose numbers are all folded in common.

    Not where two arrays come from beyond the second cache: gradients of a layer norm of 4.7 MB get 6 % slower.
    """
    made = stages(part, target, LEAST_BLOCK_VECTORS)
    nests = [part.groups[numbers[0]] for numbers in made]
    if _rows_read(part, nests) > 1 and streaming.may_exceed(part, target.l2_bytes):
        return ()
    for k, numbers in enumerate(made):
        body = part.groups[numbers[0]].body
        own = {s.buffer for s in body if isinstance(s, Accumulate)}
        if own != folds(part, part.groups[numbers[0]], target) or (k > 0 and in_order(numbers)[0]):
            return ()
    return made if made and _bytes_between(part, made, rows) <= 3 * target.l1d_bytes // 4 else ()


def stages(part: Part, target: Target, least_vectors: int = LEAST_VECTORS) -> Stages:
    """What a part does at the same time for neighbouring rows; empty if it goes nest by nest."""
    found: list[list[int]] = []
    before: list[int] = []
    for n, group in enumerate(part.groups):
        if group.spans and not _is_short(group):
            found.append([n, *before])
            before = []
        elif not found:
            before.append(n)
        else:
            found[-1].append(n)
    nests = [part.groups[numbers[0]] for numbers in found]
    axes = [only_axis(g) for g in nests]
    if not part.outer or not 2 <= len(found) <= MOST_STAGES or None in axes or len({a.extent for a in axes}) > 1:
        return ()
    patterns = [pattern_of(part, g.body, a, target) for g, a in zip(nests, axes)]
    extent = axes[0].extent
    if not all(dim.is_static(b.type.size) for b in part.buffers.values() if b.role == LOCAL):
        return ()
    if None in patterns or len({p.lanes for p in patterns}) > 1 or any(is_scan(g.body) for g in part.groups):
        return ()
    if not least_vectors * patterns[0].lanes <= extent <= MOST_ELEMENTS:
        return ()
    costs = [scalar.cost(*(s.value for s in g.body)) for g in nests]
    if sum(costs) > MOST_COST:
        return ()
    cheap, several = max(costs) < COMPUTES, _rows_read(part, nests) > 1
    if _is_far(part, target) and (cheap or several):  # memory is the slower for it
        return ()
    if cheap and several and streaming.may_exceed(part, target.l2_bytes):  # so is the last cache, by a little
        return ()
    made = tuple(tuple(numbers) for numbers in found)
    return made if _bytes_between(part, made) <= 3 * target.l1d_bytes // 4 else ()


def gap(part: Part, stages: Stages, target: Target) -> int:
    """How many rows a nest is behind the one before it: two where they fit, as a row's last sums take a while.

    One where memory is waited for: cross-entropy of 32 MiB takes 0.85 ms so, and 0.97 with two.
    """
    return 2 if stages and not _is_far(part, target) and 2 * _bytes_between(part, stages, 2) < target.l1d_bytes else 1


def _is_far(part: Part, target: Target) -> bool:
    """True if the arrays are larger than the last cache, or could be."""
    return streaming.may_exceed(part, max(target.l2_bytes, target.l3_bytes))


def _rows_read(part: Part, nests: list[Group]) -> int:
    """Arrays of which every row reads a row of its own."""
    loads = [(n, only_axis(g)) for g in nests for n in loads_of(g.body) if part.buffers[n.buffer].role != LOCAL]
    row = part.outer[-1]
    return len({n.buffer for n, axis in loads if mentions(n.index[0], row) and stride(n.index[0], axis) != 0})


def _is_short(group: Group) -> bool:
    """True for a nest over a few points."""
    axis = only_axis(group)
    return axis is not None and axis.extent <= FEW_POINTS


def in_order(numbers: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the groups of a stage: what comes before its nest, and what follows it."""
    return tuple(n for n in numbers if n < numbers[0]), tuple(n for n in numbers if n > numbers[0])


def only_axis(group: Group) -> Axis | None:
    """The axis of a nest over one whole axis of known length."""
    axis = group.spans[0].axis if len(group.spans) == 1 and group.spans[0].is_whole else None
    return axis if axis is not None and dim.is_static(axis.extent) else None


def late(part: Part, stages: Stages) -> tuple[int, ...]:
    """The groups behind the last nest, if they can wait for those of more rows: they read and make numbers alone."""
    _, numbers = in_order(stages[-1])
    touched = [s.buffer for n in numbers for s in part.groups[n].body]
    touched += [x.buffer for n in numbers for x in loads_of(part.groups[n].body)]
    wide = any(part.buffers[name].role == LOCAL and part.buffers[name].type.size != 1 for name in touched)
    return () if wide else numbers


def slots(stages: Stages, size: int, gap: int) -> int:
    """Rows whose local buffers of `size` elements are kept at once, a power of two.

    Of numbers as many as wait, and those of the rows that go on meanwhile.
    """
    return 2 * TOGETHER if size == 1 else 1 << (gap * (len(stages) - 1)).bit_length()


def rows_asked_for(part: Part, stages: Stages, gap: int, target: Target) -> int:
    """How many rows further on those are that a nest asks memory for."""
    row = 4 * only_axis(part.groups[stages[0][0]]).extent
    return max(gap * (len(stages) - 1) + 1, min(AHEAD_BYTES, target.l2_bytes // PART_OF_CACHE) // row)


def apart(nbytes: int) -> int:
    """Bytes from a local row to the next: a processor takes a load for one of what was just stored, if the addresses
    differ by multiples of a page or little more."""
    nbytes = -(-nbytes // LINE) * LINE
    return nbytes + NEAR if min(nbytes % PAGE, -nbytes % PAGE) < NEAR else nbytes


def _bytes_between(part: Part, stages: Stages, gap: int = 1) -> int:
    """Bytes of the rows that one nest leaves in the nearest cache for a later one."""
    touched: dict[str, set[int]] = {}
    nests = [part.groups[numbers[0]] for numbers in stages]
    for k, nest in enumerate(nests):
        body, axis = nest.body, only_axis(nest)
        places = [(s.buffer, s.index[0]) for s in body] + [(n.buffer, n.index[0]) for n in loads_of(body)]
        for name, place in places:
            if stride(place, axis) not in (0, None):
                own = part.buffers[name].role == LOCAL or mentions(place, part.outer[-1])
                touched.setdefault(name, set()).add(k if own else 0)
    row = only_axis(nests[0]).extent
    rows = {name: gap * (max(at) - min(at)) + 1 for name, at in touched.items()}
    return sum(row * part.buffers[name].type.dtype.size_bytes * count for name, count in rows.items())
