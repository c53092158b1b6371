"""Profiles: a record per step, sums that fit, nothing changed, pages that are well formed."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from kcompile import pipeline
from kcompile.codegen.operations import weight
from kcompile.codegen.program import Run
from kcompile.errors import ArgumentError
from kcompile.forms.work import Work, work
from kcompile.runtime import profile as module
from kcompile.runtime.machine import COMPUTE, Level, Machine
from kcompile.runtime.profile import profile
from kcompile.runtime.profile_text import notes, table
from tests.passes.test_blocks import BIASES, attention
from tests.passes.test_blocks import data as attention_data
from tests.passes.test_program import GRAPHS, arrays_for, dense_training
from tests.runtime.test_executable import split


def profiled(make, rows=6, **options):
    graph = make()
    built = pipeline.build(graph)
    inputs, variables = split(graph, arrays_for(graph, rows))
    return built, variables, profile(built, inputs, variables, budget_s=0.01, **options)


@pytest.mark.parametrize("make", GRAPHS)
def test_a_record_per_step(make):
    built, _, found = profiled(make)
    steps = built.program.steps
    assert len(found.records) == len(steps) and found.sizes == {"batch": 6}
    for record, step in zip(found.records, steps):
        assert math.isfinite(record.seconds) and record.seconds >= 0
        assert record.limit_s > 0 and record.bound in (COMPUTE, *(v.name for v in found.machine.levels))
        assert (record.kernel == step.kernel.name) if isinstance(step, Run) else (record.kernel in ("copy", "fill"))
    starts = [r.start_s for r in found.records]
    assert starts == sorted(starts) and found.total_s > 0


def test_work_and_paths_are_those_of_the_forms():
    built, _, found = profiled(dense_training, rows=9)
    kernels = [r for r in found.records if r.kernel in built.forms]
    assert {r.kernel for r in kernels} == set(built.forms)
    for record in kernels:
        form = built.forms[record.kernel]
        assert record.work == work(form, {"batch": 9, "workers": 1}, partial(weight, target=built.target))
        assert (record.path == "loops") == (form.kind == "loops") and record.path
    assert any("contract" in r.what for r in kernels)


def test_variables_stay_as_they_are():
    graph = dense_training()
    inputs, variables = split(graph, arrays_for(graph, 6))
    before = {n: a.copy() for n, a in variables.items()}
    profile(pipeline.build(graph), inputs, variables, budget_s=0.01)
    for name, array in before.items():
        np.testing.assert_array_equal(variables[name], array)


def test_the_steps_compute_what_the_program_does():
    """As many runs of the program, on the same variables, leave the same bits."""
    graph = dense_training()
    built = pipeline.build(graph)
    inputs, variables = split(graph, arrays_for(graph, 6))
    seen = {}
    copies = module._copies

    def remembered(given):
        seen.update(copies(given))
        return seen

    module._copies = remembered
    try:
        found = profile(built, inputs, variables, budget_s=0.0)
    finally:
        module._copies = copies
    program = pipeline.compile(dense_training())
    for _ in range(2 * module.WARM_UP + 2 * found.repetitions):
        program.run(inputs, variables)
    for name, expected in variables.items():
        np.testing.assert_array_equal(seen[name], expected)


def test_pieces_are_the_plan():
    built, _, found = profiled(dense_training)
    sizes = {"batch": 6, "workers": found.machine.threads}
    assert found.arena_bytes == built.program.arena_bytes_for(sizes)
    assert {p.name for p in found.pieces} == {b.name for b in built.plan.buffers}
    for a in found.pieces:
        assert 0 <= a.first <= a.last < len(found.records) and a.offset + a.nbytes <= found.arena_bytes
        for b in found.pieces:  # no two buffers share a byte and a step
            if a is not b and a.nbytes and b.nbytes:
                apart = a.last < b.first or b.last < a.first
                assert apart or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


@pytest.mark.parametrize("make", GRAPHS)
def test_table_and_page(make):
    _, _, found = profiled(make)
    lines = str(found).splitlines()
    assert len(lines) == len(found.records) + 3 + len(notes(found)) and "batch=6" in lines[0]
    slowest = max(found.records, key=lambda r: r.seconds)
    assert int(table(found, by_time=True).splitlines()[2].split()[0]) == slowest.number or slowest.seconds == 0
    page = found.html()
    assert "<script" not in page and "http" not in page and "src=" not in page
    body = page[page.index("<h1>") : page.index("</body>")]
    tree = ElementTree.fromstring(f"<body>{body}</body>")
    assert len(tree.findall(".//tbody/tr")) == len(found.records)
    timeline = tree.find("svg")
    assert len(timeline.findall("rect")) == len(found.records)
    memory = tree.findall("svg")[1:]
    assert len(memory) == (1 if found.pieces else 0)
    assert not memory or len(memory[0].findall("rect")) == len(found.pieces)


def test_a_share_above_the_limit_has_its_reason():
    _, _, found = profiled(dense_training)
    first, second, *others = (replace(r, limit_s=0.5 * r.seconds) for r in found.records)
    changed = replace(found, records=(first, *others))
    assert notes(changed) == []
    second = replace(second, limit_s=2 * second.seconds + 1e-6)
    for bound, reason in (("L2", "nearer cache"), (COMPUTE, "peak")):
        (note,) = notes(replace(found, records=(first, replace(second, bound=bound), *others)))
        assert f"steps {second.number}:" in note and reason in note
        assert note in str(replace(found, records=(replace(second, bound=bound),)))
        assert reason in replace(found, records=(replace(second, bound=bound),)).html()


def test_what_a_loop_touches_again_is_in_a_near_cache():
    limits = Machine(1, 1e12, (Level("L1", 10_000, 1e11), Level("memory", None, 1e9)), operations_per_s=1e12)
    whole, part = Work(0, 0, 100_000), Work(0, 0, 1000)
    once = module.Fact("k", (), (), "loops", whole)
    assert module._limit(once, limits) == (pytest.approx(1e-4), "memory")
    assert module._limit(replace(once, parts=((100, part),)), limits) == (pytest.approx(1e-6), "L1")


def test_names_are_escaped():
    def make():
        graph = dense_training()
        graph.name = "<b>&"
        return graph

    _, _, found = profiled(make)
    assert "<b>" not in found.html() and "&lt;b&gt;&amp;" in found.html()


def test_the_kernels_of_a_loop_are_timed_each_alone():
    graph = attention(gradient=True)
    built = pipeline.build(graph)
    inputs, variables = split(graph, attention_data(graph, 3))
    found = profile(built, inputs, variables, budget_s=0.01)
    loop = max((r for r in found.records if r.kernel == "loop"), key=lambda r: len(r.inner))
    assert len(loop.inner) > 1 and {r.kernel for r in loop.inner} <= set(built.forms)
    assert sum((r.work for r in loop.inner), Work(0, 0, 0)) == loop.work
    assert all(r.seconds > 0 and r.what for r in loop.inner)
    for text in (str(found), found.html()):
        assert all(f"{loop.number}.{n}" in text and r.kernel in text for n, r in enumerate(loop.inner))


def test_wrong_arrays_are_refused():
    built = pipeline.build(dense_training())
    with pytest.raises(ArgumentError):
        profile(built, {}, {})


def test_what_runs_in_a_loop_within_a_loop_counts_as_often_as_it_runs():
    """Attention whose bias is shared by the batch: heads outside, rows of the batch inside."""
    graph = attention(gradient=True, bias=BIASES["each head"])
    built = pipeline.build(graph)

    def flops(batch: int) -> float:
        found = profile(built, attention_data(graph, batch), {}, budget_s=0.001)
        return sum(r.work.flops for r in found.records if r.kernel == "loop")

    assert flops(6) == pytest.approx(3 * flops(2), rel=0.01)
