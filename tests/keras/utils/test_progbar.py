"""The progress bar: W-8 and section 6 of the checklist, by its text functions and by what it writes."""

import pytest

from kcompile.keras.utils import progbar
from kcompile.keras.utils.progbar import Progbar, bar_text, eta_text, time_text, values_text


def test_w8_bars():
    assert bar_text(1, 8) == "1/8 [==>...........................]"
    assert bar_text(3, 8) == "3/8 [==========>...................]"
    assert bar_text(8, 8) == "8/8 [==============================]"
    assert bar_text(20, 1500) == "  20/1500 [..............................]"
    assert bar_text(7, None) == "      7/Unknown"


def test_times():
    assert [eta_text(s) for s in (0.4, 59, 61, 3600, 3725)] == ["0s", "59s", "1:01", "60:00", "1:02:05"]
    assert [time_text(s) for s in (477e-6, 0.0134, 2.2)] == ["477us/step", "13ms/step", "2s/step"]


def test_values():
    assert values_text([("loss", 1.42761), ("mae", 0.94591)]) == " - loss: 1.4276 - mae: 0.9459"
    assert values_text([("loss", 0.00012345)]) == " - loss: 1.2345e-04"


class Clock:
    def __init__(self):
        self.now = 100.0

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progbar, "time", clock)
    return clock


def test_last_line_of_twenty_steps(clock, capsys):
    bar = Progbar(20, stateful_metrics=["loss", "mae"])
    for step in range(1, 21):
        clock.now += 477e-6
        bar.update(step, [("loss", 1.4276), ("mae", 0.9459)])
    lines = capsys.readouterr().out.split("\n")
    assert lines[1] == " 1/20 [>.............................] - ETA: 0s - loss: 1.4276 - mae: 0.9459"
    assert lines[-2] == "20/20 [==============================] - 0s 477us/step - loss: 1.4276 - mae: 0.9459"
    assert len(lines) == 4  # the first, the last, nothing between: they came within the interval


def test_verbose_2_prints_one_line(clock, capsys):
    bar = Progbar(5, verbose=2)
    clock.now += 1.2
    bar.update(5, [("loss", 0.4729), ("accuracy", 0.8462)])
    assert capsys.readouterr().out == "5/5 - 1s - loss: 0.4729 - accuracy: 0.8462\n"


def test_terminal_rewrites_the_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(progbar, "_rewrites_lines", lambda: True)
    bar = Progbar(2)
    clock.now += 1
    bar.update(1)
    clock.now += 1
    bar.update(2)
    out = capsys.readouterr().out
    first = "1/2 [==============>...............] - ETA: 1s"
    assert out.startswith("\r" + first)
    assert "\b" * len(first) + "\r2/2 [==============================] - 2s 1s/step" in out


def test_values_are_averaged_over_steps_unless_stateful(clock, capsys):
    bar = Progbar(2, stateful_metrics=["m"])
    clock.now += 1
    bar.update(1, [("a", 1.0), ("m", 1.0)])
    clock.now += 1
    bar.update(2, [("a", 3.0), ("m", 3.0)])
    assert capsys.readouterr().out.endswith(" - a: 2.0000 - m: 3.0000\n")


def test_silent(clock, capsys):
    Progbar(2, verbose=0).update(2)
    assert capsys.readouterr().out == ""
