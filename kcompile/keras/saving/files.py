"""Replacing files whole: write beside the target, move into place at the end.

A save that is interrupted, by an error or a power cut, leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator

from kcompile.errors import ArgumentError


def may_write(path: str | os.PathLike, overwrite: bool) -> bool:
    """Return whether `path` may be written: it is free, `overwrite` is set, or the user says so on a terminal.

    Raises: ArgumentError if it exists and nobody can be asked.
    """
    if overwrite or not os.path.exists(path):
        return True
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise ArgumentError(f"{os.fspath(path)!r} already exists; pass overwrite=True to replace it.")
    while True:
        answer = input(f"{os.fspath(path)!r} already exists - overwrite? [y/n] ").strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no"):
            return False


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Give a path beside `path` to write to; at the end it takes the place of `path`, after an error it is removed.

    Raises: OSError as the system gives it (missing folder, no space, no right), with the file's name.
    """
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise ArgumentError(f"{os.fspath(path)!r} is a folder; expected the name of a file.")
    scratch = _beside(target)
    os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the rights the user's umask gives
    try:
        yield scratch
        with open(scratch, "rb+") as written:
            os.fsync(written.fileno())
        if os.path.exists(target):
            shutil.copymode(target, scratch)
        os.replace(scratch, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        number = _failed_write(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


def _failed_write(error: BaseException) -> int | None:
    """The system's number for a write that failed without a word of the file; HDF5 tells it in its message."""
    if isinstance(error, OSError) and error.filename is None and error.errno is not None:
        return error.errno
    found = re.search(r"errno = (\d+)", str(error)) if isinstance(error, (OSError, RuntimeError)) else None
    return int(found[1]) if found else None


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[str]:
    """The same for a folder: the old one is set aside while the new one moves in, and only then removed."""
    target = os.path.realpath(path)
    if os.path.isfile(target):
        raise ArgumentError(f"{os.fspath(path)!r} is a file; expected the name of a folder.")
    scratch, aside = _beside(target), None
    os.makedirs(scratch)
    try:
        yield scratch
        if os.path.exists(target):
            aside = _beside(target)
            os.rename(target, aside)
        os.rename(scratch, target)
    except BaseException:
        if aside is not None and not os.path.exists(target):
            os.rename(aside, target)
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _beside(target: str) -> str:
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
