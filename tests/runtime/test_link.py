"""Object code becomes addresses, and goes when dropped."""

import ctypes
import gc
import os
import subprocess
import sys

import pytest

from kcompile.codegen.host import host_target
from kcompile.codegen.llvm import compile_module
from kcompile.errors import CompilerBug
from kcompile.runtime.link import link

UNARY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def code(ir_text: str) -> bytes:
    return compile_module(ir_text, host_target(), opt=1)


TWICE = "define i64 @twice(i64 %x) {\n %y = add i64 %x, %x\n ret i64 %y\n}"
CALLER = "declare i64 @hook(i64)\ndefine i64 @caller(i64 %x) {\n %y = call i64 @hook(i64 %x)\n ret i64 %y\n}"


def test_a_function_is_found_and_runs():
    library = link([code(TWICE)])
    assert UNARY(library.address("twice"))(21) == 42
    assert library.address("twice") == library.address("twice")


def test_exports_are_resolved_at_once():
    library = link([code(TWICE)], {}, ["twice"])
    assert UNARY(library.address("twice"))(4) == 8


def test_objects_call_each_other_hooks_and_the_c_library():
    hook = UNARY(lambda x: x * x)
    chain = (
        "declare i64 @caller(i64)\ndeclare i64 @twice(i64)\ndeclare i64 @llabs(i64)\n"
        "define i64 @chain(i64 %x) {\n %p = call i64 @llabs(i64 %x)\n %a = call i64 @caller(i64 %p)\n"
        " %b = call i64 @twice(i64 %a)\n ret i64 %b\n}"
    )
    address = ctypes.cast(hook, ctypes.c_void_p).value
    library = link([code(TWICE), code(CALLER), code(chain)], {"hook": address})
    assert UNARY(library.address("chain"))(-3) == 18


def test_libraries_do_not_see_each_other():
    one = link([code("define i64 @value(i64 %x) {\n ret i64 1\n}")])
    two = link([code("define i64 @value(i64 %x) {\n ret i64 2\n}")])
    assert (UNARY(one.address("value"))(0), UNARY(two.address("value"))(0)) == (1, 2)
    with pytest.raises(CompilerBug, match="twice"):
        one.address("twice")


def test_globals_belong_to_one_library():
    text = (
        "@count = internal global i64 0\ndefine i64 @next(i64 %x) {\n %a = load i64, ptr @count\n"
        " %b = add i64 %a, %x\n store i64 %b, ptr @count\n ret i64 %b\n}"
    )
    one, two = link([code(text)]), link([code(text)])
    assert [UNARY(library.address("next"))(5) for library in (one, one, two)] == [5, 10, 5]


@pytest.mark.parametrize("data", [b"", b"junk", code(TWICE)[:100]])
def test_damaged_objects_are_an_error_not_a_crash(data):
    with pytest.raises(CompilerBug):
        link([data], {}, ["twice"])


def test_a_missing_symbol_is_an_error(capfd):
    with pytest.raises(CompilerBug):
        link([code(CALLER)]).address("caller")
    assert "hook" in capfd.readouterr().err


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
def test_dropping_a_library_returns_its_memory():
    words = ", ".join(f"i64 {n}" for n in range(20_000))
    data = code(
        f"@t = internal constant [20000 x i64] [{words}]\n"
        + TWICE.replace("%x, %x", "%x, %k").replace(
            " %y", " %p = getelementptr i64, ptr @t, i64 %x\n %k = load i64, ptr %p\n %y", 1
        )
    )

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def turn() -> None:
        library = link([data], {}, ["twice"])
        assert UNARY(library.address("twice"))(7) == 14

    for _ in range(20):
        turn()
    gc.collect()
    before = resident()
    for _ in range(300):  # 48 MB if nothing were returned
        turn()
    gc.collect()
    assert resident() - before < 12 << 20


def test_a_process_with_live_libraries_ends_cleanly():
    script = (
        "from tests.runtime.test_link import *\n"
        "kept = [link([code(TWICE)]) for _ in range(3)]\n"
        "assert UNARY(kept[1].address('twice'))(2) == 4\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
