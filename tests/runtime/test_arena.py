"""Aligned memory and scratch blocks."""

import gc
import mmap
import os
import threading

import numpy as np
import pytest

from kcompile.errors import ArgumentError
from kcompile.runtime.arena import HUGE_BYTES, Workspaces, address, aligned_copy, aligned_empty


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


linux_only = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 4096, 100_001, HUGE_BYTES - 1, HUGE_BYTES, HUGE_BYTES + 1])
@pytest.mark.parametrize("align", [1, 64, 4096])
def test_size_alignment_and_every_byte_writable(nbytes, align):
    array = aligned_empty(nbytes, align)
    assert array.shape == (nbytes,) and array.dtype == np.uint8
    assert array.flags.c_contiguous and array.flags.writeable
    assert address(array) % align == 0
    array[:] = 0xA5
    assert (array == 0xA5).all()


def test_alignment_beyond_a_huge_page():
    assert aligned_empty(HUGE_BYTES, 4 * HUGE_BYTES).ctypes.data % (4 * HUGE_BYTES) == 0


def test_default_alignment_is_a_cache_line():
    assert all(aligned_empty(n).ctypes.data % 64 == 0 for n in range(1, 200))


def test_copies_begin_on_a_line_and_lie_in_rows():
    array = np.arange(12.0).reshape(3, 4).T
    copy = aligned_copy(array)
    assert address(copy) % 64 == 0 and copy.flags.c_contiguous and not np.shares_memory(copy, array)
    np.testing.assert_array_equal(copy, array)
    assert aligned_copy(np.array(3, "int8"))[()] == 3 and aligned_copy(np.zeros((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(("nbytes", "align"), [(-1, 64), (8, 0), (8, 48), (8, -64)])
def test_bad_arguments(nbytes, align):
    with pytest.raises(ArgumentError):
        aligned_empty(nbytes, align)


def test_views_keep_the_memory_alive():
    view = aligned_empty(2 * HUGE_BYTES).view(np.float32)[100:200]
    view[:] = 3.0
    gc.collect()
    aligned_empty(2 * HUGE_BYTES)[:] = 0
    assert (view == 3.0).all()


@linux_only
def test_large_blocks_go_back_to_the_system_with_their_last_view():
    before = resident_bytes()
    for _ in range(20):
        aligned_empty(32 << 20)[:] = 1
    assert resident_bytes() - before < 32 << 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_write_into_its_parents_memory():
    array = aligned_empty(HUGE_BYTES)
    array[:] = 1
    pid = os.fork()
    if pid == 0:
        array[:] = 2
        os._exit(0)
    os.waitpid(pid, 0)
    assert (array == 1).all()


def test_a_workspace_is_reused_and_grows():
    spaces = Workspaces()
    first = spaces.take(1000)
    assert first.nbytes >= 1000 and address(first) % 64 == 0
    spaces.give_back(first)
    assert spaces.take(500) is first
    spaces.give_back(first)
    larger = spaces.take(2000)
    assert larger is not first and larger.nbytes >= 2000
    spaces.give_back(larger)
    assert spaces.take(1000) is larger, "a block never shrinks"


def test_blocks_in_use_are_never_given_twice():
    spaces = Workspaces()
    taken = [spaces.take(64) for _ in range(5)]
    assert len({address(block) for block in taken}) == 5
    for block in taken:
        spaces.give_back(block)
    assert spaces.idle_bytes == 5 * 64


def test_threads_never_share_a_block():
    spaces, errors = Workspaces(), []

    def work(mark: int) -> None:
        for turn in range(300):
            block = spaces.take(256 + 64 * (turn % 3))
            block[:] = mark
            if not (block == mark).all():
                errors.append(mark)
            spaces.give_back(block)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert spaces.idle_bytes <= 6 * (256 + 128)


@linux_only
def test_dropping_the_workspaces_frees_their_blocks():
    before = resident_bytes()
    spaces = Workspaces()
    block = spaces.take(64 << 20)
    block[:] = 1
    spaces.give_back(block)
    assert resident_bytes() - before > 48 << 20
    del spaces, block
    assert resident_bytes() - before < 16 << 20


def test_an_empty_block_has_an_address():
    assert address(Workspaces().take(0)) % 64 == 0
