"""The machine's limits: plausible numbers, the right level for a size, code for every kind of target."""

from dataclasses import replace

import pytest

from kcompile.codegen.llvm import assembly, compile_module
from kcompile.codegen.probe import fma_chains, probe_ir, timeline_ir
from kcompile.runtime.machine import Level, Machine, machine, table
from kcompile.target import PRESETS, Target


def test_measured_once_and_plausible():
    found = machine(1)
    assert machine(1) is found
    # any CPU of the last twenty years; a loop that LLVM removed would be far above
    assert 1e8 < found.flops_per_s < 1e12
    assert 0 <= found.pair_flops_per_s < 2e12
    assert [v.name for v in found.levels][:2] == ["L1", "L2"] and found.levels[-1].name == "memory"
    assert all(1e8 < v.bytes_per_s < 1e13 for v in found.levels)
    assert "multiply-add" in table(found) and "read memory" in table(found)


def test_the_level_is_the_smallest_that_holds_it():
    found = Machine(1, 1e9, (Level("L1", 100, 3.0), Level("L2", 1000, 2.0), Level("memory", None, 1.0)))
    assert [found.level_for(n).name for n in (0, 100, 101, 1000, 1001)] == ["L1", "L1", "L2", "L2", "memory"]


@pytest.mark.parametrize("name", [n for n in PRESETS if "wasm" not in n])
def test_probes_compile_for_every_target(name):
    target = PRESETS[name]
    assert compile_module(probe_ir(target), target)
    assert compile_module(timeline_ir(target), target)


def test_no_chain_and_no_read_is_optimised_away():
    target = PRESETS["x86-64-v4"]
    text = assembly(probe_ir(target), target)
    assert text.count("vfmadd") == fma_chains(target) == 24
    assert text.count("vpxor") >= 8
    paired = replace(target, cpu="cooperlake", bf16_pairs=True)
    assert assembly(probe_ir(paired), paired).count("vdpbf16ps") == 24 and "vdpbf16ps" not in text


@pytest.mark.parametrize(("triple", "clock"), [("x86_64-unknown-linux-gnu", 1), ("arm64-apple-macosx12.0.0", 6)])
def test_the_clock_is_the_systems_monotonic_one(triple, clock):
    assert f"@clock_gettime(i32 {clock}," in timeline_ir(Target(triple))
