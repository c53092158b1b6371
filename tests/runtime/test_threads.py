"""The pool: every index once, in the promised parts, whatever else happens at the same time."""

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from kcompile import flags, pipeline
from kcompile.codegen.host import host_target
from kcompile.codegen.llvm import compile_module
from kcompile.codegen.pool import pool_ir
from kcompile.codegen.pool import workers as trial_of
from kcompile.codegen.pool.parts import LONG_PART_OPERATIONS
from kcompile.errors import ArgumentError
from kcompile.runtime import threads
from kcompile.runtime.link import link
from tests.passes.test_program import softmax_graph

# Tasks, in IR so that pool threads never need Python.
#   mark: hits[i] += 1, owner[i] = worker            ctx = {hits, owner}
#   slow: as mark, after a delay that grows with the worker's number (ctx[2] turns for each)
#   nest: for each i of its part, a parallel loop of its own over 10 entries of hits
TASKS = """
declare void @kc_parallel_for(ptr, ptr, i64, i64, i64)

define void @mark(ptr %ctx, i64 %begin, i64 %end, i64 %worker) {
entry:
  %hits = load ptr, ptr %ctx
  %owner.at = getelementptr ptr, ptr %ctx, i64 1
  %owner = load ptr, ptr %owner.at
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %hit = getelementptr i64, ptr %hits, i64 %i
  %old = load i64, ptr %hit
  %new = add i64 %old, 1
  store i64 %new, ptr %hit
  %own = getelementptr i64, ptr %owner, i64 %i
  store i64 %worker, ptr %own
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}

define void @slow(ptr %ctx, i64 %begin, i64 %end, i64 %worker) {
entry:
  %turns.at = getelementptr i64, ptr %ctx, i64 2
  %each = load i64, ptr %turns.at
  %turns = mul i64 %each, %worker
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %turns
  br i1 %more, label %body, label %done
body:
  %sink = load volatile i64, ptr %ctx
  %next = add i64 %i, 1
  br label %head
done:
  call void @mark(ptr %ctx, i64 %begin, i64 %end, i64 %worker)
  ret void
}

define void @nest(ptr %ctx, i64 %begin, i64 %end, i64 %worker) {
entry:
  %inner = alloca [2 x ptr]
  %hits = load ptr, ptr %ctx
  %owner.at = getelementptr ptr, ptr %ctx, i64 1
  %owner = load ptr, ptr %owner.at
  br label %head
head:
  %i = phi i64 [ %begin, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %body, label %done
body:
  %first = mul i64 %i, 10
  %part = getelementptr i64, ptr %hits, i64 %first
  %part.owner = getelementptr i64, ptr %owner, i64 %first
  store ptr %part, ptr %inner
  %second = getelementptr ptr, ptr %inner, i64 1
  store ptr %part.owner, ptr %second
  call void @kc_parallel_for(ptr @mark, ptr %inner, i64 10, i64 4, i64 0)
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}

define void @repeat(ptr %task, ptr %ctx, i64 %n, i64 %workers, i64 %times, i64 %work) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %head ]
  call void @kc_parallel_for(ptr %task, ptr %ctx, i64 %n, i64 %workers, i64 %work)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %times
  br i1 %more, label %head, label %done
done:
  ret void
}
"""
NAMES = ("mark", "slow", "nest", "repeat", "kc_pool_start", "kc_pool_stop", "kc_parallel_for", "kc_pool_forget")


class Pool:
    """A pool of its own, beside the one of the process."""

    def __init__(self):
        target = host_target()
        self.library = link([compile_module(t, target, opt=1) for t in (pool_ir(target), TASKS)], {}, NAMES)
        self._repeat = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)(self.at("repeat"))
        self.start = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)(self.at("kc_pool_start"))
        self.stop = ctypes.CFUNCTYPE(ctypes.c_int32)(self.at("kc_pool_stop"))
        self.handover = ctypes.CFUNCTYPE(ctypes.c_int64)(self.at("kc_pool_handover"))
        self.workers = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *[ctypes.c_int64] * 2)(self.at("kc_workers"))
        self.worked = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self.at("kc_worked"))

    def at(self, name):
        return self.library.address(name)

    def run(self, n, workers, *, task="mark", times=1, turns=0, entries=None, work=0):
        """hits and owner after `times` parallel loops over n."""
        hits = np.zeros(entries or max(n, 1), np.int64)
        owner = np.full(len(hits), -1)
        ctx = np.array([hits.ctypes.data, owner.ctypes.data, turns], np.int64)
        self._repeat(self.at(task), ctx.ctypes.data, n, workers, times, work)
        return hits, owner


