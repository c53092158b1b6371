"""Locks that a forked child finds free.

A lock that another thread holds while a process forks stays locked in the child for ever: the thread is not there to
release it. Locks made here are made new in the child. That is right where what a lock guards is whole between any
two lines of Python, or is found to be unfinished by whoever comes next; LLVM, which is neither, is waited for
(`codegen/llvm.py`).
"""

from __future__ import annotations

import os
import threading
import weakref

_locks: weakref.WeakSet = weakref.WeakSet()


def lock() -> threading.Lock:
    """A lock that is free in a forked child."""
    return _known(threading.Lock())


def rlock() -> threading.RLock:
    """A lock that its thread may take again, free in a forked child."""
    return _known(threading.RLock())


def _known(made):
    _locks.add(made)
    return made


def _after_fork() -> None:
    for made in tuple(_locks):
        made._at_fork_reinit()  # what CPython's own modules do with theirs


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
