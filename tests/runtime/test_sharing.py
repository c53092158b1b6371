"""Bits do not depend on the number of threads, with every kernel shared, however small it is.

What a run costs decides whether threads share it, so small programs would run on one thread whatever number they
are given. Here no work is too small: every kernel is cut into as many parts, and every part into as many pieces, as
there can be. A program is compiled once; the number of workers is a size that it gets when it runs.
"""

import os

import pytest

from kcompile import flags, keras, pipeline
from kcompile.codegen import steps
from kcompile.codegen.pool import handover, parts, workers
from kcompile.ir import dim
from kcompile.ir.graph import INPUT
from kcompile.runtime import threads
from kcompile.runtime.executable import Executable
from tests.keras.zoo import ZOO
from tests.random_graphs import arrays, make
from tests.runtime.test_threads import Pool

MOST = 4
NEVER = 1 << 62
SIZES = ({"batch": 67, "time": 9}, {"batch": 5, "time": 3})


@pytest.fixture(scope="module", autouse=True)
def shares_everything():
    """A pool, and code, for which no work is too small."""
    with pytest.MonkeyPatch.context() as patch, flags.scoped(cache=False):
        patch.setattr(steps, "GRAIN", 1)
        patch.setitem(parts.VALUES, "long_part", 1)
        patch.setitem(parts.VALUES, "piece", 1)
        patch.setitem(handover.VALUES, "gauge_ns", NEVER)  # what a hand-over costs is never known
        patch.setitem(workers.VALUES, "tune_mask", NEVER - 1)  # and whether one thread is quicker is never tried
        pool = Pool()
        pool.start(MOST)
        called = ("kc_parallel_for", "kc_workers", "kc_worked")
        patch.setattr(threads, "symbols", lambda: {name: pool.at(name) for name in called})
        before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else None
        yield
        if before is not None:
            assert len(os.listdir("/proc/self/task")) >= before + MOST - 1, "nothing was shared"
        assert not pool.stop()


def with_workers(program: Executable, count: int) -> Executable:
    return Executable(program.program, program._library, program._constants, count)


def check(seed: int) -> None:
    graph = make(seed)
    compiled = pipeline.compile(graph)
    needed = set().union(*(dim.symbols(n) for v in graph.sources.values() for n in v.shape), ())
    for sizes in SIZES if needed else SIZES[:1]:
        given = arrays(graph, seed, sizes)
        inputs = {n: a for n, a in given.items() if graph.sources[n].node.role == INPUT}
        bits = []
        for count in (1, 2, 3, MOST, MOST):
            variables = {n: a.copy() for n, a in given.items() if n not in inputs}
            found = with_workers(compiled, count).run(inputs, variables)
            bits.append(
                {**{n: a.tobytes() for n, a in found.items()}, **{n: a.tobytes() for n, a in variables.items()}}
            )
        assert all(b == bits[0] for b in bits[1:]), f"seed {seed}, sizes {sizes}:\n{graph}"


@pytest.mark.parametrize("seed", range(5))
def test_random_graph(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 200))
def test_more_random_graphs(seed):
    check(seed)


def train(name: str) -> None:
    case = ZOO[name]
    x, y = case.data(67)
    keras.utils.set_random_seed(0)
    model = case.build(keras)
    model.compile("adam", case.loss(keras))
    model.train_on_batch(x, y)
    program = next(p for p in model._training.programs._found.values() if p.mode == "train")
    compiled, variables = program.program, program.traced.arrays()
    first = {n: a.copy() for n, a in variables.items()}
    bits = []
    for count in (1, 3, MOST):
        for n, a in first.items():
            variables[n][...] = a
        program.program, program.adoptions = with_workers(compiled, count), -1  # bound again
        model.fit(x, y, batch_size=24, shuffle=False, verbose=0)
        bits.append({n: a.tobytes() for n, a in variables.items()})
    assert bits[1] == bits[0] and bits[2] == bits[0]


@pytest.mark.parametrize("name", ["cnn", "transformer", "stacked_lstm"])
def test_training(name):
    train(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ZOO if n not in ("cnn", "transformer", "stacked_lstm")])
def test_training_of_all_kinds(name):
    train(name)
