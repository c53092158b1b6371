"""What the tables of whole models say, and the ways in which kcompile is measured."""

import pytest

from benchmarks import compile as compiling
from benchmarks import memory, run, threads, turns
from benchmarks.peers import OURS, PEERS, environment, installed
from benchmarks.timing import fastest, repeated, steps_for
from benchmarks.workloads import FIT, INFER, PREDICT, PREDICT_ON_BATCH, TRAIN, TRAIN_ON_BATCH, Workload

WORKLOAD = Workload("tiny", TRAIN, 4)


@pytest.mark.parametrize("mode", [TRAIN, INFER, FIT, TRAIN_ON_BATCH, PREDICT, PREDICT_ON_BATCH])
def test_every_mode_has_a_way(mode):
    ways = PEERS[OURS].ways(Workload("tiny", mode, 4), 1)
    assert len(ways) == 1 and all(way(3) > 0 for way in ways.values())


def test_a_peer_has_no_way_for_what_it_has_no_call():
    assert PEERS["onnxruntime"].ways(WORKLOAD, 1) == {} == PEERS["torch"].ways(Workload("tiny", PREDICT, 1), 1)
    assert [p.name for p in PEERS.values() if not p.trains] == ["onnxruntime", "openvino"]


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(monkeypatch, capsys):
    missing = PEERS["torch"].__class__("none", "", ("no_such_package_here",))
    monkeypatch.setitem(PEERS, "none", missing)
    assert installed("none,kcompile") == [OURS]
    assert capsys.readouterr().out == "none: left out, not installed: no_such_package_here\n"


def test_the_fastest_way_wins():
    ways = {"slow": lambda n: 2.0, "quick": lambda n: 1.0}
    assert fastest(ways) == ("quick", 1.0) and fastest({"slow": ways["slow"]}) == ("slow", 2.0)
    assert repeated(lambda: None)(5) >= 0
    assert steps_for(1.0, 0.3) == 3 and steps_for(1.0, 5.0) == 1 and steps_for(1.0, 0.0) > 1000


def test_the_table():
    times = {OURS: [1.0, 2.0, 4.0], "torch": [2.0, 2.0, 16.0], "openvino": [9.0, 9.0, 9.0]}
    assert run.ratios(times, "torch") == [1.0, 2.0, 4.0] and run.best(times) == ("torch", 2.0)
    assert run.best({OURS: [1.0]}) is None and run.best({"torch": [1.0]}) is None
    text = run.line(WORKLOAD, {"seconds": times, "limit_s": 1.0}, [OURS, "torch", "keras-jax", "openvino"])
    assert "x2.00 (1.00-4.00)" in text and " 50%" in text and text.split()[-3].startswith("9000000")
    assert run.line(WORKLOAD, {"seconds": {}, "limit_s": None}, [OURS, "torch"]).split()[-1] == "-"


def test_stages_are_read_from_what_the_compiler_prints():
    printed = "noise\nkcompile: m_train: 9 nodes, 4 kernel calls; ms: trace 20 entry LLVM 15 link 3\n"
    assert compiling.stages(printed) == {"trace": 0.02, "entry LLVM": 0.015, "link": 0.003}
    assert compiling.stages(printed * 2)["link"] == 0.006 and compiling.stages("") == {}


def test_the_stages_of_a_real_compilation(capfd):
    from kcompile import flags

    with flags.scoped(debug=1):
        times = compiling.measure(OURS, WORKLOAD, 1)
    found = compiling.stages(capfd.readouterr().err)
    assert set(times) == {"build", "program", "step"} and "lower" in found
    assert sum(found.values()) <= times["program"] + 0.01


def test_memory_counts_what_is_held():
    before = memory.peak_bytes()
    held = bytearray(before + (64 << 20))  # more than was ever held
    assert memory.peak_bytes() >= before + (64 << 20) > len(held) - before


@pytest.mark.parametrize("row", ["conv 3x3, 1 image 56x56x64", "cnn train b32"])
def test_numbers_do_not_depend_on_the_number_of_threads(row):
    start, _ = threads.ROWS[row]
    assert len(set(threads.digests(start, steps=1).values())) == 1


def test_a_peer_in_its_process_takes_turns():
    worker = turns.Worker(OURS, 1)
    try:
        row = run.measure(WORKLOAD, [worker], 2, 0.001)
    finally:
        worker.close()
    assert len(row["seconds"][OURS]) == 2 and row["ways"] == {OURS: FIT} and row["limit_s"] > 0
    assert worker.process.returncode == 0


def test_a_worker_that_died_starts_again():
    worker = turns.Worker("no such peer", 1)
    assert worker.ask(prepare=["tiny", TRAIN, 4], turn_s=0.1) is None
    worker.process.wait()
    died = worker.process
    worker.revive()
    assert worker.process is not died
    worker.close()


def test_libraries_choose_their_kernels_themselves(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setenv("SOME_SETTING", "kept")
    given = environment("numpy", 3)
    assert "OPENBLAS_CORETYPE" not in given
    assert given["SOME_SETTING"] == "kept" and given["OPENBLAS_NUM_THREADS"] == "3"
