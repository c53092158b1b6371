"""Memory of large results: used again when nobody refers to it, never before."""

import itertools
import threading

import numpy as np
import pytest

from kcompile.runtime import results
from kcompile.runtime.arena import address

F32 = np.dtype(np.float32)
SHAPE = (results.POOLED_BYTES // 4,)
pytestmark = pytest.mark.skipif(not results._counts_references(), reason="needs reference counts")


@pytest.fixture(autouse=True)
def empty_pool():
    results._blocks.clear()
    yield
    results._blocks.clear()


def test_small_results_are_ordinary_arrays():
    assert results.maker((3, 4), np.float32) == (np.empty, ((3, 4), F32))
    assert results.maker(SHAPE, np.float32)[0] is results.pooled


def test_a_dropped_result_is_used_again():
    first = results.new(SHAPE, F32)
    place = address(first)
    assert first.shape == SHAPE and first.dtype == F32 and first.flags.c_contiguous and first.flags.writeable
    del first
    assert address(results.new(SHAPE, F32)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda a: a,
        lambda a: a[5:7],
        lambda a: a.reshape(2, -1).T[1:].view(np.int32),
        memoryview,
        lambda a: np.frombuffer(memoryview(a)[8:], np.uint8),
        lambda a: np.asarray(a).__array_interface__ and a.ctypes,
        lambda a: np.from_dlpack(a),
    ],
)
def test_whatever_refers_to_a_result_keeps_its_memory(hold):
    result = results.new(SHAPE, F32)
    result[:] = 1
    place = address(result)
    held = hold(result)
    del result
    other = results.new(SHAPE, F32)
    assert address(other) != place
    other[:] = 2
    del held, other
    assert address(results.new(SHAPE, F32)) is not None


def test_results_held_together_never_share_memory():
    held = [results.new(SHAPE, F32) for _ in range(results.MOST_BLOCKS + 3)]
    places = sorted(address(a) for a in held)
    assert all(b - a >= held[0].nbytes for a, b in itertools.pairwise(places))


def test_what_is_kept_is_bounded():
    held = [results.new((results.MOST_KEPT_BYTES // 12,), F32) for _ in range(5)]
    assert results.kept_bytes() <= results.MOST_KEPT_BYTES
    assert len(held) == 5
    results.new((results.MOST_KEPT_BYTES // 2,), F32)  # twice of what may be kept: made, not kept
    assert results.kept_bytes() <= results.MOST_KEPT_BYTES


def test_a_small_result_does_not_hold_a_much_larger_block():
    place = address(results.new((4 * SHAPE[0],), F32))
    assert address(results.new(SHAPE, F32)) != place


def test_threads_never_get_the_same_block():
    wrong = []

    def work(mark: int) -> None:
        for _ in range(60):
            a = results.new(SHAPE, F32)
            a[:: SHAPE[0] // 7] = mark
            b = results.new(SHAPE, F32)
            b[:: SHAPE[0] // 7] = -mark
            if not ((a[:: SHAPE[0] // 7] == mark).all() and (b[:: SHAPE[0] // 7] == -mark).all()):
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
