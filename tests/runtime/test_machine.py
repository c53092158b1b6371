"""The machine's limits: plausible numbers, the right level for a size, code for every kind of target."""

import dataclasses
from dataclasses import replace

import pytest

from kcompile.codegen.llvm import assembly, compile_module
from kcompile.codegen.probe import fma_chains, probe_ir, timeline_ir
from kcompile.runtime.machine import Level, Machine, Point, machine, table
from kcompile.target import PRESETS, Target


def test_measured_once_and_plausible():
    found = machine(1)
    assert machine(1) is found
    # any CPU of the last twenty years; a loop that LLVM removed would be far above
    assert 1e8 < found.flops_per_s < 1e12
    assert 0 <= found.pair_flops_per_s < 2e12
    assert [v.name for v in found.levels][:2] == ["L1", "L2"] and found.levels[-1].name == "memory"
    assert all(1e8 < v.bytes_per_s < 1e13 for v in found.levels)
    sizes = [p.nbytes for p in found.points]
    speeds = [s for p in found.points for s in (p.read_bytes_per_s, p.copy_bytes_per_s, p.write_bytes_per_s)]
    assert sizes == sorted(sizes) and all(1e8 < s < 1e13 for s in speeds)
    assert found.operations_per_s >= found.flops_per_s / 2
    assert "multiply-add" in table(found) and "read memory" in table(found)


def test_the_level_is_the_smallest_that_holds_it():
    found = Machine(1, 1e9, (Level("L1", 100, 3.0), Level("L2", 1000, 2.0), Level("memory", None, 1.0)))
    assert [found.level_for(n).name for n in (0, 100, 101, 1000, 1001)] == ["L1", "L1", "L2", "L2", "memory"]


def test_moving_is_interpolated_between_footprints():
    points = (Point(100, 8.0, 4.0, 2.0), Point(400, 2.0, 1.0, 0.5))
    found = Machine(1, 1e9, (Level("memory", None, 1.0),), points=points)
    assert found.moving_s(50, 0) == 50 / 8 and found.moving_s(25, 25) == 50 / 4  # below the first point
    assert found.moving_s(150, 50) == pytest.approx(100 / 2.5 + 100 / 5)  # halfway: speeds 5 and 2.5
    assert found.moving_s(0, 1000) == 2000 and found.moving_s(1000, 0) == 500  # beyond the last
    assert found.moving_s(10, 40) == 20 / 4 + 30 / 2
    assert found.moving_s(300, 0, touched=100) == 300 / 8
    assert Machine.from_plain(dataclasses.asdict(found)) == found


def test_computing_by_multipliers_or_by_all_units():
    found = Machine(1, 2.0, (), operations_per_s=2.0)
    assert found.computing_s(9, 13) == 9 and found.computing_s(5, 13) == 6.5
    assert Machine(1, 2.0, ()).computing_s(5, 13) == 13


@pytest.mark.parametrize("name", [n for n in PRESETS if "wasm" not in n])
def test_probes_compile_for_every_target(name):
    target = PRESETS[name]
    assert compile_module(probe_ir(target), target)
    assert compile_module(timeline_ir(target), target)


def test_no_chain_and_no_read_is_optimised_away():
    target = PRESETS["x86-64-v4"]
    text = assembly(probe_ir(target), target)
    assert text.count("vfmadd") == fma_chains(target) * 3 // 2 == 36  # those alone, and those with additions between
    assert text.count("vpxor") >= 8
    paired = replace(target, cpu="cooperlake", bf16_pairs=True)
    assert assembly(probe_ir(paired), paired).count("vdpbf16ps") == 24 and "vdpbf16ps" not in text
    assert text.count("vmovntps") == 8 and text.count("vmovntdq") >= 8  # copied, written
    assert "memset" not in text


@pytest.mark.parametrize(("triple", "clock"), [("x86_64-unknown-linux-gnu", 1), ("arm64-apple-macosx12.0.0", 6)])
def test_the_clock_is_the_systems_monotonic_one(triple, clock):
    assert f"@clock_gettime(i32 {clock}," in timeline_ir(Target(triple))