@pytest.fixture
def pool():
    made = Pool()
    yield made
    deadline = time.monotonic() + 10
    while made.stop():
        assert time.monotonic() < deadline, "the pool never came to rest"
        time.sleep(0.001)


def expected_owner(n, parts):
    owner = np.empty(n, np.int64)
    for worker in range(parts):
        owner[n * worker // parts : n * (worker + 1) // parts] = worker
    return owner


def wait_for_threads(count):
    """Whether the process comes to `count` threads; the system lists a joined one a moment longer."""
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) != count and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(os.listdir("/proc/self/task")) == count


@pytest.mark.parametrize("size", [2, 3, 5, 16])
def test_every_index_once_where_parts_have_pieces(pool, size):
    pool.start(size)
    for n in (2, 3, 5, 16, 17, 1000, 1001):
        for workers in (2, 3, 16):
            for work in (LONG_PART_OPERATIONS * workers, 1 << 40, 1 << 61):
                hits, _ = pool.run(n, workers, times=5, work=work)
                assert (hits[:n] == 5).all(), (n, workers, work)


def test_others_take_over_pieces_of_a_slow_part(pool):
    pool.start(2)
    hits, owner = pool.run(64, 2, task="slow", turns=200_000, work=1 << 40)
    assert (hits == 1).all() and (owner[32:] == 0).any()


def test_little_work_is_not_handed_over(pool):
    pool.start(2)
    pool.run(20, 2)  # the first call measures what a hand-over costs
    assert pool.handover() > 0
    for _ in range(200):
        hits, owner = pool.run(20, 2, work=1)
        assert (hits == 1).all() and (owner == 0).all()
    assert pool.run(20, 2)[1].max() == 1, "work of unknown size is"


@pytest.mark.parametrize(("with_all", "with_one", "best"), [(30_000, 300_000, 2), (300_000, 30_000, 1)])
def test_a_program_finds_out_whether_one_thread_is_quicker(pool, with_all, with_one, best):
    state = np.zeros(trial_of.STATE_WORDS, np.int64)

    def given(key, calls):
        found = []
        for _ in range(calls):
            found.append(pool.workers(state.ctypes.data, 2, key))
            until = time.perf_counter_ns() + (with_one if found[-1] == 1 else with_all)
            while time.perf_counter_ns() < until:
                pass
            pool.worked(state.ctypes.data, 2)
        return found

    trial = given(7, trial_of.CALLS - 1 + 2 * trial_of.RUNS)
    assert trial == [2] * (trial_of.CALLS - 1 + trial_of.RUNS) + [1] * trial_of.RUNS
    assert given(7, 10) == [best] * 10
    assert given(8, 3) == [2] * 3, "other sizes have not been tried"
    time.sleep(trial_of.TRIAL_NS / 1e9)
    tried_again = given(7, 100).count(3 - best)
    assert tried_again == (trial_of.RUNS if best == 1 else 0), "a change is tried again, time alone is no reason"
    assert pool.workers(state.ctypes.data, 1, 7) == 1


def test_a_long_program_is_not_tried_with_one_thread(pool):
    state = np.zeros(trial_of.STATE_WORDS, np.int64)
    for _ in range(40):
        assert pool.workers(state.ctypes.data, 2, 7) == 2
        if state[0]:
            time.sleep(1.5e-9 * trial_of.LONG_NS)
        pool.worked(state.ctypes.data, 2)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16])
def test_every_index_once_and_in_the_promised_part(pool, size):
    pool.start(size)
    for n in (0, 1, 2, 3, 4, 5, 7, 15, 16, 17, 64, 1000, 1001):
        for workers in (0, 1, 2, 3, 4, 16, 100):
            hits, owner = pool.run(n, workers)
            assert (hits[:n] == 1).all(), (n, workers)
            parts = max(1, min(n, workers, size))
            np.testing.assert_array_equal(owner[:n], expected_owner(n, parts), err_msg=f"n={n} workers={workers}")


