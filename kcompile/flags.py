"""Every KCOMPILE_* environment flag: one row each.

`flags.get("debug")` gives the value, converted to its type. The environment is read once per flag, on
first use; what counts afterwards is that value. `flags.scoped(verify=True)` replaces values for the
length of a `with` block, for the whole process (a compile may run in another thread): tests and
`kcompile inspect` use it, nothing else writes flags.

To add a flag, add a row to `ROWS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kcompile.errors import ArgumentError, UnknownNameError, suggestion

PREFIX = "KCOMPILE_"


def _bool(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[text.strip().lower()]


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _size(text: str) -> int:
    """Bytes, with an optional binary suffix: `512M` is 512 * 2**20."""
    text = text.strip().upper().removesuffix("B").removesuffix("I")
    shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:], 0)
    return _count(text[:-1] if shift else text) << shift


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _path(text: str) -> str:
    return os.path.expanduser(text)


@dataclass(frozen=True)
class Flag:
    """One flag: its name without prefix in lower case, how its text is read, and what it means."""

    name: str
    read: Callable[[str], Any]
    default: Any
    expects: str
    meaning: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


ROWS = (
    Flag("debug", _count, 0, "a number from 0 to 6", "how much the observer prints; each step adds a stage"),
    Flag("dump", _path, None, "a folder", "write every stage as a numbered file into this folder"),
    Flag("skip", _names, (), "names with commas", "passes to leave out, for finding a guilty one"),
    Flag("verify", _bool, False, "0 or 1", "run the verifiers after every stage"),
    Flag("poison", _bool, False, "0 or 1", "fill dead buffers with NaN, so that a read too late shows"),
    Flag("compare", _bool, False, "0 or 1", "run kernels beside the references; stop at the first that differs"),
    Flag("cache", _bool, True, "0 or 1", "keep compiled objects on disk"),
    Flag("cache_dir", _path, None, "a folder", "where the disk cache lives; otherwise the user's cache folder"),
    Flag("cache_bytes", _size, 1 << 30, "a size such as 512M", "size of the disk cache before old entries go"),
    Flag("num_threads", _count, 0, "a number of threads", "threads, the caller included; 0: as many as allowed"),
    Flag("compile_workers", _count, None, "a number", "at most so many processes that help compiling; 0: none"),
    Flag("compiled_calls", _bool, True, "0 or 1", "compile calls of layers and models on arrays that come often"),
    Flag("target", str, None, "a target's name", "compile for this CPU instead of the one at hand"),
)

_BY_NAME: Mapping[str, Flag] = {row.name: row for row in ROWS}
_values: dict[str, Any] = {}


def _row(name: str) -> Flag:
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnknownNameError(f"No flag is named {name!r}.{suggestion(name, _BY_NAME)}") from None


def _from_environment(row: Flag) -> Any:
    text = os.environ.get(row.variable, "")
    if not text.strip():
        return row.default
    try:
        return row.read(text)
    except (ValueError, KeyError):
        raise ArgumentError(
            f"{row.variable} expects {row.expects}, received {text!r}.\n  hint: it means: {row.meaning}"
        ) from None


def get(name: str) -> Any:
    """The value of a flag, by its name without prefix in lower case.

    Raises: UnknownNameError for a name without a row; ArgumentError if the environment holds a text
            that is not of the flag's type.
    """
    if name not in _values:
        _values[name] = _from_environment(_row(name))
    return _values[name]


@contextmanager
def scoped(**values: Any) -> Iterator[None]:
    """Give flags other values inside a `with` block; process-wide, and undone also after an error."""
    for name in values:
        _row(name)
    before = {name: get(name) for name in values}
    _values.update(values)
    try:
        yield
    finally:
        _values.update(before)


def describe() -> str:
    """A table of all flags with their present values, for help texts."""
    width = max(len(row.variable) for row in ROWS)
    return "\n".join(f"{row.variable:<{width}}  {row.meaning} (now: {get(row.name)!r})" for row in ROWS)
