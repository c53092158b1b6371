"""Helper processes save time and change nothing else: not the bytes, not the errors, not what a script may be."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from kcompile import flags
from kcompile.codegen import compiler_process
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm import compile_module
from kcompile.errors import CompilerBug
from kcompile.runtime import compilers, threads
from kcompile.runtime.compilers import Compilers

TARGET = host_target()
STARTED = "import sys; sys.path[:] = sys.argv[1:]; import os; from kcompile.codegen.compiler_process import *; "


def module(number: int) -> str:
    """A module of its own: the dot product of so many floats."""
    lines = [f"define float @f{number}(ptr %a, ptr %b) {{", "  %s0 = fadd float 0.0, 0.0"]
    for n in range(number):
        lines += [f"  %{c}p{n} = getelementptr float, ptr %{c}, i64 {n}" for c in "ab"]
        lines += [f"  %{c}{n} = load float, ptr %{c}p{n}" for c in "ab"]
        lines += [f"  %m{n} = fmul float %a{n}, %b{n}", f"  %s{n + 1} = fadd float %s{n}, %m{n}"]
    return "\n".join([*lines, f"  ret float %s{number}", "}"])


TEXTS = [module(n) for n in (3, 40, 1, 25, 8, 60, 2)]


def compiled(helpers: int, texts=TEXTS) -> list[bytes]:
    with Compilers(TARGET, helpers) as made:
        for text in texts:
            made.submit(text)
        return [c.object_code for c in made.results()]


@pytest.fixture(scope="module")
def expected():
    return [compile_module(t, TARGET) for t in TEXTS]


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_the_bytes_do_not_depend_on_who_compiles(helpers, expected):
    assert compiled(helpers) == expected


def test_helpers_really_compile(expected):
    with Compilers(TARGET, 1) as made:
        for text in TEXTS:
            made.submit(text)
        with made._changed:  # this process does nothing until all is done
            assert made._changed.wait_for(lambda: len(made._done) == len(TEXTS), timeout=60)
        results = made.results()
    assert [c.object_code for c in results] == expected and all(c.seconds > 0 for c in results)


@pytest.mark.parametrize(
    "helper",
    [
        "raise SystemExit(3)",
        "import no_such_module",
        STARTED + "read_frame(sys.stdin.buffer); read_frame(sys.stdin.buffer); os._exit(1)",  # dies over a module
        STARTED + "read_frame(sys.stdin.buffer); sys.stdout.buffer.write(b'?' * 5); sys.stdout.flush(); os._exit(1)",
    ],
    ids=["exits", "cannot import", "dies at work", "answers half"],
)
def test_what_a_helper_leaves_is_compiled_here(helper, expected, monkeypatch):
    monkeypatch.setattr(compilers, "BOOT", helper)
    assert compiled(2) == expected


def test_a_helper_that_cannot_start_is_not_missed(expected, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert compiled(2) == expected


def test_a_helper_that_never_answers_is_not_waited_for(expected, monkeypatch):
    monkeypatch.setattr(compilers, "PATIENCE_S", 0.05)
    monkeypatch.setattr(compilers, "BOOT", STARTED + "import time; read_frame(sys.stdin.buffer); time.sleep(600)")
    assert compiled(1) == expected


@pytest.mark.parametrize("helpers", [0, 2])
def test_an_error_names_the_function(helpers):
    with pytest.raises(CompilerBug, match="wrong"):
        compiled(helpers, [*TEXTS, "define float @wrong(float %a) {\n  ret i32 %a\n}"])


def test_an_error_in_the_block_ends_the_helpers():
    before = threading.active_count()
    with pytest.raises(KeyError), Compilers(TARGET, 2) as made:
        made.submit(TEXTS[0])
        raise KeyError
    assert threading.active_count() == before
    assert all(h._process is None or h._process.poll() is not None for h in made._helpers)


def test_how_many_help(monkeypatch):
    many = 10 * compilers.KERNELS_PER_HELPER
    monkeypatch.setattr(threads, "num_threads", lambda: 4)
    with flags.scoped(compile_workers=None):
        assert compilers.helpers(many) == 3
        assert compilers.helpers(2 * compilers.KERNELS_PER_HELPER) == 2
        assert compilers.helpers(compilers.KERNELS_PER_HELPER - 1) == 0
        monkeypatch.setattr(threads, "num_threads", lambda: 1)
        assert compilers.helpers(many) == 0
    with flags.scoped(compile_workers=0):
        assert compilers.helpers(many) == 0
    with flags.scoped(compile_workers=2):
        assert compilers.helpers(3) == 2 and compilers.helpers(1) == 1 and compilers.helpers(0) == 0


@pytest.mark.parametrize("executable", ["", None, "/opt/a program/viewer"])
def test_no_helpers_where_python_is_a_part_of_another_program(executable, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    with flags.scoped(compile_workers=2):
        assert compilers.helpers(50) == 0
        monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert compilers.helpers(50) == 0


def test_a_script_without_a_main_guard_compiles_once():
    text = textwrap.dedent("""
        print("started")
        from tests.passes.test_program import dense_training
        from kcompile import pipeline
        built = pipeline.build(dense_training())
        print("new", built.new, len(built.kernels) > 5)
    """)
    kept = {**os.environ, "KCOMPILE_CACHE": "0", "KCOMPILE_COMPILE_WORKERS": "2"}
    root = Path(compiler_process.__file__).parents[2]
    for arguments in (["-"], ["-c", text]):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, input=text, env=kept, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("started") == 1 and done.stdout.strip().endswith("True") and not done.stderr
