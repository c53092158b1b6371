"""Prepared calls: what they compute, what they refuse, what they hold on to."""

import ctypes
import gc
import os
import sys
import threading
import weakref
from types import MappingProxyType

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.codegen import pycall
from kcompile.errors import ArgumentError, CompilerBug, ShapeError
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.runtime import prepared, results
from kcompile.runtime.arena import Workspaces
from tests.passes.test_program import BATCH, softmax_graph

pytestmark = pytest.mark.skipif(not prepared.usable(), reason="not this Python")


def x_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 10)).astype(np.float32)


def ready(rows: int = 3):
    """The softmax program after a first call with so many rows."""
    bound = pipeline.compile(softmax_graph()).bind({})
    bound.run({"x": x_of(rows)})
    return bound


def two_results() -> Graph:
    g = Graph("two")
    x, y = (g.input(n, Type(f32, (BATCH, 4))) for n in "xy")
    g.output("sum", ops.add(x, y))
    g.output("rows", ops.reduce_sum(ops.mul(x, y), axes=(1,), keepdims=False))
    return g


def test_a_prepared_call_is_the_checked_one():
    bound = ready()
    x = x_of(3, seed=1)
    np.testing.assert_array_equal(bound.direct(x), bound._run_checked({"x": x})["p"])
    np.testing.assert_array_equal(bound.run({"x": x})["p"], bound.direct(x))


def test_several_results_come_in_order():
    bound = pipeline.compile(two_results()).bind({})
    x, y = (np.full((5, 4), v, np.float32) for v in (2, 3))
    bound.run({"x": x, "y": y})
    total, rows = bound.direct(x, y)
    assert (total == 5).all() and (rows == 24).all() and rows.shape == (5,)
    assert list(bound.run({"y": y, "x": x, "unused": None})) == ["sum", "rows"]


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [x_of(3), x_of(3)],
        [x_of(4)],
        [x_of(3).astype(np.float64)],
        [x_of(3).astype(">f4")],
        [x_of(6)[::2]],
        [np.asfortranarray(x_of(3))],
        [x_of(3).reshape(30)],
        [x_of(3)[:, :9]],
        [x_of(3).view(Sub)],
        [np.frombuffer(b"\0" + x_of(3).tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 10)],
        [[[0.0] * 10] * 3],
        [None],
    ],
)
def test_everything_else_is_refused(wrong):
    assert ready().direct(*wrong) is NotImplemented


def test_errors_are_those_of_the_first_call():
    bound = ready()
    with pytest.raises(ArgumentError, match="input 'x' is missing"):
        bound.run({})
    with pytest.raises(ArgumentError, match="received float64"):
        bound.run({"x": np.zeros((3, 10))})
    with pytest.raises(ShapeError, match=r"shape \(3, 11\)"):
        bound.run({"x": np.zeros((3, 11), np.float32)})
    with pytest.raises(ArgumentError, match="not C-contiguous"):
        bound.run({"x": np.zeros((10, 3), np.float32).T})
    assert bound.run({"x": x_of(3)})["p"].shape == (3, 10)


def test_a_mapping_that_is_no_dict_and_a_subclass_of_ndarray_still_run():
    bound, x = ready(), x_of(3)
    expected = bound.run({"x": x})["p"]
    np.testing.assert_array_equal(bound.run(MappingProxyType({"x": x}))["p"], expected)
    np.testing.assert_array_equal(bound.run({"x": x.view(Sub)})["p"], expected)


def test_shapes_may_alternate():
    bound = ready()
    for rows in (1, 7, 1, 64, 7, 0, 3):
        x = x_of(rows, seed=rows)
        p = bound.run({"x": x})["p"]
        assert p.shape == (rows, 10)
        np.testing.assert_allclose(p.sum(1), np.ones(rows), rtol=1e-5)
        np.testing.assert_array_equal(p, bound.direct(x))


def test_results_are_never_written_again():
    bound = ready()
    x = [x_of(3, seed=n) for n in range(20)]
    held = [bound.direct(a) for a in x]
    for a, p in zip(x, held):
        np.testing.assert_array_equal(p, bound._run_checked({"x": a})["p"])


