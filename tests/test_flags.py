"""Flags: one row each, read once, typed, and replaced only inside `scoped`."""

import pytest

from kcompile import flags
from kcompile.errors import ArgumentError, UnknownNameError


@pytest.fixture
def fresh(monkeypatch):
    """Flags as in a process that has read none, in an environment that sets none."""
    monkeypatch.setattr(flags, "_values", {})
    for row in flags.ROWS:
        monkeypatch.delenv(row.variable, raising=False)
    return monkeypatch


def test_every_flag_has_a_default_and_says_what_it_means(fresh):
    for row in flags.ROWS:
        assert flags.get(row.name) == row.default
        assert row.meaning and row.expects
        assert row.variable in flags.describe()
    assert len({row.name for row in flags.ROWS}) == len(flags.ROWS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("debug", "3", 3),
        ("verify", "1", True),
        ("verify", "No", False),
        ("cache", "0", False),
        ("skip", "fold, layout,", ("fold", "layout")),
        ("cache_bytes", "512M", 512 << 20),
        ("cache_bytes", "2GiB", 2 << 30),
        ("cache_bytes", "1000", 1000),
        ("num_threads", "7", 7),
        ("target", "x86-64-v3", "x86-64-v3"),
        ("debug", "", 0),
        ("debug", "  ", 0),
    ],
)
def test_text_becomes_a_typed_value(fresh, name, text, value):
    fresh.setenv("KCOMPILE_" + name.upper(), text)
    assert flags.get(name) == value
    assert type(flags.get(name)) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("debug", "loud"), ("verify", "maybe"), ("num_threads", "-1"), ("cache_bytes", "5 apples")]
)
def test_a_wrong_text_names_the_variable_and_what_it_expects(fresh, name, text):
    fresh.setenv("KCOMPILE_" + name.upper(), text)
    with pytest.raises(ArgumentError, match=f"KCOMPILE_{name.upper()} expects .*{text}"):
        flags.get(name)


def test_the_environment_is_read_once(fresh):
    fresh.setenv("KCOMPILE_DEBUG", "2")
    assert flags.get("debug") == 2
    fresh.setenv("KCOMPILE_DEBUG", "5")
    assert flags.get("debug") == 2


def test_scoped_nests_and_is_undone_after_an_error(fresh):
    with flags.scoped(debug=1, verify=True):
        with flags.scoped(debug=4):
            assert (flags.get("debug"), flags.get("verify")) == (4, True)
        assert flags.get("debug") == 1
    with pytest.raises(ZeroDivisionError), flags.scoped(debug=6):
        raise ZeroDivisionError
    assert (flags.get("debug"), flags.get("verify")) == (0, False)


def test_unknown_names_are_refused_with_a_suggestion(fresh):
    with pytest.raises(UnknownNameError, match="Did you mean 'verify'"):
        flags.get("verfy")
    with pytest.raises(UnknownNameError, match="verfy"), flags.scoped(debug=5, verfy=True):
        pass
    assert flags.get("debug") == 0
