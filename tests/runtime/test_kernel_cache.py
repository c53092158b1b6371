"""Kernels are found on disk by their forms: a hit needs neither emission nor LLVM, and changes no bit."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kcompile import flags, pipeline
from kcompile.codegen.host import host_target
from kcompile.runtime import cache, kernels
from kcompile.target import X86_64_V3
from tests.passes.test_program import arrays_for, dense_training
from tests.runtime.test_executable import split

FRESH = 64  # rows of the batch


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """A cache of its own for each test."""
    cache._open.cache_clear()
    place = tmp_path / "cache"
    with flags.scoped(cache=True, cache_dir=str(place)):
        yield place
    cache._open.cache_clear()


def compiled(**arguments):
    """Compile once more: (emitted, compiled by LLVM, the build)."""
    before = pipeline.counters.emitted, pipeline.counters.kernels
    built = pipeline.build(dense_training(), **arguments)
    return pipeline.counters.emitted - before[0], pipeline.counters.kernels - before[1], built


def results():
    """What a training step gives."""
    graph = dense_training()
    inputs, variables = split(graph, arrays_for(graph, FRESH))
    outputs = pipeline.compile(graph).run(inputs, variables)
    return {**outputs, **variables}


def test_the_second_time_nothing_is_emitted_or_compiled():
    emitted, made, first = compiled()
    assert emitted == len(first.kernels) > 5 and made == emitted + 1  # and the entry
    emitted, made, second = compiled()
    assert (emitted, made) == (0, 0)
    assert second.objects == first.objects and second.entry_ir == first.entry_ir
    assert second.plan.offsets == first.plan.offsets


def test_what_comes_from_disk_can_still_be_looked_at():
    _, _, first = compiled()
    _, _, second = compiled()
    for name, kernel in first.kernels.items():
        assert second.kernels[name].ir_text == kernel.ir_text


def test_results_are_the_same_to_the_bit():
    first, second = results(), results()
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_another_target_finds_nothing():
    compiled()
    emitted, made, built = compiled(target=X86_64_V3)
    assert emitted == len(built.kernels) and made == emitted + 1


def test_another_code_generator_finds_nothing(monkeypatch):
    _, _, built = compiled()
    monkeypatch.setattr(kernels, "fingerprint", lambda: "another")
    assert compiled()[0] == len(built.kernels)


def spoil_checksum(form, path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def cut(form, path):
    path.write_bytes(path.read_bytes()[:-20])


def not_a_record(form, path):
    cache.put(path.stem, b"a whole entry of something else")


def other_kernel(form, path):
    key = kernels.kernel_key(form, host_target())
    cache.put(key, cache.get(key).replace(b'{"name":"kc_', b'{"name":"xx_', 1))


@pytest.mark.parametrize("spoil", [spoil_checksum, cut, not_a_record, other_kernel])
def test_a_damaged_entry_is_made_again(folder, spoil):
    first = results()
    _, _, built = compiled()
    form = next(iter(built.forms.values()))
    path = folder / f"{kernels.kernel_key(form, built.target)}.kco"
    whole = path.read_bytes()
    spoil(form, path)
    assert path.read_bytes() != whole
    before = cache.counters.damaged
    emitted, made, again = compiled()
    assert (emitted, made) == (1, 1) and cache.counters.damaged == before + 1
    assert path.read_bytes() == whole and again.objects == built.objects
    second = results()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_program_that_shares_kernels_compiles_only_the_others():
    first = pipeline.build(dense_training())
    keep = next(iter(first.forms.values()))
    with kernels.making([keep, keep], first.target, pipeline.Observer("one")) as work:
        made = work.finish()
    assert [m.is_new for m in made.values()] == [False]


SECOND_PROCESS = """
import numpy as np
from kcompile import pipeline
from kcompile.runtime import cache
from tests.runtime.test_kernel_cache import results
found = results()
print(pipeline.counters.emitted, pipeline.counters.kernels, cache.counters.damaged)
for name, array in sorted(found.items()):
    print(name, array.tobytes().hex())
"""


def test_a_second_process_emits_and_compiles_nothing(folder):
    env = {**os.environ, "KCOMPILE_CACHE_DIR": str(folder), "KCOMPILE_CACHE": "1"}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", SECOND_PROCESS], env=env, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    emitted, made, damaged = map(int, first[0].split())
    assert emitted > 5 and made == emitted + 1 and damaged == 0
    assert second[0].split() == ["0", "0", "0"]
    assert first[1:] == second[1:] and len(first) > 2


def test_without_a_cache_everything_still_works(folder):
    with flags.scoped(cache=False):
        assert compiled()[0] == compiled()[0] > 5
    assert not folder.exists()
