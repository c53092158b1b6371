"""What the commands were asked for, checked: rows by a part of their name, peers by name, numbers of threads."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def some(rows: Sequence[Row], only: str, known: Iterable[str]) -> Sequence[Row]:
    """The rows, if there are any. known: the names of all rows."""
    if not rows:
        raise SystemExit(f"no row's name contains {only!r} (a quick run has fewer rows).{_near(only, known)}")
    return rows


def names(text: str, known: Iterable[str]) -> list[str]:
    """Names with commas, each of them known."""
    found, known = [n.strip() for n in text.split(",") if n.strip()], list(known)
    for name in found:
        if name not in known:
            raise SystemExit(f"no peer is called {name!r}.{_near(name, known)}")
    return found


def counts(text: str) -> list[int]:
    """Numbers of threads with commas; for `argparse`."""
    try:
        found = [int(n) for n in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"expects numbers of threads with commas, such as 1,2; received {text!r}")
    return found


def _near(name: str, known: Iterable[str]) -> str:
    """Some of the names, the nearest first."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.3) or known[:5]
    return f" There are {len(known)}, for example: {', '.join(near)}" if near else ""
