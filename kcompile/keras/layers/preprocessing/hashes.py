"""Two published 64-bit hashes of byte strings, on Python integers.

fingerprint64   FarmHash's, whose value is fixed for ever (Pike, Alakuijala 2014); no key
siphash64       SipHash-2-4 (Aumasson, Bernstein 2012); two keys

The steps of `fingerprint64` for up to 64 bytes are written for words that are integers, masked to 64 bits, or arrays
of uint64, which wrap: `fingerprints64` runs them on all strings of one length at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MASK = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F  # primes between 2⁶³ and 2⁶⁴


_FEW = 12  # strings that are hashed faster one by one


def _word(data: bytes | np.ndarray, at: int, size: int = 8) -> int | np.ndarray:
    """Some bytes of a string as a number; of each row, if data are contiguous uint8[strings, bytes]."""
    if isinstance(data, bytes):
        return int.from_bytes(data[at : at + size], "little")
    words = np.ndarray(len(data), f"<u{size}", data, at, data.strides[:1])  # wherever they lie
    return words.astype(np.uint64)


def _rotated(value: int, right: int) -> int:
    value &= _MASK
    return (value >> right | value << (64 - right)) & _MASK


def _mixed(value: int) -> int:
    value &= _MASK
    return value ^ value >> 47


def _pair(u: int, v: int, factor: int) -> int:
    """Join two words to one (the finish of Murmur's hash)."""
    a = _mixed((u ^ v) * factor)
    b = _mixed((v ^ a) * factor)
    return b * factor & _MASK


def fingerprint64(data: bytes) -> int:
    """Return the FarmHash fingerprint."""
    size = len(data)
    if size <= 16:
        return _up_to_16(data, size)
    if size <= 32:
        return _up_to_32(data, size)
    return _up_to_64(data, size) if size <= 64 else _longer(data, size)


def fingerprints64(strings: np.ndarray) -> np.ndarray:
    """Return the FarmHash fingerprints uint64[n] of byte strings S[n]."""
    letters = np.ascontiguousarray(strings).view(np.uint8).reshape(len(strings), -1)
    sizes = np.char.str_len(strings)
    return _by_size(sizes, lambda rows, size: letters[rows, :size])


def fingerprints64_of_integers(numbers: np.ndarray) -> np.ndarray:
    """Return the FarmHash fingerprints uint64[n] of integers written in decimal."""
    letters, sizes = decimals(numbers)
    return _by_size(sizes, lambda rows, size: letters[rows, letters.shape[1] - size :])


def decimals(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers as text: uint8[n, width] that is right in its rows, and the length of each."""
    negative = numbers < 0
    rest = numbers.astype(np.uint64)
    rest = np.where(negative, np.uint64(0) - rest, rest)  # wraps: the smallest number has a size, too
    sizes = np.searchsorted(_POWERS, rest, side="right") + 1
    digits = int(sizes.max(initial=1))
    if digits < 10:
        rest = rest.astype(np.uint32)  # divides faster
    letters = np.empty((digits + 1, len(numbers)), np.uint8)
    for place in range(digits, 0, -1):
        left = rest // 10
        letters[place] = rest - left * 10 + ord("0")
        rest = left
    sizes += negative
    letters = np.ascontiguousarray(letters.T)
    rows = np.flatnonzero(negative)
    letters[rows, digits + 1 - sizes[rows]] = ord("-")
    return letters, sizes


_POWERS = np.array([10**n for n in range(1, 20)], np.uint64)


def _by_size(sizes: np.ndarray, letters_of: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """All strings of one length at a time: `letters_of` gives theirs, uint8[rows, size]."""
    found = np.empty(len(sizes), np.uint64)
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        rows = np.flatnonzero(sizes == size)
        letters = np.ascontiguousarray(letters_of(rows, size))
        if 0 < size <= 64 and len(rows) > _FEW:
            steps = _up_to_16 if size <= 16 else _up_to_32 if size <= 32 else _up_to_64
            found[rows] = steps(letters, size)
        else:
            found[rows] = [fingerprint64(row.tobytes()) for row in letters]
    return found


def _up_to_16(data: bytes, size: int) -> int:
    factor = _K2 + size * 2
    if size >= 8:
        a, b = _word(data, 0) + _K2, _word(data, size - 8)
        return _pair(_rotated(b, 37) * factor + a & _MASK, (_rotated(a, 25) + b) * factor & _MASK, factor)
    if size >= 4:
        return _pair(size + (_word(data, 0, 4) << 3), _word(data, size - 4, 4), factor)
    if size == 0:
        return _K2
    y, z = _word(data, 0, 1) + (_word(data, size >> 1, 1) << 8), size + (_word(data, size - 1, 1) << 2)
    return _mixed(y * _K2 ^ z * _K0) * _K2 & _MASK


def _ends(data: bytes, size: int, first: int) -> tuple[int, int, int, int]:
    """What strings of 17 to 64 bytes share: two mixed words, the first word and the factor."""
    factor = _K2 + size * 2
    a, b = _word(data, 0) * first & _MASK, _word(data, 8)
    c, d = _word(data, size - 8) * factor & _MASK, _word(data, size - 16) * _K2
    low = _rotated(a + b, 43) + _rotated(c, 30) + d & _MASK
    return low, a + _rotated(b + _K2, 18) + c & _MASK, a, factor


def _up_to_32(data: bytes, size: int) -> int:
    low, high, _, factor = _ends(data, size, _K1)
    return _pair(low, high, factor)


def _up_to_64(data: bytes, size: int) -> int:
    low, high, a, factor = _ends(data, size, _K2)
    joined = _pair(low, high, factor)
    e, f = _word(data, 16) * factor & _MASK, _word(data, 24)
    g = (low + _word(data, size - 32)) * factor & _MASK
    h = (joined + _word(data, size - 24)) * factor
    return _pair(_rotated(e + f, 43) + _rotated(g, 30) + h & _MASK, e + _rotated(f + a, 18) + g & _MASK, factor)


def _block(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """Mix 32 bytes into two seeds."""
    w, x, y, z = (_word(data, at + 8 * i) for i in range(4))
    start = a + w
    total = start + x + y
    return total + z & _MASK, _rotated(b + start + z, 21) + _rotated(total, 44) + start & _MASK


def _longer(data: bytes, size: int) -> int:
    x, y = 81 * _K2 + _word(data, 0) & _MASK, 81 * _K1 + 113 & _MASK
    z, v, w = _mixed(y * _K2 + 113) * _K2 & _MASK, (0, 0), (0, 0)
    end = (size - 1) // 64 * 64
    for at, last in [*((at, False) for at in range(0, end, 64)), (size - 64, True)]:
        factor = _K1 + ((z & 0xFF) << 1) if last else _K1
        times = 9 if last else 1
        if last:
            w = (w[0] + ((size - 1) & 63) & _MASK, w[1])
            v = (v[0] + w[0] & _MASK, v[1])
            w = (w[0] + v[0] & _MASK, w[1])
        x = _rotated(x + y + v[0] + _word(data, at + 8), 37) * factor
        y = _rotated(y + v[1] + _word(data, at + 48), 42) * factor
        x = (x ^ w[1] * times) & _MASK
        y = y + v[0] * times + _word(data, at + 40) & _MASK
        z = _rotated(z + w[0], 33) * factor & _MASK
        v = _block(data, at, v[1] * factor, x + w[0])
        w = _block(data, at + 32, z + w[1], y + _word(data, at + 16))
        x, z = z, x
    low = _pair(v[0], w[0], factor) + _mixed(y) * _K0 + z & _MASK
    return _pair(low, _pair(v[1], w[1], factor) + x & _MASK, factor)


def siphash64(data: bytes, key: tuple[int, int]) -> int:
    """Return SipHash-2-4 under two 64-bit keys."""
    k0, k1 = (k & _MASK for k in key)
    state = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = data + b"\0" * (7 - len(data) % 8) + bytes([len(data) & 255])
    for at in range(0, len(padded), 8):
        word = _word(padded, at)
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        for a, b, left in ((0, 1, 13), (2, 3, 16)):
            v[a] = v[a] + v[b] & _MASK
            v[b] = _rotated(v[b], 64 - left) ^ v[a]
        v[0] = _rotated(v[0], 32)
        for a, b, left in ((2, 1, 17), (0, 3, 21)):
            v[a] = v[a] + v[b] & _MASK
            v[b] = _rotated(v[b], 64 - left) ^ v[a]
        v[2] = _rotated(v[2], 32)


_MURMUR = np.uint64(0xC6A4A7935BD1E995)  # the factor of Appleby's MurmurHash64A


def crossed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Join two arrays of hashes uint64[n]: a round of Murmur's hash, as TensorFlow crosses features."""
    with np.errstate(over="ignore"):
        mixed = other * _MURMUR
        found = ((one ^ _MURMUR) ^ ((mixed ^ (mixed >> np.uint64(47))) * _MURMUR)) * _MURMUR
        found = (found ^ (found >> np.uint64(47))) * _MURMUR
        return found ^ (found >> np.uint64(47))
