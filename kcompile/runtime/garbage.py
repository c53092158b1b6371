"""No search for garbage cycles while a program is compiled.

A compilation makes millions of small objects that live until it ends. Python's collector counts them and, each time
there are a quarter more, looks through all of them again: a third to a half of the time that a large model's passes
and emitters take. What the compiler leaves in cycles meanwhile is small beside the rest: 28 MB of 700 for the
training step of ResNet-50. They count as old objects afterwards, so the next full search finds them, and not the
first small one, which would look through everything the compilation made.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
from collections.abc import Callable
from contextlib import contextmanager

from kcompile import forks

_lock = forks.lock()
_inside: dict[int, int] = {}  # thread -> how many blocks it is in
_was_on = False


@contextmanager
def no_collection():
    """Run a block without the cycle collector; the last of several at once switches it on again if it was on."""
    global _was_on
    me = threading.get_ident()
    with _lock:
        if not _inside:
            _was_on = gc.isenabled()
            gc.disable()
        _inside[me] = _inside.get(me, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
            if not _inside and _was_on:
                if gc.get_freeze_count() == 0:  # the user has frozen nothing: this only moves the young to the old
                    gc.freeze()
                    gc.unfreeze()
                gc.enable()


def uncollected(run: Callable) -> Callable:
    """A function run so."""

    @functools.wraps(run)
    def inside(*args, **named):
        with no_collection():
            return run(*args, **named)

    return inside


def _after_fork() -> None:
    """In the child: the other threads, and their blocks, are not there."""
    me = threading.get_ident()
    for other in [t for t in _inside if t != me]:
        del _inside[other]
        if not _inside and _was_on:
            gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