def test_counting_changes_up_ends_prepared_calls():
    bound, x = ready(), x_of(3)
    bound._executable.changes[0] += 1
    assert bound.direct(x) is NotImplemented
    bound.run({"x": x})
    assert bound.direct(x) is not NotImplemented


def test_no_reference_is_lost_or_kept():
    bound, x = ready(), x_of(3)
    given = {"x": x}
    counted = (x, np.dtype(np.float32), None, NotImplemented, np.empty, given)
    before = [sys.getrefcount(o) for o in counted]
    for _ in range(1000):
        bound.direct(x), bound._named(given), bound.direct(None), bound._named({}), bound._named(given["x"])
    assert all(abs(sys.getrefcount(o) - b) < 100 for o, b in zip(counted, before))
    result = bound.direct(x)
    assert sys.getrefcount(result) == results._UNUSED


def test_a_call_keeps_its_program_and_a_dropped_one_is_freed():
    bound, x = ready(), x_of(3)
    program, direct = weakref.ref(bound._executable), bound.direct
    expected = bound.run({"x": x})["p"]
    del bound
    gc.collect()
    np.testing.assert_array_equal(direct(x), expected)
    del direct
    gc.collect()
    assert program() is None


_RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def _made(**changed):
    """A prepared call of something else than a program."""
    given = {
        "arguments": np.zeros(1, np.int64),
        "sizes": np.zeros(1, np.int64),
        "arena_bytes": 0,
        "inputs": [],
        "outputs": [],
        "workspaces": Workspaces(),
        "watched": [],
        "fail": None,
        "keep": (),
    }
    return prepared.prepare(**{**given, **changed})


def test_without_results_there_is_none():
    nothing = _RUN(lambda arguments, sizes, arena: 0)
    call = _made(run=ctypes.cast(nothing, ctypes.c_void_p).value, keep=(nothing,))
    assert call.direct() is None and call.named({}) is None


def test_a_code_that_is_not_0_raises():
    codes = []

    def fail(code):
        codes.append(code)
        raise CompilerBug(f"code {code}")

    stop = _RUN(lambda arguments, sizes, arena: 7)
    output = prepared.Output(0, np.empty, ((2,), np.dtype(np.float32)))
    call = _made(run=ctypes.cast(stop, ctypes.c_void_p).value, fail=fail, outputs=[output], keep=(stop,))
    with pytest.raises(CompilerBug, match="code 7"):
        call.direct()
    assert codes == [7]


def test_a_result_that_cannot_be_made_raises_and_loses_nothing():
    def full(shape):
        raise MemoryError("no room")

    spaces = Workspaces()
    spaces.give_back(spaces.take(64))
    outputs = [prepared.Output(0, np.empty, ((2,), np.dtype(np.float32))), prepared.Output(0, full, ((2,),))]
    call = _made(run=0, outputs=outputs, arena_bytes=64, workspaces=spaces)
    for _ in range(3):
        with pytest.raises(MemoryError, match="no room"):
            call.direct()
        spaces.give_back(spaces.take(64))


def test_without_a_large_enough_block_it_refuses():
    spaces = Workspaces()
    call = _made(run=0, arena_bytes=128, workspaces=spaces)
    assert call.direct() is NotImplemented
    spaces.give_back(spaces.take(64))
    assert call.direct() is NotImplemented
    assert spaces.idle_bytes == 64


def test_threads_call_one_bound_program():
    graph = softmax_graph()
    bound = pipeline.compile(graph).bind({})
    batches = [x_of(n, seed=n) for n in (3, 3, 64, 500)]
    expected = [bound.run({"x": x})["p"] for x in batches]
    wrong = []

    def work():
        for _ in range(200):
            for x, p in zip(batches, expected):
                found = bound.direct(x)
                if found is NotImplemented:
                    found = bound.run({"x": x})["p"]
                if not np.array_equal(found, p):
                    wrong.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_calls_it_too():
    bound, x = ready(), x_of(3)
    expected = bound.direct(x)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if np.array_equal(bound.direct(x), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_look_at_arrays_notices_another_layout(monkeypatch):
    monkeypatch.setattr(pycall, "SHAPE", pycall.DATA)
    assert not all(prepared._reads(a) for a in (np.zeros((3, 5)),))
