"""Event files that TensorBoard reads, written without TensorFlow.

A file is a sequence of records: length (8 bytes), its checksum, the data, its checksum. The data is an Event
in Protocol Buffers' wire format: wall_time (field 1, double), step (2, varint), and file_version (3) or a
summary (5) of one value: tag (1), and simple_value (2, float) or histo (5).
Sources: TensorFlow's record format and event.proto, summary.proto; CRC-32C is RFC 3720, appendix B.4.
"""

from __future__ import annotations

import os
import platform
import struct
import time

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_BINS = 30


def _table() -> list[int]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ _POLYNOMIAL if byte & 1 else byte >> 1
        found.append(byte)
    return found


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C checksum."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """Return the record of `data`."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _event(payload: bytes, step: int | None, wall_time: float) -> bytes:
    counted = b"" if step is None else _varint(2 << 3) + _varint(step)
    return _double(1, wall_time) + counted + payload


def scalar_event(tag: str, value: float, step: int, wall_time: float) -> bytes:
    """Return the Event of one number."""
    number = _varint(2 << 3 | 5) + struct.pack("<f", value)
    return _event(_field(5, _field(1, _field(1, tag.encode()) + number)), step, wall_time)


def histogram_event(tag: str, values: np.ndarray, step: int, wall_time: float) -> bytes:
    """Return the Event of the distribution of an array's finite numbers."""
    flat = np.asarray(values, np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    flat = flat if flat.size else np.zeros(1)
    counts, edges = np.histogram(flat, _BINS)
    sums = (flat.min(), flat.max(), flat.size, flat.sum(), np.square(flat).sum())
    told = b"".join(_double(i + 1, float(v)) for i, v in enumerate(sums))
    told += _field(6, edges[1:].astype("<f8").tobytes()) + _field(7, counts.astype("<f8").tobytes())
    return _event(_field(5, _field(1, _field(1, tag.encode()) + _field(5, told))), step, wall_time)


class EventFile:
    """A new event file in `folder`, open for appending."""

    _made = 0

    def __init__(self, folder: str):
        os.makedirs(folder, exist_ok=True)
        EventFile._made += 1
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{platform.node()}.{os.getpid()}.{EventFile._made}.v2"
        self.path = os.path.join(folder, name)
        self._file = open(self.path, "ab")
        self._file.write(record(_event(_field(3, b"brain.Event:2"), None, now)))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Append a number."""
        self._file.write(record(scalar_event(tag, float(value), step, time.time())))

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Append a distribution."""
        self._file.write(record(histogram_event(tag, values, step, time.time())))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