def test_a_negative_count_is_an_empty_one(pool):
    pool.start(2)
    hits, _ = pool.run(-5, 2)
    assert (hits == 0).all()


def test_twenty_thousand_tiny_loops(pool):
    pool.start(2)
    hits, _ = pool.run(9, 2, times=20_000)
    assert (hits == 20_000).all()


def test_more_threads_than_cpus(pool):
    pool.start(8)
    hits, owner = pool.run(40, 8, times=100)
    assert (hits == 100).all()
    np.testing.assert_array_equal(owner, expected_owner(40, 8))


def test_threads_that_fell_asleep_are_woken(pool):
    pool.start(3)
    for _ in range(20):
        hits, owner = pool.run(3, 3)
        assert (hits == 1).all() and owner.tolist() == [0, 1, 2]
        time.sleep(0.002)  # far longer than they spin


def test_the_caller_sleeps_while_others_work_long(pool):
    pool.start(3)
    pool.run(3, 3)
    hits, owner = pool.run(3, 3, task="slow", turns=5_000_000)
    assert (hits == 1).all() and owner.tolist() == [0, 1, 2]


def test_delays_around_the_spin_limit(pool):
    """Where spinning turns into sleep is where a wake could be lost."""
    pool.start(2)
    for turns in range(10_000, 400_000, 3_000):
        hits, _ = pool.run(2, 2, task="slow", turns=turns, times=2)
        assert (hits == 2).all(), turns


def test_a_task_may_use_the_pool_itself(pool):
    pool.start(4)
    hits, _ = pool.run(12, 4, task="nest", times=50, entries=120)
    assert (hits == 50).all()


