"""The kernel benchmark measures the same thing for every peer, and its arithmetic is right."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import kernels, kernels_kcompile, kernels_numpy, products
from benchmarks.kernel_cases import CASES, Case, arrays, moved_bytes, multiply_adds, traffic
from benchmarks.kernel_worker import measure
from kcompile.runtime.machine import Level, Machine

SMALL = {
    "gemm": (5, 7, 9),
    "gemm a'b": (5, 7, 9),
    "gemm ab'": (5, 7, 9),
    "conv forward": (2, 6, 5, 3, 4, 3, 3, 1),
    "conv inference": (2, 6, 5, 3, 4, 3, 3, 1),
    "conv data gradient": (2, 6, 5, 3, 4, 3, 1, 1),
    "conv filter gradient": (2, 6, 5, 3, 4, 1, 3, 1),
    "depthwise forward": (2, 6, 5, 4, 3, 1),
    "depthwise data gradient": (2, 6, 5, 4, 3, 1),
    "depthwise filter gradient": (2, 6, 5, 4, 3, 1),
    "softmax": (4, 11),
    "softmax gradient": (4, 11),
    "cross-entropy": (4, 11),
    "cross-entropy gradient": (4, 11),
    "layer norm": (4, 11),
    "layer norm gradient": (4, 11),
    "batch norm statistics": (2, 4, 6, 3),
    "batch norm": (2, 4, 6, 3),
    "batch norm gradient": (2, 4, 6, 3),
    "max pool": (2, 4, 6, 3),
    "max pool gradient": (2, 4, 6, 3),
    "average pool": (2, 4, 6, 3),
    "average pool gradient": (2, 4, 6, 3),
    "chain": (10, 33),
    "adam": (33,),
}


def small(kind: str) -> Case:
    return Case("test", kind, SMALL[kind])


def test_every_kind_is_tried_here():
    assert {c.kind for c in CASES} == set(SMALL)
    assert len({c.name for c in CASES}) == len(CASES)
    assert {c.kind for c in CASES if c.quick} >= {"gemm", "conv forward", "softmax", "chain", "adam"}


@pytest.mark.parametrize("kind", [k for k in SMALL if k != "adam"])
def test_peers_compute_the_same(kind):
    ours = kernels_kcompile.prepare(small(kind))()["y"]
    assert np.abs(ours).max() > 0 and 4 * ours.size == moved_bytes(small(kind)) - _input_bytes(kind)
    compared = 0
    found = kernels_numpy.prepare(small(kind))
    if found is not None:
        np.testing.assert_allclose(ours, found(), rtol=2e-5, atol=2e-6)
        compared += 1
    compared += _compare_with_torch(kind, ours)
    if not compared:
        pytest.skip("neither NumPy nor an installed PyTorch has this kernel")


def _input_bytes(kind: str) -> int:
    return sum(a.nbytes for a in arrays(small(kind)).values())


def _compare_with_torch(kind: str, ours: np.ndarray) -> bool:
    try:
        from benchmarks import kernels_torch
    except ImportError:
        return False
    import torch

    for way in kernels_torch._ways(small(kind)):
        found = way()
        if isinstance(found, tuple):  # torch gives (variance, mean)
            found = torch.stack(found[::-1])
        found = found.numpy()
        if found.ndim == 4:
            order = {"conv filter gradient": (2, 3, 1, 0), "depthwise filter gradient": (2, 3, 0, 1)}
            found = found.transpose(order.get(kind, (0, 2, 3, 1)))
        np.testing.assert_allclose(ours, found, rtol=2e-5, atol=2e-5)
    return True


def test_adam_takes_steps():
    run = kernels_kcompile.prepare(small("adam"))
    assert run() == {} and measure(run, 3) > 0


def test_work_by_hand():
    assert multiply_adds(Case("", "gemm", (2, 3, 5))) == 30
    assert moved_bytes(Case("", "gemm ab'", (2, 3, 5))) == 4 * (10 + 15 + 6)
    conv = Case("", "conv forward", (2, 8, 6, 3, 5, 3, 1, 2))
    assert multiply_adds(conv) == 2 * 4 * 3 * 5 * 3 * 1 * 3
    assert moved_bytes(conv) == 4 * (2 * 8 * 6 * 3 + 3 * 1 * 3 * 5 + 2 * 4 * 3 * 5)
    assert multiply_adds(Case("", "depthwise filter gradient", (1, 4, 4, 7, 3, 1))) == 16 * 7 * 9
    assert moved_bytes(Case("", "softmax", (3, 4))) == 4 * 24
    assert multiply_adds(Case("", "softmax", (3, 4))) == 0
    normalised = Case("", "batch norm gradient", (2, 3, 3, 4))
    assert traffic(normalised) == (4 * (5 * 72 + 2 * 4), 4 * 72) and moved_bytes(normalised) == 4 * (3 * 72 + 2 * 4)


def test_the_limit_is_the_larger_of_the_two_times():
    machine = Machine(1, 1e3, (Level("L1", 200, 400.0), Level("memory", None, 100.0)))
    product, nothing = Case("", "gemm", (2, 3, 5)), {"operations": 0, "multiplies": 0}
    assert kernels.limit_s(product, machine, nothing) == max(60 / 1e3, 124 / 400)
    assert kernels.limit_s(Case("", "gemm", (2, 3, 5000)), machine, {}) == pytest.approx(4 * (25000 + 6) / 100)
    assert kernels.limit_s(product, replace(machine, flops_per_s=1.0), {}) == 60
    softmax = Case("", "softmax", (3, 4))
    assert kernels.parts_s(softmax, machine, {"operations": 900, "multiplies": 600}) == (1.8, 96 / 400)


def test_operations_are_those_of_the_forms():
    found = kernels_kcompile.operations(small("softmax"))
    numbers = np.prod(small("softmax").sizes)
    assert found["operations"] > 10 * numbers and found["operations"] > found["multiplies"] > numbers
    assert kernels_kcompile.operations(small("average pool"))["operations"] > 0


def test_ratios_and_means():
    case = next(c for c in CASES if c.kind == "gemm")
    machine = Machine(1, 1e9, (Level("memory", None, 1e12),))
    times = {"kcompile": [1.0, 2.0, 4.0], "numpy": [2.0, 2.0, 16.0]}
    assert kernels.ratios(times, "numpy") == [1.0, 2.0, 4.0] and kernels.ratios(times, "torch") == []
    assert "x2.00 (1.00-4.00)" in kernels.row(case, times, machine, ["numpy", "torch"], {})
    assert case.name in kernels.parts_row(case, times, machine, {})
    (line,) = kernels.summary({case.name: times}, machine, ["numpy"], {case.name: {}})
    assert "x2.00 (worst 2.00)" in line


def test_rows_can_be_chosen():
    assert len(kernels.chosen("", False)) == len(CASES)
    assert [c.name for c in kernels.chosen("37x53x911", False)] == [c.name for c in CASES if "37x53x911" in c.name]
    assert all(c.quick for c in kernels.chosen("", True)) and kernels.chosen("", True)


def test_a_product_is_compared_with_multiplications_beside_it():
    seconds, beside, share, best = products.compare(16, 1, 0.0)
    assert seconds > 0 and beside > 0 and 0 < share <= best
