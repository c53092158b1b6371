"""Published values of the two hashes, and both against TensorFlow's."""

import random

import numpy as np
import pytest

from kcompile.keras.layers.preprocessing.hashes import (
    fingerprint64,
    fingerprints64,
    fingerprints64_of_integers,
    siphash64,
)


def test_known_values():
    key = tuple(int.from_bytes(bytes(range(start, start + 8)), "little") for start in (0, 8))
    # the test vectors of the SipHash paper: bytes 0, 1, ..., n-1
    assert siphash64(b"", key) == 0x726FDB47DD0E0E31
    assert siphash64(bytes(range(15)), key) == 0xA129CA6149BE45E5
    assert fingerprint64(b"") == 0x9AE16A3B2F90404F


def test_many_strings_at_a_time():
    rng = random.Random(1)
    words = [bytes(rng.randrange(1, 256) for _ in range(n)) for n in [*range(70), 3, 3, 130]]
    assert fingerprints64(np.array(words)).tolist() == [fingerprint64(w) for w in words]
    assert fingerprints64(np.array([b""])).tolist() == [fingerprint64(b"")]


def test_against_tensorflow():
    tf = pytest.importorskip("tensorflow")
    rng = random.Random(0)
    words = [bytes(rng.randrange(256) for _ in range(n)) for n in [*range(70), 127, 128, 129, 192, 1000]]
    bins = 2**61
    fast = tf.strings.to_hash_bucket_fast(tf.constant(words), bins).numpy()
    strong = tf.strings.to_hash_bucket_strong(tf.constant(words), bins, key=[7, 2**40 + 3]).numpy()
    assert [fingerprint64(w) % bins for w in words] == fast.tolist()
    assert [siphash64(w, (7, 2**40 + 3)) % bins for w in words] == strong.tolist()


def test_integers_are_hashed_as_their_text():
    draw, limits = np.random.default_rng(0), np.iinfo(np.int64)
    wide = draw.integers(limits.min, limits.max, 40)
    near = [0, 9, 10, 99, 100, -1, -9, -10, limits.min, limits.max]
    unsigned = draw.integers(0, 2**64, 20, dtype=np.uint64)
    for numbers in (np.append(wide, near), unsigned, np.arange(-128, 128, dtype=np.int8), wide[:0]):
        expected = [fingerprint64(str(n).encode()) for n in numbers.tolist()]
        assert fingerprints64_of_integers(numbers).tolist() == expected
