"""What the benchmark commands are asked for: wrong names are answered, not passed over."""

import argparse
import json
import sys

import pytest

from benchmarks import choices, guard, kernels, run
from benchmarks.peers import installed

STEADY = {"kcompile": [1.0, 1.0], "torch": [2.0, 2.0]}


def test_rows_that_do_not_exist():
    assert choices.some(["a"], "a", ["a", "b"]) == ["a"]
    with pytest.raises(SystemExit, match=r"contains 'cn trian'.*cnn train b32"):
        choices.some([], "cn trian", ["cnn train b32", "tiny fit b1"])


@pytest.mark.parametrize("ask", [lambda: installed("torhc"), lambda: choices.names("torhc", kernels.PEERS)])
def test_peers_that_do_not_exist(ask):
    with pytest.raises(SystemExit, match=r"no peer is called 'torhc'.*torch"):
        ask()


def test_numbers_of_threads():
    assert choices.counts("1, 2") == [1, 2]
    for text in ("", "x", "0", "1,,2"):
        with pytest.raises(argparse.ArgumentTypeError, match="numbers of threads"):
            choices.counts(text)


def test_the_commands_answer(monkeypatch, capsys):
    for main, wrong in ((run.main, ["--only", "nosuch"]), (kernels.main, ["--only", "nosuch"])):
        monkeypatch.setattr(sys, "argv", ["command", *wrong])
        with pytest.raises(SystemExit, match="nosuch"):
            main()
    monkeypatch.setattr(sys, "argv", ["command", "--threads", "x"])
    with pytest.raises(SystemExit):
        run.main()
    assert "numbers of threads" in capsys.readouterr().err


def judged(monkeypatch, capsys, tmp_path, text):
    """The guard's answer to a file: exit status or message, and what it prints."""
    recorded, file = tmp_path / "recorded", tmp_path / "results.json"
    rows = {"models, 2 threads: cnn": {"torch": (2.0, 2.0, 2.0)}, "models, 2 threads: mlp": {"torch": (2.0, 2.0, 2.0)}}
    guard.record(rows, recorded / "models.json")
    monkeypatch.setattr(guard.recorded, "__defaults__", (recorded,))
    file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["guard", "--from", str(file)])
    with pytest.raises(SystemExit) as end:
        guard.main()
    return end.value.code, capsys.readouterr().out


def test_the_guard_sees_what_failed_and_what_is_missing(monkeypatch, capsys, tmp_path):
    def report(**rows):
        return json.dumps({"models": {"2": {name: {"seconds": seconds} for name, seconds in rows.items()}}})

    def ask(text):
        return judged(monkeypatch, capsys, tmp_path, text)

    assert ask(report(cnn=STEADY, mlp=STEADY))[0] == 0
    slower = {**STEADY, "kcompile": [1.5, 1.5]}
    assert ask(report(cnn=STEADY, mlp=slower))[0] == 1
    code, printed = ask(report(cnn=STEADY, mlp={"torch": [2.0, 2.0]}))
    assert code == 1 and "no time for: models, 2 threads: mlp" in printed
    for nothing in ("{}", report(new=STEADY), "[]"):
        code, printed = ask(nothing)
        assert code == 1 and "nothing to compare" in printed
    assert "is not what benchmarks.run" in ask("{")[0]
