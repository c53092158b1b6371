"""Native programs: what they compute, how they are called, what they refuse, what they hold on to."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from kcompile import flags, pipeline
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.graph import INPUT
from kcompile.ir.interpret import run
from kcompile.pipeline import default_target
from tests.passes.test_program import GRAPHS, arrays_for, convolution_training, dense_training, softmax_graph


def split(graph, arrays):
    inputs = {n: a for n, a in arrays.items() if graph.sources[n].node.role == INPUT}
    return inputs, {n: np.array(a) for n, a in arrays.items() if n not in inputs}


def resident_kib() -> int:
    with open("/proc/self/statm") as text:
        return int(text.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.parametrize("make", GRAPHS)
def test_native_equals_interpreter(make):
    program = pipeline.compile(make())
    for rows in (1, 5, 33):
        graph = make()
        arrays = arrays_for(graph, rows, seed=rows)
        outputs, assigned = run(graph, arrays)
        inputs, variables = split(graph, arrays)
        results = program.run(inputs, variables)
        for name, expected in {**outputs, **assigned}.items():
            got = results[name] if name in outputs else variables[name]
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("make", [dense_training, convolution_training])
def test_bits_do_not_depend_on_threads(make):
    states = []
    for threads in (1, 2, 3, 4):
        graph = make()
        program = pipeline.compile(graph, num_threads=threads)
        inputs, variables = split(graph, arrays_for(graph, 300))
        bound = program.bind(variables)
        for _ in range(3):
            bound.run(inputs)
        states.append(variables)
    for other in states[1:]:
        for name, first in states[0].items():
            np.testing.assert_array_equal(first, other[name], err_msg=name)


@pytest.mark.parametrize("ordered", [False, True])
def test_run_batches_is_run_in_a_loop(ordered):
    graph = dense_training()
    program = pipeline.compile(graph)
    data, start = split(graph, arrays_for(graph, 23))
    order = np.random.default_rng(1).permutation(23).astype(np.int64) if ordered else None
    one_by_one = {n: a.copy() for n, a in start.items()}
    bound = program.bind(one_by_one)
    rows = np.arange(23) if order is None else order
    for first in range(0, 23, 5):
        bound.run({n: np.ascontiguousarray(a[rows[first : first + 5]]) for n, a in data.items()})
    at_once = {n: a.copy() for n, a in start.items()}
    bound = program.bind(at_once)
    bound.run_batches(data, order=order, batch_size=5, first=0, count=2)
    bound.run_batches(data, order=order, batch_size=5, first=2, count=3)
    for name in start:
        np.testing.assert_array_equal(one_by_one[name], at_once[name])


def test_outputs_of_all_rows():
    program = pipeline.compile(softmax_graph())
    x = np.random.default_rng(0).standard_normal((23, 10)).astype(np.float32)
    p = np.zeros_like(x)
    program.bind({}).run_batches({"x": x}, order=None, batch_size=4, first=0, count=6, outputs={"p": p})
    np.testing.assert_array_equal(p, program.run({"x": x}, {})["p"])


def test_the_arena_of_a_pass_holds_its_short_batch():
    """Sums over fewer rows may be cut into more parts, each with scratch of its own."""
    program = pipeline.compile(softmax_graph())
    program.arena_bytes = lambda sizes: {4: 64, 3: 1 << 20}[sizes[0]]
    program.bind({}).run_batches({"x": np.ones((23, 10), np.float32)}, order=None, batch_size=4, first=0, count=6)
    assert program.workspaces.take(0).nbytes >= 1 << 20


def test_refused_inputs():
    program = pipeline.compile(softmax_graph())
    with pytest.raises(ArgumentError, match="input 'x' is missing"):
        program.run({}, {})
    with pytest.raises(ArgumentError, match=r"expected float32 of shape \(batch, 10\), received float64"):
        program.run({"x": np.zeros((2, 10))}, {})
    with pytest.raises(ShapeError, match=r"received float32 of shape \(2, 11\)"):
        program.run({"x": np.zeros((2, 11), np.float32)}, {})
    with pytest.raises(ArgumentError, match="not C-contiguous"):
        program.run({"x": np.zeros((10, 2), np.float32).T}, {})


def test_sizes_of_two_inputs_must_agree():
    graph = dense_training()
    program = pipeline.compile(graph)
    inputs, variables = split(graph, arrays_for(graph, 4))
    with pytest.raises(ShapeError, match=r"labels.*batch is 4 in another input"):
        program.run({**inputs, "labels": inputs["labels"][:3].copy()}, variables)


def test_variables_are_checked():
    program = pipeline.compile(dense_training())
    with pytest.raises(ArgumentError, match="no array for variable 'params'"):
        program.bind({})


def test_many_threads_call_one_program():
    program = pipeline.compile(softmax_graph())
    bound = program.bind({})
    draw = np.random.default_rng(0)
    batches = [draw.standard_normal((n, 10)).astype(np.float32) for n in (1, 7, 64, 500)]
    expected = [bound.run({"x": x})["p"] for x in batches]
    wrong = []

    def work():
        for _ in range(50):
            for x, p in zip(batches, expected):
                if not np.array_equal(bound.run({"x": x})["p"], p):
                    wrong.append(x.shape)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_memory_stays_flat():
    graph = dense_training()
    program = pipeline.compile(graph)
    inputs, variables = split(graph, arrays_for(graph, 64))
    bound = program.bind(variables)
    for _ in range(200):
        bound.run(inputs)
    gc.collect()
    before = resident_kib()
    for _ in range(10_000):
        bound.run(inputs)
    gc.collect()
    assert resident_kib() - before < 2048


def test_a_dropped_program_frees_its_scratch():
    sizes = []
    for _ in range(6):
        program = pipeline.compile(convolution_training())
        inputs, variables = split(convolution_training(), arrays_for(convolution_training(), 20_000))
        program.run(inputs, variables)
        del program, inputs, variables
        gc.collect()
        sizes.append(resident_kib())
    assert sizes[-1] - sizes[1] < 20 * 1024


SECOND_PROCESS = """
import sys
import kcompile.ops
from kcompile import ready
from kcompile.ir.parse import parse
graph = parse('''graph g(x: f32[batch,8], w: f32[8,5]) {
  %0: f32[batch,5] = contract(x, w, spec="b,k;k,n->b,n")
  %1: f32[5] = reduce_sum(%0, axes=(0,), keepdims=False)
  return y=%1
}''')
ready.compile(graph)
emitters = "kcompile.pipeline", "kcompile.passes.lower", "kcompile.codegen.emit"
print(ready.counters.programs, ready.counters.kernels, *(m in sys.modules for m in emitters))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    """Nor does it load what would."""
    env = {**os.environ, "KCOMPILE_CACHE_DIR": str(tmp_path / "cache"), "KCOMPILE_CACHE": "1", "KCOMPILE_VERIFY": "0"}
    runs = [
        subprocess.run([sys.executable, "-c", SECOND_PROCESS], env=env, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    programs, kernels, *loaded = runs[0].stdout.split()
    assert int(programs) == 1 and int(kernels) >= 2 and loaded == ["True"] * 3
    assert runs[1].stdout.split() == ["1", "0", "False", "False", "False"]


@pytest.mark.parametrize("make", GRAPHS)
def test_poison_changes_nothing(make):
    """A dead buffer that somebody still reads would give NaN."""
    results = []
    for poison in (False, True):
        with flags.scoped(poison=poison):
            program = pipeline.compile(make())
        inputs, variables = split(make(), arrays_for(make(), 9))
        bound = program.bind(variables)
        for _ in range(3):
            outputs = bound.run(inputs)
        results.append({**outputs, **variables})
    for name, plain in results[0].items():
        np.testing.assert_array_equal(plain, results[1][name])


def test_another_target_gives_the_same_numbers():
    """Code for AVX2 on this machine: other vectors, other tiles."""
    if not {"x86_64"} & {default_target().arch}:
        pytest.skip("runs on x86-64 only: the preset is one of its levels")
    with flags.scoped(target="x86-64-v3"):
        program = pipeline.compile(dense_training())
    graph = dense_training()
    arrays = arrays_for(graph, 40)
    _, assigned = run(graph, arrays)
    inputs, variables = split(graph, arrays)
    program.run(inputs, variables)
    for name, value in assigned.items():
        np.testing.assert_allclose(variables[name], value, rtol=1e-4, atol=1e-5)


def test_a_number_of_threads_below_one_is_refused():
    with pytest.raises(ArgumentError, match="at least 1 thread, received -3"):
        pipeline.compile(dense_training(), num_threads=-3)
