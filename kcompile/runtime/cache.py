"""Compiled objects on disk, found by content.

    key    = sha256 over everything that can change the code (`key`)
    entry  = magic, sha256 of the object, the object; one file per key
    folder = KCOMPILE_CACHE_DIR, else the user's cache folder; private to the user

An entry is code that will run in this process, so the folder and each file must belong to the user and
be writable by nobody else; otherwise there is one warning and no cache. Files appear whole
(`os.replace`), a damaged one is dropped and compiled again, and nothing is ever unpickled. A disk that
is full or read-only costs the cache, never the compilation.

Entries not used for long go first once the folder exceeds KCOMPILE_CACHE_BYTES. KCOMPILE_CACHE=0 turns
all of it off.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import kcompile
from kcompile import flags
from kcompile.target import Target

_MAGIC = b"kcobj\x00\x01\n"  # the number is the version of the entry's layout
_DIGEST_BYTES = 32
_HEADER_BYTES = len(_MAGIC) + _DIGEST_BYTES
_SUFFIX = ".kco"
_TEMP_PREFIX = ".new-"
# A link is not followed, a pipe not waited for.
_READING = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_TEMP_LIFE_S = 3600.0  # a temporary file this old belongs to a process that died
_TOUCH_AFTER_S = 3600.0  # how stale a time of last use may be: saves a write on most hits
_KEEP_SHARE = 0.8  # what eviction leaves, so that the next few puts need not evict again


@dataclass
class Counters:
    """What happened in this process; tests read and `reset` it."""

    hits: int = 0
    misses: int = 0
    compiles: int = 0
    damaged: int = 0

    def reset(self) -> None:
        self.hits = self.misses = self.compiles = self.damaged = 0


counters = Counters()


def key(ir_text: str, target: Target, *, opt: int = 3) -> str:
    """The name under which an object is kept: a sha256 in hex over all that can change the code.

    Args: ir_text: the module before optimisation; opt: optimisation level 0..3. The versions of kcompile
          and LLVM are added here.
    """
    # codegen.llvm loads LLVM, 50 ms: whoever has IR text has it loaded, whoever imports this file may not.
    from kcompile.codegen.llvm import VERSION

    digest = hashlib.sha256()
    for part in (kcompile.__version__, VERSION, target.key(), str(opt), ir_text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))  # so that no two lists of parts read the same
        digest.update(data)
    return digest.hexdigest()


def get(key: str) -> bytes | None:
    """The object kept under `key`, or None: never kept, evicted, damaged, or the cache is off."""
    cache = _current()
    data = cache.get(key) if cache else None
    if data is None:
        counters.misses += 1
    else:
        counters.hits += 1
    return data


def put(key: str, data: bytes) -> None:
    """Keep an object; does nothing when the cache is off or the disk refuses."""
    cache = _current()
    if cache:
        cache.put(key, data)


def get_or_compile(key: str, compile_object: Callable[[], bytes]) -> bytes:
    """The object kept under `key`; on a miss, what `compile_object` makes, kept for next time."""
    data = get(key)
    if data is None:
        data = compile_object()
        counters.compiles += 1
        put(key, data)
    return data


def default_folder() -> Path:
    """Where the cache lives when no flag says otherwise."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        given = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG base directory specification: relative paths are to be ignored.
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "kcompile"


def _current() -> DiskCache | None:
    if not flags.get("cache"):
        return None
    return _open(flags.get("cache_dir"), flags.get("cache_bytes"))