def test_many_python_threads_at_once(pool):
    pool.start(3)
    wrong = []

    def work(n):
        for _ in range(30):
            hits, _ = pool.run(n, 3, times=20)
            if not (hits == 20).all():
                wrong.append(n)

    callers = [threading.Thread(target=work, args=(50 + n,)) for n in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert not wrong and not any(caller.is_alive() for caller in callers)


def test_start_stop_and_start_again(pool):
    for size in (2, 5, 3, 1, 4):
        assert pool.start(size) == 0
        _, owner = pool.run(20, 20)
        assert owner.max() == size - 1
        assert pool.stop() == 0
        _, owner = pool.run(20, 20)
        assert (owner == 0).all(), "a stopped pool is a serial one"
    assert pool.stop() == 0


def test_start_again_grows_and_never_shrinks(pool):
    for size, there in ((2, 2), (4, 4), (3, 4), (-7, 4), (4, 4)):
        pool.start(size)
        assert pool.run(20, 20)[1].max() == there - 1


def test_during_a_call_stop_is_refused_and_others_run_alone(pool):
    pool.start(2)
    inside, go_on, parts = threading.Event(), threading.Event(), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
    def hold(_, begin, end, worker):
        parts.append((begin, end, worker))
        inside.set()
        go_on.wait(30)

    address = ctypes.cast(hold, ctypes.c_void_p).value
    caller = threading.Thread(target=pool._repeat, args=(address, None, 7, 2, 1, 0))
    caller.start()
    assert inside.wait(30)
    assert pool.stop() == 1
    hits, owner = pool.run(20, 2)
    assert (hits == 1).all() and (owner == 0).all()
    go_on.set()
    caller.join()
    assert sorted(parts) == [(0, 3, 0), (3, 7, 1)]
    assert pool.run(20, 2)[1].max() == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in Linux's /proc")
def test_threads_exist_only_once_a_loop_can_use_them(pool):
    before = len(os.listdir("/proc/self/task"))
    pool.start(4)
    pool.run(100, 1)
    pool.run(1, 4)
    assert len(os.listdir("/proc/self/task")) == before
    pool.run(2, 2)
    assert len(os.listdir("/proc/self/task")) == before + 3
    pool.stop()
    assert wait_for_threads(before)


def blocked_signals(thread: str) -> int:
    (line,) = [x for x in open(f"/proc/self/task/{thread}/status") if x.startswith("SigBlk:")]
    return int(line.split()[1], 16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a thread's signal mask in /proc")
def test_pool_threads_leave_signals_to_the_program(pool):
    before = set(os.listdir("/proc/self/task"))
    pool.start(2)
    pool.run(2, 2)
    (new,) = set(os.listdir("/proc/self/task")) - before
    faults = (4, 7, 8, 11)
    deadline = time.monotonic() + 10
    while any(blocked_signals(new) >> (n - 1) & 1 for n in faults):  # until it runs, a new thread blocks all
        assert time.monotonic() < deadline, "faults must reach their handler"
        time.sleep(0.01)
    assert blocked_signals(new) >> (2 - 1) & 1, "SIGINT"
    main = [x for x in open("/proc/self/status") if x.startswith("SigBlk:")]
    assert not int(main[0].split()[1], 16) >> 1 & 1, "the caller's own mask is as before"


# ---- the pool of the process ---------------------------------------------------------------------


@pytest.fixture
def size_restored():
    before = threads._chosen
    yield
    threads.set_num_threads(before or flags.get("num_threads") or threads.available_cpus())
    threads._chosen = before


def process_pool():
    """The tasks, linked to the pool of the process."""
    made = object.__new__(Pool)
    symbols = {"kc_parallel_for": threads.parallel_for_address()}
    made.library = link([compile_module(TASKS, host_target(), opt=1)], symbols, NAMES[:4])
    made._repeat = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)(made.at("repeat"))
    return made


def test_a_program_links_to_the_one_pool(size_restored):
    assert threads.parallel_for_address() == threads.parallel_for_address()
    user = process_pool()
    for size in (3, 1, 4, 2):
        threads.set_num_threads(size)
        assert threads.num_threads() == size
        np.testing.assert_array_equal(user.run(50, 50)[1], expected_owner(50, size))


def test_the_size_may_change_while_programs_run(size_restored):
    user, wrong, stop = process_pool(), [], threading.Event()

    def work():
        while not stop.is_set():
            hits, _ = user.run(30, 8, times=10)
            if not (hits == 10).all():
                wrong.append(hits)

    caller = threading.Thread(target=work)
    caller.start()
    for size in (2, 4, 1, 3) * 5:
        threads.set_num_threads(size)
    stop.set()
    caller.join()
    assert not wrong


@pytest.mark.parametrize("n", [0, -3])
def test_a_size_below_one_is_refused(n):
    with pytest.raises(ArgumentError, match="at least 1"):
        threads.set_num_threads(n)


def test_the_flag_counts_before_the_cpus(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)
    with flags.scoped(num_threads=7):
        assert threads.num_threads() == 7
    with flags.scoped(num_threads=0):
        assert threads.num_threads() == threads.available_cpus() >= 1


def test_no_more_threads_than_a_pool_can_have():
    """Scratch memory is laid out for each of them."""
    with flags.scoped(num_threads=100_000):
        assert threads.num_threads() == threads.MAX_THREADS
    assert pipeline.compile(softmax_graph(), num_threads=100_000).workers == threads.MAX_THREADS


def run_script(body: str) -> None:
    script = "from tests.runtime.test_threads import *\nthreads.set_num_threads(3)\n" + textwrap.dedent(body)
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")  # NumPy's threads come and go at a fork: not counted
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_forked_child_makes_a_pool_of_its_own():
    run_script("""
        user = process_pool()
        assert user.run(30, 3)[1].max() == 2
        for generation in range(3):
            pid = os.fork()
            if pid == 0:
                hits, owner = user.run(30, 3, times=200)
                os._exit(0 if (hits == 200).all() and owner.max() == 2 else 1)
            assert os.waitpid(pid, 0)[1] == 0
            hits, owner = user.run(30, 3, times=200)
            assert (hits == 200).all() and owner.max() == 2
    """)


@needs_fork
def test_a_fork_during_a_call_on_another_thread():
    run_script("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of fork beside threads
        user = process_pool()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                user.run(3, 3, task="slow", turns=20_000, times=10)
        caller = threading.Thread(target=work)
        caller.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                hits, owner = user.run(30, 3, times=20)
                os._exit(0 if (hits == 20).all() and owner.max() == 2 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        caller.join()
    """)


@needs_fork
def test_multiprocessing_by_fork():
    run_script("""
        import multiprocessing
        user = process_pool()
        user.run(30, 3)
        def work(n):
            return int(user.run(n, 3, times=10)[0].sum())
        with multiprocessing.get_context("fork").Pool(2) as processes:
            assert processes.map(work, [10, 20, 30]) == [100, 200, 300]
    """)


def test_python_may_end_while_a_call_runs():
    run_script("""
        user = process_pool()
        threading.Thread(target=user.run, args=(3, 3), kwargs={"task": "slow", "times": 10**9}, daemon=True).start()
        time.sleep(0.05)
    """)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a linker")
def test_a_library_with_the_pool_loads_forks_and_unloads(tmp_path):
    target = host_target()
    (tmp_path / "pool.o").write_bytes(compile_module(pool_ir(target, exported=True), target))
    visible = TASKS + (
        "declare i32 @kc_pool_start(i64)\n"
        "define i32 @start(i64 %n) {\n  %r = call i32 @kc_pool_start(i64 %n)\n  ret i32 %r\n}\n"
    )
    (tmp_path / "tasks.o").write_bytes(compile_module(visible, target))
    made = tmp_path / "libpool.so"
    objects = [str(tmp_path / "pool.o"), str(tmp_path / "tasks.o")]
    subprocess.run(["cc", "-shared", "-pthread", "-Wl,-z,defs", "-o", str(made), *objects], check=True)
    body = f"""
        import _ctypes
        def use(loaded, times=100):
            hits, owner = np.zeros(30, np.int64), np.zeros(30, np.int64)
            ctx = np.array([hits.ctypes.data, owner.ctypes.data, 0], np.int64)
            mark = ctypes.cast(loaded.mark, ctypes.c_void_p)
            loaded.repeat(mark, ctypes.c_void_p(ctx.ctypes.data), *map(ctypes.c_int64, (30, 3, times, 0)))
            return (hits == times).all() and owner.max() == 2
        count = lambda: len(os.listdir("/proc/self/task"))
        before = count()
        for _ in range(3):
            loaded = ctypes.CDLL({str(made)!r})
            assert not hasattr(loaded, "kc_parallel_for"), "the pool's own names must stay inside"
            loaded.start(ctypes.c_int64(3))
            assert use(loaded) and count() == before + 2
            pid = os.fork()
            if pid == 0:
                os._exit(0 if use(loaded) else 1)
            assert os.waitpid(pid, 0)[1] == 0
            assert use(loaded)
            _ctypes.dlclose(loaded._handle)
            assert wait_for_threads(before), "unloading ends the threads"
        pid = os.fork()  # the handler went with the library
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        loaded = ctypes.CDLL({str(made)!r})
        loaded.start(ctypes.c_int64(3))
        assert use(loaded)  # and the process ends with its threads still there
    """
    run_script(body)


# ---- how many threads ----------------------------------------------------------------------------


def write(root, **files):
    for path, text in files.items():
        target = root / path.replace("__", "/").replace("_DOT_", ".")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def test_no_control_groups_means_no_limit(tmp_path):
    assert threads.cgroup_cpus(tmp_path) is None


@pytest.mark.parametrize(
    ("own", "above", "cpus"),
    [
        ("max 100000", "max 100000", None),
        ("150000 100000", "max 100000", 1.5),
        ("max 100000", "200000 50000", 4.0),
        ("300000 100000", "200000 100000", 2.0),
    ],
)
def test_version_2_the_strictest_level_counts(tmp_path, own, above, cpus):
    write(tmp_path, proc__self__cgroup="0::/a/b\n", sys__fs__cgroup__a__cpu_DOT_max=above)
    write(tmp_path, sys__fs__cgroup__a__b__cpu_DOT_max=own)
    assert threads.cgroup_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", None), ("250000", 2.5)])
def test_version_1(tmp_path, quota, cpus):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/x\n3:cpu,cpuacct:/x\n")
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/x"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text("100000")
    assert threads.cgroup_cpus(tmp_path) == cpus


@pytest.mark.parametrize("text", ["", "nonsense", "1 2 3", "10 0"])
def test_a_strange_file_sets_no_limit(tmp_path, text):
    write(tmp_path, proc__self__cgroup="0::/\n", sys__fs__cgroup__cpu_DOT_max=text)
    assert threads.cgroup_cpus(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (3.9, 3), (100.0, 8)])
def test_the_smaller_of_affinity_and_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert threads.available_cpus() == expected
