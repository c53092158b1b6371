"""Whole programs are found on disk by their graph: no stage runs, nothing changes, and looking still works."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

import kcompile
from kcompile import flags, ops, pipeline
from kcompile.codegen.fingerprint import FOLDERS
from kcompile.codegen.program import Run, runs
from kcompile.ir import dim
from kcompile.ir.graph import PARAMETER, Graph
from kcompile.ir.types import Type, f32
from kcompile.runtime import cache, programs
from kcompile.target import X86_64_V3, X86_64_V4
from tests.keras.tracing.test_loops import arrays, lstm, recorded
from tests.passes.test_blocks import attention
from tests.passes.test_blocks import data as attention_data
from tests.passes.test_program import arrays_for, convolution_training, dense_training
from tests.runtime.test_executable import split


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """A cache of its own for each test; without verification, which asks for every stage."""
    cache._open.cache_clear()
    place = tmp_path / "cache"
    with flags.scoped(cache=True, cache_dir=str(place), verify=False):
        yield place
    cache._open.cache_clear()


@pytest.fixture
def builds(monkeypatch):
    """How often the stages ran."""
    made = []
    real = pipeline.build

    def counted(*args, **kwargs):
        made.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(pipeline, "build", counted)
    return made


def results(make, rows=9):
    graph = make()
    inputs, variables = split(graph, arrays_for(graph, rows))
    outputs = pipeline.compile(graph).run(inputs, variables)
    return {**outputs, **variables}


def with_constant(number=1.5, name="g", size=40):
    g = Graph(name)
    x = g.input("x", Type(f32, (dim.symbol("batch"), size)))
    table = np.arange(size, dtype=np.float32)
    table[-1] = number
    g.output("y", ops.add(ops.mul(x, g.constant(table)), 0.25))
    return g


def key(graph, target=X86_64_V3):
    return programs.key(graph, target)


@pytest.mark.parametrize("make", [dense_training, convolution_training, with_constant])
def test_the_second_time_no_stage_runs(make, builds):
    first = results(make)
    assert len(builds) == 1
    for rows in (9, 4):
        again = results(make, rows)
    assert len(builds) == 1
    again = results(make)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


@pytest.mark.parametrize("make", [dense_training, convolution_training, with_constant])
def test_the_program_comes_back_whole(make):
    graph = make()
    built = pipeline.build(graph)
    pipeline.compile(graph)
    found = programs.find(programs.key(graph, built.target), graph)
    assert found.objects == built.objects
    assert found.program.arguments == built.program.arguments
    assert found.program.symbols == built.program.symbols
    assert found.program.arena_bytes == built.program.arena_bytes
    assert len(found.program.steps) == len(built.program.steps)
    for ours, theirs in zip(found.program.steps, built.program.steps):
        if isinstance(ours, Run):
            assert ours.kernel.name == theirs.kernel.name and ours.pointers == theirs.pointers
            assert ours.kernel.phases == theirs.kernel.phases
        else:
            assert ours == theirs
    assert found.constants.keys() == built.constants.keys()
    for name, array in built.constants.items():
        np.testing.assert_array_equal(found.constants[name], array)


def test_a_program_with_a_loop_comes_back_whole(builds):
    given = arrays(lstm, 4, 18)
    graph = recorded(lstm, given)
    first = pipeline.compile(graph).run(given, {})
    found = programs.find(programs.key(graph, pipeline.default_target()), graph)
    assert len(list(runs(found.program.steps))) > len(found.program.steps) > 0
    again = pipeline.compile(graph).run(given, {})
    assert len(builds) == 1
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_a_program_with_steps_apart_comes_back_whole(builds):
    graph = attention(gradient=True)
    given = attention_data(graph, 3)
    first = pipeline.compile(graph).run(given, {})
    again = pipeline.compile(graph).run(given, {})
    assert len(builds) == 1
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_what_changes_the_code_changes_the_key(monkeypatch):
    keys = [key(with_constant()), key(with_constant(2.5)), key(with_constant(np.nextafter(np.float32(1.5), 2)))]
    keys += [key(with_constant(size=41)), key(with_constant(), X86_64_V4)]
    keys += [key(dense_training())]
    monkeypatch.setattr(programs, "fingerprint", lambda parts: "another")
    keys += [key(with_constant())]
    assert None not in keys and len(set(keys)) == len(keys)
    monkeypatch.undo()
    assert key(with_constant()) == keys[0]


def layer(name, source, weight, result, rows=3):
    """y = x w + w, and w grows: of these names."""
    g = Graph(name)
    x, w = g.input(source, Type(f32, (dim.symbol("batch"), 4))), g.source(PARAMETER, weight, Type(f32, (4,)))
    g.output(result, ops.add(ops.mul(x, w), w))
    g.assign(w, ops.add(w, 1.0))
    given = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4), np.arange(4, dtype=np.float32)
    return g, *given


def test_names_are_not_part_of_it(builds):
    for names in (("one", "x", "w", "y"), ("other", "b", "a", "b"), ("one", "n1", "n0", "n0")):
        graph, x, w = layer(*names)
        before = w.copy()
        outputs = pipeline.compile(graph).run({names[1]: x}, {names[2]: w})
        assert list(outputs) == [names[3]]
        np.testing.assert_array_equal(outputs[names[3]], x * before + before)
        np.testing.assert_array_equal(w, before + 1)
    assert len(builds) == 1


def test_sources_in_another_order_are_another_program():
    def graph(first, second):
        g = Graph("g")
        found = {n: g.input(n, Type(f32, (4,))) for n in (first, second)}
        g.output("y", ops.sub(found["a"], found["b"]))
        return g

    assert key(graph("a", "b")) != key(graph("b", "a"))


# They change no code
APART = {"__init__.py", "errors.py", "flags.py", "forks.py", "inspection.py", "observe.py", "plugins.py"}


@pytest.mark.parametrize(("start", "parts"), [("pipeline.py", programs.SOURCES), ("codegen/emit.py", FOLDERS)])
def test_the_keys_digest_holds_every_source_that_takes_part(start, parts):
    """Imports are followed from where it begins, so a new file cannot be forgotten."""
    package = Path(kcompile.__file__).parent
    seen, stack = set(), [package / start]
    while stack:
        path = stack.pop()
        if path not in seen:
            seen.add(path)
            stack += imported(path, package)
    tops = {path.relative_to(package).parts[0] for path in seen}
    assert tops - APART <= set(parts)


def imported(path, package):
    """The files of the package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package.name:
            for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names)):
                place = package.parent / name.replace(".", "/")
                yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())


