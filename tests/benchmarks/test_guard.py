"""The guard sees what got worse, and nothing else."""

import json

from benchmarks import guard


def report(**seconds):
    return {"models": {"2": {"cnn train b32": {"seconds": seconds}}}}


STEADY = {"kcompile": [1.0, 1.0, 1.0], "torch": [2.0, 2.1, 2.0], "keras-jax": [4.0, 4.1, 4.0]}
ROW = "models, 2 threads: cnn train b32"


def test_ratios_of_models_and_kernels():
    assert guard.table(report(**STEADY))[ROW]["torch"][1] == 2.0
    kernels = {
        "1": {"machine": {}, "seconds_per_call": {"gemm": {"kcompile": [1.0], "numpy": [3.0]}, "x": {"numpy": [1]}}}
    }
    assert guard.table(kernels) == {"kernels, 1 thread: gemm": {"numpy": (3.0, 3.0, 3.0)}}
    assert guard.table(report(torch=[1.0])) == {}


def test_a_slower_row_is_named():
    before, now = guard.table(report(**STEADY)), guard.table(report(**{**STEADY, "kcompile": [1.4, 1.4, 1.4]}))
    (change,) = guard.changes(before, now)
    assert change.worse and not change.better and abs(change.factor - 1 / 1.4) < 1e-9
    assert "worse" in guard.summary([change]) and ROW in guard.summary([change])
    (back,) = guard.changes(now, before)
    assert back.better and not back.worse


def test_a_faster_machine_and_small_changes_are_not():
    before = guard.table(report(**STEADY))
    faster = guard.table(report(**{peer: [t / 2 for t in s] for peer, s in STEADY.items()}))
    slightly = guard.table(report(**{**STEADY, "kcompile": [1.05, 1.05, 1.05]}))
    for now in (faster, slightly):
        (change,) = guard.changes(before, now)
        assert not change.worse and not change.better


def test_noise_widens_the_tolerance():
    noisy = {"kcompile": [1.0, 1.0, 1.0], "torch": [1.0, 2.0, 3.0]}
    slower = {"kcompile": [1.3, 1.3, 1.3], "torch": [2.0, 2.0, 2.0]}
    (change,) = guard.changes(guard.table(report(**noisy)), guard.table(report(**slower)))
    assert not change.worse and change.noise == 0.5


def test_one_peer_that_became_faster_is_weighed_against_the_others():
    now = {**STEADY, "torch": [1.9, 1.9, 1.9]}
    (change,) = guard.changes(guard.table(report(**STEADY)), guard.table(report(**now)))
    assert not change.worse and change.peers == ("keras-jax", "torch")


def test_recording_keeps_other_rows(tmp_path):
    file = tmp_path / "recorded" / "models.json"
    guard.record(guard.table(report(**STEADY)), file)
    guard.record({"other": {"torch": (1.0, 1.23456, 2.0)}}, file)
    kept = guard.recorded(file.parent)
    assert set(kept) == {ROW, "other"} and kept["other"]["torch"] == [1.0, 1.235, 2.0]
    (change,) = guard.changes(kept, guard.table(report(**STEADY)))
    assert not change.worse and change.factor == 1.0
    assert json.loads(file.read_text()) == kept
