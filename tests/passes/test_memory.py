"""The planner: no overlap for any value of the sizes, and an arena near the live-set bound."""

import random

import pytest

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.passes.memory import ALIGN_BYTES, Buffer, Plan, check_plan, lower_bound_bytes, plan_memory

BATCH, TIME = dim.symbol("batch"), dim.symbol("time")


def random_buffers(seed: int, count: int = 60) -> list[Buffer]:
    draw = random.Random(seed)
    units = [1, BATCH, BATCH * TIME, BATCH * TIME - BATCH]
    buffers = []
    for n in range(count):
        first = draw.randrange(40)
        size = draw.choice(units) * draw.choice([4, 64, 1000, 4096, 65536])
        buffers.append(Buffer(f"b{n}", size, first, first + draw.randrange(8)))
    return buffers


def overlaps(plan: Plan, sizes: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs alive together that share a byte, from the offsets alone."""
    spans = [(b, dim.evaluate(plan.offsets[b.name], sizes), dim.evaluate(b.nbytes, sizes)) for b in plan.buffers]
    return [
        (a.name, b.name)
        for n, (a, start_a, size_a) in enumerate(spans)
        for b, start_b, size_b in spans[n + 1 :]
        if a.first <= b.last and b.first <= a.last and start_a < start_b + size_b and start_b < start_a + size_a
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_overlap_for_any_size(seed):
    plan = plan_memory(random_buffers(seed))
    check_plan(plan)
    for sizes in ({"batch": 1, "time": 1}, {"batch": 7, "time": 33}, {"batch": 128, "time": 2}):
        assert overlaps(plan, sizes) == []
        total = dim.evaluate(plan.arena_bytes, sizes)
        for buffer in plan.buffers:
            offset = dim.evaluate(plan.offsets[buffer.name], sizes)
            assert offset % ALIGN_BYTES == 0
            assert 0 <= offset and offset + dim.evaluate(buffer.nbytes, sizes) <= total


@pytest.mark.parametrize("seed", range(10))
def test_arena_is_near_the_live_set(seed):
    draw = random.Random(seed)
    chain = [Buffer(f"b{n}", 64 * draw.randrange(1, 500), n, n + draw.randrange(1, 4)) for n in range(80)]
    plan = plan_memory(chain)
    assert plan.arena_bytes <= 1.05 * lower_bound_bytes(chain, {})


def test_a_buffer_with_a_little_rounding_shares_the_region_of_all_others():
    rounded = 64 * (1580 * BATCH + (16 * BATCH + 63) // 64)
    plan = plan_memory([Buffer("a", 64 * 3000 * BATCH, 0, 1), Buffer("b", rounded, 2, 3)])
    check_plan(plan)
    assert plan.arena_bytes == 64 * 3000 * BATCH
    alone = plan_memory([Buffer("a", 64 * 3000 * BATCH, 0, 1), Buffer("b", 64 * ((BATCH + 31) // 32), 2, 3)])
    assert len(alone.regions) == 2  # a whole row per image would be 32 times what is needed
    for batch in range(200):
        assert dim.evaluate(64 * 1581 * BATCH, {"batch": batch}) >= dim.evaluate(rounded, {"batch": batch})


def test_dead_buffers_share_memory():
    plan = plan_memory([Buffer("a", 256 * BATCH, 0, 1), Buffer("b", 256 * BATCH, 1, 2), Buffer("c", 256 * BATCH, 2, 3)])
    assert plan.offsets["a"] == plan.offsets["c"]
    assert plan.arena_bytes == 512 * BATCH


def test_nothing_to_place():
    assert plan_memory([]).arena_bytes == 0


def test_checker_sees_an_overlap():
    plan = plan_memory([Buffer("a", 64, 0, 1), Buffer("b", 64, 1, 2)])
    slots = dict(plan.slots, b=plan.slots["a"])
    broken = Plan(plan.buffers, plan.offsets, plan.regions, plan.arena_bytes, slots)
    with pytest.raises(CompilerBug, match="a and b overlap"):
        check_plan(broken)
