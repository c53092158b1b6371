"""get_file: a file fetched once into the cache, checked, and unpacked without trust.

The cache is `KERAS_HOME`, or `~/.keras`. A download goes to a scratch file beside the target and moves into
place only when it is whole and its hash is right. Archives may write only below their own folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from kcompile.errors import ArgumentError, SavedFileError
from kcompile.keras import config
from kcompile.keras.utils.progbar import Progbar

_CHUNK_BYTES = 1 << 16
_SCHEMES = ("http", "https", "file", "ftp")
_HASHES = {32: "md5", 64: "sha256"}  # hexadecimal digits -> algorithm
_TIMEOUT_S = 60.0


def get_file(
    fname: str | os.PathLike | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | Sequence[str] | None = "auto",
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
) -> str:
    """Return the path of a file, downloaded from `origin` unless the cache has it.

    Args:
        fname: its name in the cache; by default the last part of `origin`. An absolute path is used as it is.
        origin: a URL: http, https, ftp or file.
        untar: unpack as a tar archive; kept for old scripts, use `extract`.
        md5_hash, file_hash: what the file must hash to; a cached file that does not is fetched again.
        hash_algorithm: "md5", "sha256", or "auto": by the length of the hash.
        extract: unpack a tar or zip archive; the path returned is then the folder `<fname>_extracted`.
        archive_format: "auto", "tar", "zip", a list of them, or None.
        cache_dir: by default `KERAS_HOME` or `~/.keras`.

    Raises:
        ArgumentError for unusable arguments; SavedFileError if the hash is wrong or the archive is damaged or
        reaches outside its folder; OSError naming the URL if it cannot be fetched.
    """
    if origin is None:
        raise ArgumentError('Please specify the "origin" argument (URL of the file to download).')
    scheme = urllib.parse.urlparse(origin).scheme
    if scheme not in _SCHEMES:
        raise ArgumentError(f"`origin` should be a URL of one of {_SCHEMES}. Received: origin={origin!r}")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    name = os.fspath(fname) if fname else os.path.basename(urllib.parse.urlparse(origin).path)
    if not name:
        raise ArgumentError(f"Can't parse a file name from the origin {origin!r}. Please specify the `fname` argument.")
    for suffix in (".tar.gz", ".tar.bz", ".tar.bz2", ".tar"):
        if untar and name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    target = _cached_path(name, cache_subdir, cache_dir)
    download = f"{target}.tar.gz" if untar else target
    if force_download or not _is_good(download, file_hash, hash_algorithm):
        _fetch(origin, download, file_hash, hash_algorithm)
    if not (untar or extract):
        return download
    folder = target if untar else f"{target}_extracted"
    if force_download or not os.path.isdir(folder) or os.path.getmtime(folder) < os.path.getmtime(download):
        unpack_archive(download, folder, "tar" if untar else archive_format)
    return folder


def cache_home() -> str:
    """Return the folder that holds Keras's files."""
    return os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")