def test_what_a_text_cannot_tell_apart_is_not_kept(monkeypatch):
    assert key(with_constant()) is not None
    monkeypatch.setattr(programs, "BUILT_IN", programs.BUILT_IN - {"mul"})  # as if a plugin had brought it
    assert key(with_constant()) is None
    monkeypatch.undo()
    monkeypatch.setattr(programs.plugins, "names", lambda group: ["mine"] if group == "passes" else [])
    assert key(with_constant()) is None


@pytest.mark.parametrize("flag", [{"verify": True}, {"poison": True}, {"skip": ("simplify",)}, {"compare": True}])
def test_who_asks_for_stages_gets_them(flag, builds):
    results(with_constant)
    with flags.scoped(**flag):
        results(with_constant)
    assert len(builds) == 2


def entry_of(graph):
    name = programs.key(graph, pipeline.default_target())
    return name, cache.get(name)


def changed(data, change):
    line, rest = data.split(b"\n", 1)
    record = json.loads(line)
    change(record)
    return json.dumps(record, separators=(",", ":")).encode() + b"\n" + rest


CHANGES = {
    "no JSON": lambda d: b"x" + d,
    "another record": lambda d: b"[]" + d,
    "cut": lambda d: d[:-1],
    "longer": lambda d: d + b"\0",
    "missing field": lambda d: changed(d, lambda r: r.pop("arena")),
    "more fields": lambda d: changed(d, lambda r: r.update(more=1)),
    "size out of the table": lambda d: changed(d, lambda r: r.update(arena=10_000)),
    "unknown step": lambda d: changed(d, lambda r: r["steps"].append(["jump"])),
    "unknown kernel": lambda d: changed(d, lambda r: r["kernels"][0].__setitem__(0, "kc_other")),
    "kernel gone": lambda d: changed(d, lambda r: r["kernels"][0].__setitem__(1, "ab" * 32)),
    "argument no number": lambda d: changed(d, lambda r: r["steps"][0][2][0].__setitem__(0, "x")),
    "unknown dtype": lambda d: changed(d, lambda r: r["arguments"][0].__setitem__(1, "f8")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_entry_is_made_again(change, builds):
    first = results(with_constant)
    name, data = entry_of(with_constant())
    spoiled = CHANGES[change](data)
    assert spoiled != data
    cache.put(name, spoiled)
    again = results(with_constant)
    assert len(builds) == 2
    np.testing.assert_array_equal(first["y"], again["y"])
    assert cache.get(name) == data
    results(with_constant)
    assert len(builds) == 2


def test_a_kernel_that_was_evicted_is_made_again(builds, folder):
    first = results(dense_training)
    built = pipeline.build(dense_training())
    form = next(iter(built.forms.values()))
    (folder / f"{pipeline.kernel_key(form, built.target)}.kco").unlink()
    before = pipeline.counters.emitted
    again = results(dense_training)
    assert pipeline.counters.emitted == before + 1
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_many_constant_bytes_stay_in_memory(monkeypatch, builds):
    monkeypatch.setattr(programs, "MOST_CONSTANT_BYTES", 100)
    results(with_constant)
    results(with_constant)
    assert len(builds) == 2