@functools.lru_cache(maxsize=8)  # one per folder and limit: the check and the one warning happen once
def _open(folder: str | None, limit_bytes: int) -> DiskCache | None:
    try:
        path = Path(folder) if folder else default_folder()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        refusal = folder_refusal(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        path, refusal = Path(folder or "~/.cache/kcompile"), str(error)
    if refusal:
        warnings.warn(
            f"kcompile works without its disk cache: {path}: {refusal}. "
            "Set KCOMPILE_CACHE_DIR to a private folder, or KCOMPILE_CACHE=0 to silence this.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return DiskCache(path, limit_bytes)


def folder_refusal(folder: Path) -> str | None:
    """Why code from this folder must not be trusted, or None."""
    for info in (os.lstat(folder), os.stat(folder)):  # a link somebody else made could be turned elsewhere
        if not _is_mine(info):
            return f"it belongs to user {info.st_uid}, not to you"
    if not stat.S_ISDIR(info.st_mode):
        return "it is not a folder"
    if _others_write(info):
        return f"other users may write there (mode {stat.S_IMODE(info.st_mode):04o}, expected 0700)"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "it cannot be written"
    return None


def _others_write(info: os.stat_result) -> bool:
    return os.name == "posix" and bool(info.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _is_mine(info: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or info.st_uid == os.geteuid()


@dataclass
class DiskCache:
    """One folder of entries. Any number of processes may use it at once."""

    folder: Path
    limit_bytes: int
    _total_bytes: int | None = field(default=None, init=False)  # as far as this process knows

    def get(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            data = self._read(path)
        except OSError:  # not there, mostly
            return None
        if data is None:
            counters.damaged += 1
            _remove(path)
        return data

    def _read(self, path: Path) -> bytes | None:
        """The object in a file; None if the file is damaged or others could have written it."""
        descriptor = os.open(path, _READING)
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not _is_mine(info) or not stat.S_ISREG(info.st_mode) or _others_write(info):
                return None
            raw = file.read()
        if len(raw) < _HEADER_BYTES or not raw.startswith(_MAGIC):
            return None
        data = raw[_HEADER_BYTES:]
        if hashlib.sha256(data).digest() != raw[len(_MAGIC) : _HEADER_BYTES]:
            return None
        if time.time() - info.st_mtime > _TOUCH_AFTER_S:
            os.utime(path)  # the time of last use is what eviction goes by
        return data

    def put(self, key: str, data: bytes) -> None:
        size = _HEADER_BYTES + len(data)
        if size > self.limit_bytes:
            return
        path = self._path(key)
        temporary = path.with_name(f"{_TEMP_PREFIX}{os.getpid()}-{os.urandom(6).hex()}")
        try:
            # Not written through to the disk: after a power cut the checksum sends us back to compiling.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with open(descriptor, "wb") as file:
                file.write(_MAGIC)
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            _remove(temporary)
            return
        self._account(size)

    def _path(self, key: str) -> Path:
        if not key.isalnum():
            raise ValueError(f"a cache key is a hex digest, received {key!r}")
        return self.folder / (key + _SUFFIX)

    def _account(self, added_bytes: int) -> None:
        if self._total_bytes is None:
            self._total_bytes = sum(info.st_size for _, info in self._files())
        else:
            self._total_bytes += added_bytes
        if self._total_bytes > self.limit_bytes:
            self._evict()

    def _evict(self) -> None:
        """Remove the entries not used for longest until `_KEEP_SHARE` of the limit is left."""
        files = sorted(self._files(), key=lambda item: item[1].st_mtime)  # looked at afresh: others write too
        total = sum(info.st_size for _, info in files)
        abandoned_before = time.time() - _TEMP_LIFE_S
        for path, info in files:
            is_temporary = os.path.basename(path).startswith(_TEMP_PREFIX)
            if info.st_mtime < abandoned_before if is_temporary else total > self.limit_bytes * _KEEP_SHARE:
                _remove(path)
                total -= info.st_size
        self._total_bytes = total

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIX) or entry.name.startswith(_TEMP_PREFIX):
                        try:
                            yield entry.path, entry.stat(follow_symlinks=False)
                        except OSError:
                            pass  # another process removed it meanwhile
        except OSError:
            return


def _remove(path: os.PathLike | str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # gone already, or not ours to remove: then it is only never used