def _cached_path(name: str, cache_subdir: str, cache_dir: str | os.PathLike | None) -> str:
    """Return where a file lives in the cache, its folder made.

    Raises: ArgumentError for a relative name that leads out of the cache.
    """
    home = os.path.expanduser(os.fspath(cache_dir)) if cache_dir is not None else cache_home()
    if os.path.isabs(name):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        return name
    folder = os.path.abspath(os.path.join(home, cache_subdir))
    path = os.path.abspath(os.path.join(folder, name))
    if not path.startswith(folder + os.sep):
        raise ArgumentError(f"`fname` leads out of the cache folder. Received: fname={name!r}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


# downloading ----------------------------------------------------------------------------------------


def _fetch(origin: str, target: str, file_hash: str | None, algorithm: str) -> None:
    """Download to a scratch file, check it, move it into place."""
    import urllib.error  # these two bring the network and ssl; only when a file is fetched
    import urllib.request

    scratch = f"{target}.{secrets.token_hex(4)}.part"
    try:
        try:
            with urllib.request.urlopen(origin, timeout=_TIMEOUT_S) as answer, open(scratch, "xb") as file:
                _copy(answer, file, answer.headers.get("Content-Length"), origin)
        except urllib.error.HTTPError as error:
            raise OSError(f"URL fetch failure on {origin}: {error.code} -- {error.reason}") from None
        except urllib.error.URLError as error:
            raise OSError(f"URL fetch failure on {origin}: {error.reason}") from None
        if not _is_good(scratch, file_hash, algorithm):
            raise SavedFileError(
                f"Incomplete or corrupted file detected. The {algorithm} file hash of {origin} does not match the "
                f"provided value of {file_hash}."
            )
        os.replace(scratch, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)


def _copy(source: BinaryIO, target: BinaryIO, length: str | None, origin: str) -> None:
    expected = int(length) if length and length.isdigit() else None
    bar = None
    if config.is_interactive_logging_enabled() and not origin.startswith("file:"):
        print(f"Downloading data from {origin}")
        bar = Progbar(expected, unit_name="byte")
    done = 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        done += len(chunk)
        if bar is not None:
            bar.update(done)
    if expected is not None and done != expected:
        raise OSError(f"URL fetch failure on {origin}: received {done} of {expected} bytes")


def _is_good(path: str, file_hash: str | None, algorithm: str) -> bool:
    return os.path.isfile(path) and (file_hash is None or digest(path, algorithm, file_hash) == file_hash.lower())


def digest(path: str, algorithm: str, like: str) -> str:
    """Return the hash of a file in hexadecimal; "auto" takes the algorithm from the length of `like`.

    Raises: ArgumentError for an algorithm other than md5 and sha256.
    """
    name = _HASHES.get(len(like), "sha256") if algorithm == "auto" else algorithm
    if name not in _HASHES.values():
        raise ArgumentError(f"`hash_algorithm` should be 'auto', 'md5' or 'sha256'. Received: {algorithm!r}")
    running = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            running.update(chunk)
    return running.hexdigest()


# unpacking ------------------------------------------------------------------------------------------


def unpack_archive(path: str, folder: str, archive_format: str | Sequence[str] | None = "auto") -> bool:
    """Unpack a tar or zip archive as `folder`, whole or not at all; False if it is no such archive.

    Raises: SavedFileError if an entry leads outside the folder, is a link or a device, or the archive is damaged.
    """
    import tarfile  # with zipfile and the compressors, only when an archive is unpacked
    import zipfile

    if archive_format is None:
        return False
    formats = ("tar", "zip") if archive_format == "auto" else archive_format
    formats = (formats,) if isinstance(formats, str) else tuple(formats)
    for kind in formats:
        if kind not in ("tar", "zip"):
            raise ArgumentError(f"`archive_format` should be 'auto', 'tar' or 'zip'. Received: {archive_format!r}")
        fits = tarfile.is_tarfile if kind == "tar" else zipfile.is_zipfile
        if not fits(path):
            continue
        scratch = f"{folder}.{secrets.token_hex(4)}.part"
        os.makedirs(scratch)
        try:
            for name, file in (_tar_entries if kind == "tar" else _zip_entries)(path):
                _place(scratch, name, file, path)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(scratch, folder)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise SavedFileError(f"{path}: damaged archive: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return True
    return False


def _tar_entries(path: str) -> Iterator[tuple[str, BinaryIO | None]]:
    """Yield (name, contents) of files and (name, None) of folders."""
    import tarfile  # loaded by now

    with tarfile.open(path) as archive:
        for entry in archive:
            if not (entry.isfile() or entry.isdir()):
                raise SavedFileError(f"{path}: {entry.name!r} is a link or a device, which is not unpacked")
            yield entry.name, archive.extractfile(entry) if entry.isfile() else None


def _zip_entries(path: str) -> Iterator[tuple[str, BinaryIO | None]]:
    import zipfile  # loaded by now

    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise SavedFileError(f"{path}: {entry.filename!r} is a link, which is not unpacked")
            yield entry.filename, None if entry.is_dir() else archive.open(entry)


def _place(folder: str, name: str, file: BinaryIO | None, archive: str) -> None:
    """Write one entry below `folder`."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise SavedFileError(f"{archive}: the entry {name!r} leads outside the archive's folder")
    target = os.path.join(folder, *parts)
    if file is None:
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with file, open(target, "wb") as written:
        shutil.copyfileobj(file, written)
