"""HDF5 files, read with distrust: errors name the file, links and absurd sizes are refused.

h5py is imported when a file is opened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kcompile.errors import KcompileError, SavedFileError

SIGNATURE = b"\x89HDF\r\n\x1a\n"  # HDF5 File Format Specification, II.A: the first eight bytes
HEADER_LIMIT = 64512  # bytes of one attribute; HDF5 keeps it in an object header of 64 KiB
_INFLATION = 1100  # gzip cannot shrink data by more than about 1030 to 1
_SMALL = 1 << 20


@contextlib.contextmanager
def reading(source: Any, name: str) -> Iterator[Any]:
    """Open a path or a file object for reading; `name` is what errors call it.

    Raises: SavedFileError if it is no HDF5 file, or a damaged one.
    """
    import h5py  # heavy; only when a file is opened

    try:
        file = h5py.File(source, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise SavedFileError(f"{name}: not a readable HDF5 file (truncated or damaged?): {error}") from None
    with file:
        try:
            yield file
        except KcompileError:
            raise
        except (OSError, RuntimeError) as error:
            if "h5" not in f"{type(error).__module__}{error}".lower() and not _is_hdf5_error(error):
                raise
            raise SavedFileError(f"{name}: damaged HDF5 file: {error}") from error


def _is_hdf5_error(error: BaseException) -> bool:
    """h5py raises plain OSError, RuntimeError and KeyError with the library's message in parentheses."""
    text = str(error)
    return text.startswith(("Can't", "Unable", "'")) or "(" in text


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[Any]:
    """Open a new HDF5 file for writing."""
    import h5py  # heavy; only when a file is opened

    with h5py.File(os.fspath(path), "w") as file:
        yield file


def writing_to(buffer: Any) -> Any:
    """Open a new HDF5 file in a file object."""
    import h5py  # heavy; only when a file is opened

    return h5py.File(buffer, "w")


def find(group: Any, path: str) -> Any | None:
    """Return the group or dataset at `path` below `group`, or None.

    Raises: SavedFileError on links: they could lead into other files.
    """
    import h5py  # heavy; loaded by now

    found = group
    for part in path.split("/"):
        if not part:
            continue
        if not isinstance(found, h5py.Group) or part not in found:
            return None
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise SavedFileError(f"{group.file.filename}: {found.name}/{part} is a link, which is not followed")
        found = found[part]
    return found


def is_dataset(found: Any) -> bool:
    import h5py  # heavy; loaded by now

    return isinstance(found, h5py.Dataset)


def array(dataset: Any, shape: tuple[int, ...] | None = None, what: str = "") -> np.ndarray:
    """Return the numbers of a dataset.

    Args:   shape: what it must be; checked before anything is read.
    Raises: SavedFileError for data outside the file, of no numeric dtype, or of a size it cannot have.
    """
    where = f"{dataset.file.filename}: {dataset.name}{what}"
    if not is_dataset(dataset):
        raise SavedFileError(f"{where}: expected an array, found a group")
    if dataset.external or dataset.is_virtual:
        raise SavedFileError(f"{where} keeps its data in another file, which is not read")
    if dataset.dtype.kind not in "fiubV" or dataset.shape is None:
        raise SavedFileError(f"{where}: expected numbers, found {dataset.dtype}")
    if shape is not None and tuple(dataset.shape) != tuple(shape):
        raise SavedFileError(f"{where}: expected shape {tuple(shape)}, found {tuple(dataset.shape)}")
    if dataset.nbytes > dataset.id.get_storage_size() * _INFLATION + _SMALL:
        raise SavedFileError(f"{where} claims {dataset.nbytes} bytes but holds {dataset.id.get_storage_size()}")
    if dataset.attrs.get("dtype") == "bfloat16" or dataset.dtype.kind == "V":
        return _from_bfloat16(dataset, where)
    return dataset[()] if dataset.shape else np.asarray(dataset[()])


def _from_bfloat16(dataset: Any, where: str) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    if dataset.dtype.itemsize != 2:
        raise SavedFileError(f"{where}: expected numbers, found {dataset.dtype}")
    half = np.asarray(dataset[()]).view(np.uint16).reshape(dataset.shape)
    return (half.astype(np.uint32) << 16).view(np.float32)


def names(owner: Any, attribute: str) -> list[str]:
    """Return a list of strings kept in an attribute, or in pieces `<attribute>0`, `<attribute>1`, ..."""
    if attribute in owner.attrs:
        pieces = [owner.attrs[attribute]]
    else:
        pieces = []
        while f"{attribute}{len(pieces)}" in owner.attrs:
            pieces.append(owner.attrs[f"{attribute}{len(pieces)}"])
    return [text(n) for piece in pieces for n in np.atleast_1d(piece)]


def write_names(owner: Any, attribute: str, values: list[str]) -> None:
    """Keep a list of strings in an attribute, in pieces if it is too long for one."""
    size = 16 * len(values)  # bytes that a variable-length string takes in the attribute itself
    count = max(1, -(-size // HEADER_LIMIT))
    if count == 1:
        owner.attrs[attribute] = values or np.zeros(0, "S1")
        return
    for number, piece in enumerate(np.array_split(np.array(values, dtype=object), count)):
        owner.attrs[f"{attribute}{number}"] = list(piece)


def text(value: Any) -> str:
    """Return a string attribute, which older files hold as bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
