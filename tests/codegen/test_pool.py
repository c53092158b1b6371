"""The emitted pool: text and object for every kind of target. Its behaviour: tests/runtime/test_threads.py."""

import re

import pytest

from kcompile.codegen.llvm import assembly, compile_module
from kcompile.codegen.pool import pool_ir
from kcompile.target import Target

WITH_THREADS = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-gnu",
    "riscv64-unknown-linux-gnu",
    "x86_64-apple-macosx12.0.0",
    "arm64-apple-macosx12.0.0",
]
SERIAL = ["x86_64-pc-windows-gnu", "wasm32-unknown-unknown", "wasm32-wasi", "i686-unknown-linux-gnu"]
OUTSIDE = {
    *("pthread_create", "pthread_join", "pthread_mutex_init", "pthread_mutex_lock", "pthread_mutex_unlock"),
    *("pthread_cond_init", "pthread_cond_wait", "pthread_cond_signal", "pthread_sigmask", "pthread_atfork"),
    *("sigfillset", "sigdelset", "clock_gettime"),
}
FUNCTIONS = {
    "kc_parallel_for",
    "kc_workers",
    "kc_worked",
    "kc_pool_start",
    "kc_pool_stop",
    "kc_pool_forget",
    "kc_pool_handover",
}


def defined(text):
    return set(re.findall(r"^define (?:hidden )?\w+ @(\w+)", text, re.MULTILINE))


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("triple", WITH_THREADS + SERIAL)
def test_every_target_takes_the_module(triple, exported):
    text = pool_ir(Target(triple), exported=exported)
    assert not re.search(r"\{[a-z_]+\}", text), "a placeholder was not filled"
    assert compile_module(text, Target(triple), opt=1)
    assert defined(text) == FUNCTIONS
    assert ("pthread_atfork(ptr null" in text) == (exported and triple in WITH_THREADS)
    outside = set(re.findall(r"^declare \w+ @([a-z]\w*)\(", text, re.MULTILINE))
    assert outside == (OUTSIDE if triple in WITH_THREADS else set())


@pytest.mark.parametrize("triple", [t for t in WITH_THREADS + SERIAL if "linux" in t])
def test_only_an_exported_pool_is_hidden_and_cleans_up_on_unload(triple):
    inside = assembly(pool_ir(Target(triple)), Target(triple))
    exported = assembly(pool_ir(Target(triple), exported=True), Target(triple))
    assert ".hidden" not in inside and ".hidden\tkc_parallel_for" in exported
    assert "fini_array" not in inside
    if triple in WITH_THREADS:
        assert "fini_array" in exported
        assert "pthread_atfork" in exported and "pthread_atfork" not in inside


@pytest.mark.parametrize(("triple", "instruction"), [(WITH_THREADS[0], "pause"), (WITH_THREADS[2], "yield")])
def test_spinning_pauses(triple, instruction):
    assert re.search(rf"^\s+{instruction}$", assembly(pool_ir(Target(triple)), Target(triple)), re.MULTILINE)
