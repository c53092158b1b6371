"""What a forked child finds: free locks, LLVM at rest, the cycle collector on."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from kcompile import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("make", [forks.lock, forks.rlock])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python warns of fork beside threads
def test_a_lock_that_another_thread_holds_is_free_in_the_child(make):
    lock, held, done = make(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not lock.acquire(blocking=False), "only the child's is free"
    done.set()
    holder.join()


def test_a_fork_while_another_thread_compiles():
    script = """
        import gc, os, signal, threading, warnings
        from kcompile import flags, pipeline
        from tests.passes.test_program import dense_training
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def compile_on():
            while not stop.is_set():
                pipeline.compile(dense_training())
        with flags.scoped(cache=False):
            pipeline.compile(dense_training())
            other = threading.Thread(target=compile_on)
            other.start()
            for _ in range(4):
                child = os.fork()
                if child == 0:
                    signal.alarm(30)
                    assert gc.isenabled()
                    pipeline.compile(dense_training())
                    os._exit(0 if gc.isenabled() else 1)
                assert os.waitpid(child, 0)[1] == 0
            stop.set()
            other.join()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
