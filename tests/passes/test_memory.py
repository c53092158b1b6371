"""The planner: no overlap for any value of the sizes, and an arena near the live-set bound."""

import dataclasses
import random

import pytest

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.rules import Either, Largest
from kcompile.passes.memory import ALIGN_BYTES, Buffer, Plan, check_plan, lower_bound_bytes, plan_memory

BATCH, TIME = dim.symbol("batch"), dim.symbol("time")
SIZES = [{"batch": b, "time": t} for b, t in ((1, 1), (1, 5000), (2, 2), (7, 33), (128, 2), (1000, 1), (10**9, 10**6))]


def random_buffers(seed: int, count: int = 60) -> list[Buffer]:
    """Of bytes a row, of constant size, of two named sizes, of tasks of 100 rows."""
    draw = random.Random(seed)
    units = [1, BATCH, BATCH * TIME, BATCH * TIME - BATCH, (BATCH + 99) // 100]
    buffers = []
    for n in range(count):
        first = draw.randrange(40)
        size = draw.choice(units) * draw.choice([4, 64, 1000, 4096, 65536])
        buffers.append(Buffer(f"b{n}", size, first, first + draw.randrange(8)))
    return buffers


def overlaps(plan: Plan, sizes: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs alive together that share a byte, from the offsets alone."""
    named = plan.named(sizes)
    spans = [(b, dim.evaluate(plan.offsets[b.name], named), dim.evaluate(b.nbytes, sizes)) for b in plan.buffers]
    return [
        (a.name, b.name)
        for n, (a, start_a, size_a) in enumerate(spans)
        for b, start_b, size_b in spans[n + 1 :]
        if a.first <= b.last and b.first <= a.last and start_a < start_b + size_b and start_b < start_a + size_a
    ]


def total_bytes(plan: Plan, sizes: dict[str, int]) -> int:
    return dim.evaluate(plan.arena_bytes, plan.named(sizes))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_no_overlap_for_any_size(seed, closed):
    plan = plan_memory(random_buffers(seed), closed=closed)
    check_plan(plan)
    assert not (closed and plan.rules)
    for sizes in SIZES:
        assert overlaps(plan, sizes) == []
        named, total = plan.named(sizes), total_bytes(plan, sizes)
        for buffer in plan.buffers:
            offset = dim.evaluate(plan.offsets[buffer.name], named)
            assert offset % ALIGN_BYTES == 0
            assert 0 <= offset and offset + dim.evaluate(buffer.nbytes, sizes) <= total


def test_every_batch_size_has_its_own_offsets():
    """Rows of 4 bytes beside constant ones: which end is higher depends on the batch."""
    plan = plan_memory(random_buffers(3))
    assert any(isinstance(rule, Largest) for rule in plan.rules)
    for batch in range(1, 260, 7):
        assert overlaps(plan, {"batch": batch, "time": 3}) == []


@pytest.mark.parametrize("seed", range(6))
def test_more_rows_never_need_less(seed):
    """An arena for a whole batch serves a short one."""
    plan = plan_memory(random_buffers(seed))
    totals = [total_bytes(plan, {"batch": batch, "time": 3}) for batch in (*range(1, 200), 1000, 10**6)]
    assert totals == sorted(totals)


@pytest.mark.parametrize("seed", range(10))
def test_arena_is_near_the_live_set(seed):
    draw = random.Random(seed)
    chain = [Buffer(f"b{n}", 64 * draw.randrange(1, 500), n, n + draw.randrange(1, 4)) for n in range(80)]
    plan = plan_memory(chain)
    assert not plan.rules, "known sizes have known offsets"
    assert plan.arena_bytes <= 1.05 * lower_bound_bytes(chain, {})


@pytest.mark.parametrize("seed", range(5))
def test_few_rows_and_many_rows_are_both_near_the_live_set(seed):
    """Activations that grow with the batch, gradients of weights that do not, small numbers a row."""
    draw = random.Random(seed)
    forward = [Buffer(f"a{n}", 4 * draw.randrange(1, 300) * BATCH, n, 40 - n) for n in range(20)]
    weights = [Buffer(f"w{n}", 4 * draw.randrange(1, 30_000), 40 - n, 41) for n in range(20)]
    scratch = [Buffer(f"s{n}", 4 * draw.randrange(1, 60_000), n, n) for n in range(0, 40, 3)]
    rows = [Buffer(f"r{n}", 4 * BATCH, n, n + 3) for n in range(40)]
    plan = plan_memory([*forward, *weights, *scratch, *rows])
    check_plan(plan)
    for batch in (1, 2, 8, 32, 128, 1000, 100_000):
        sizes = {"batch": batch}
        assert total_bytes(plan, sizes) <= 1.12 * lower_bound_bytes(plan.buffers, sizes) + 2 * ALIGN_BYTES
        assert overlaps(plan, sizes) == []


def two_orders() -> Plan:
    """Buffers that grow among buffers that do not: which of them go to the bottom changes with the batch."""
    draw = random.Random(0)
    growing = [Buffer(f"g{n}", 64 * draw.randrange(1, 9) * BATCH, n, n + draw.randrange(1, 4)) for n in range(8)]
    fixed = [Buffer(f"f{n}", 64 * draw.randrange(1, 200), n, n + draw.randrange(1, 4)) for n in range(8)]
    return plan_memory([*growing, *fixed])


def test_one_row_and_many_may_take_different_orders():
    plan = two_orders()
    check_plan(plan)
    assert len(plan.stacks) == 2 and any(isinstance(rule, Either) for rule in plan.rules)
    for batch in range(1, 300):
        named = plan.named({"batch": batch})
        lower = min(dim.evaluate(stack.nbytes, named) for stack in plan.stacks)
        assert dim.evaluate(plan.arena_bytes, named) == lower
        assert overlaps(plan, {"batch": batch}) == []


def test_closed_plans_are_polynomials_that_hold_what_names_would():
    buffers = [Buffer("a", 64 * BATCH, 0, 1), Buffer("b", 640, 1, 2), Buffer("c", 128, 2, 3), Buffer("d", 64, 0, 3)]
    plan = plan_memory(buffers, closed=True)
    check_plan(plan)
    assert not plan.rules and dim.symbols(plan.arena_bytes) <= {"batch"}
    assert overlaps(plan, {"batch": 1}) == overlaps(plan, {"batch": 100}) == []


def test_bytes_a_row_are_rounded_once():
    plan = plan_memory([Buffer("a", 4 * BATCH, 0, 1), Buffer("b", 12 * BATCH, 1, 2)])
    assert total_bytes(plan, {"batch": 32}) == 4 * 32 + 12 * 32
    assert total_bytes(plan, {"batch": 1}) == 2 * ALIGN_BYTES


def test_a_number_of_workers_is_taken_to_be_likely():
    workers = dim.symbol("workers")
    plan = plan_memory([Buffer("a", 1000 * workers, 0, 1), Buffer("b", 4000, 0, 1)], {"workers": 2})
    check_plan(plan)
    assert overlaps(plan, {"workers": 64}) == []


def test_dead_buffers_share_memory():
    plan = plan_memory([Buffer("a", 256 * BATCH, 0, 1), Buffer("b", 256 * BATCH, 1, 2), Buffer("c", 256 * BATCH, 2, 3)])
    assert plan.offsets["a"] == plan.offsets["c"]
    assert plan.arena_bytes == 512 * BATCH


def test_sizes_may_come_out_as_nothing_for_few_rows():
    """Windows of two: one row has none, and what is made for each window no bytes."""
    windows = (BATCH - 2) // 2 + 1
    plan = plan_memory([Buffer("a", windows * 4, 0, 1), Buffer("b", (windows - 1) * 400, 1, 2)])
    check_plan(plan)
    assert not any(overlaps(plan, {"batch": count}) for count in (2, 3, 4, 100))


def test_nothing_to_place():
    assert plan_memory([]).arena_bytes == 0
    check_plan(plan_memory([]))


def test_checker_sees_an_overlap():
    plan = plan_memory([Buffer("a", 64, 0, 1), Buffer("b", 64, 1, 2)])
    (stack,) = plan.stacks
    lower, upper = sorted(plan.offsets, key=plan.offsets.get)
    for broken in (
        dataclasses.replace(stack, offsets={"a": 0, "b": 0}),
        dataclasses.replace(stack, beneath={"a": (), "b": ()}),
        dataclasses.replace(stack, beneath={"a": ("b",), "b": ("a",)}),
        dataclasses.replace(stack, nbytes=64),
    ):
        with pytest.raises(CompilerBug, match=r"overlap|lies on|beyond"):
            check_plan(dataclasses.replace(plan, offsets=broken.offsets, stacks=(broken,)))
    with pytest.raises(CompilerBug, match=f"{upper} is placed at 0"):
        check_plan(dataclasses.replace(plan, offsets={lower: 0, upper: 0}))


def test_checker_sees_a_wrong_choice():
    plan = two_orders()
    crossed = tuple(
        dataclasses.replace(rule, first=rule.second, second=rule.first) if isinstance(rule, Either) else rule
        for rule in plan.rules
    )
    with pytest.raises(CompilerBug, match="is placed at"):
        check_plan(dataclasses.replace(plan, rules=crossed))
