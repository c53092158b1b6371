"""Target: plain data whose key tells machines apart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from kcompile.target import PRESETS, X86_64_V3, X86_64_V4, Target


def test_lanes():
    assert (X86_64_V4.lanes(4), X86_64_V4.lanes(8), X86_64_V3.lanes(2)) == (16, 8, 16)
    assert Target("x86_64-unknown-linux-gnu", vector_bytes=16).lanes(32) == 1


@pytest.mark.parametrize("field", [f.name for f in fields(Target)])
def test_every_field_is_part_of_the_key(field):
    old = getattr(X86_64_V4, field)
    changed = replace(X86_64_V4, **{field: old + "x" if isinstance(old, str) else not old if old is True else old + 1})
    assert changed.key() != X86_64_V4.key()


def test_presets_differ():
    assert len({t.key() for t in PRESETS.values()}) == len(PRESETS)


def test_with_triple():
    windows = X86_64_V3.with_triple("x86_64-pc-windows-gnu")
    assert windows.arch == "x86_64" and windows.vector_bytes == X86_64_V3.vector_bytes
