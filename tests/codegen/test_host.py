"""host.py: this machine as a Target."""

from __future__ import annotations

from kcompile.codegen.host import cache_sizes, host_target


def test_host_target_is_plausible():
    target = host_target()
    assert target is host_target()
    assert target.vector_bytes in (16, 32, 64) and target.vector_registers in (8, 16, 32)
    assert 4096 <= target.l1d_bytes < target.l2_bytes
    assert target.triple.startswith(target.arch) and target.cpu


def describe(folder, index, **files):
    entry = folder / f"index{index}"
    entry.mkdir()
    for name, text in files.items():
        (entry / name).write_text(text + "\n")


def test_cache_sizes_are_read(tmp_path):
    describe(tmp_path, 0, level="1", type="Data", size="48K", coherency_line_size="64")
    describe(tmp_path, 1, level="1", type="Instruction", size="32K", coherency_line_size="64")
    describe(tmp_path, 2, level="2", type="Unified", size="2M", coherency_line_size="64")
    describe(tmp_path, 3, level="3", type="Unified", size="32768K", coherency_line_size="64")
    assert cache_sizes(tmp_path) == {
        "l1d_bytes": 48 * 1024, "l2_bytes": 2 * 1024**2, "l3_bytes": 32 * 1024**2, "cache_line_bytes": 64,
    }  # fmt: skip


def test_damaged_and_missing_descriptions_are_left_out(tmp_path):
    assert cache_sizes(tmp_path / "absent") == {}
    describe(tmp_path, 0, level="1", type="Data", size="?", coherency_line_size="64")
    describe(tmp_path, 1, level="2", type="Unified")
    assert cache_sizes(tmp_path) == {}
