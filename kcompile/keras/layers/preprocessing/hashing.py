"""Any value to one of a fixed number of bins, by its hash; nothing is learned and nothing is stored."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import config
from kcompile.keras.layers.preprocessing.encoding import check_output_mode, encode
from kcompile.keras.layers.preprocessing.hashes import (
    crossed,
    fingerprint64,
    fingerprints64,
    fingerprints64_of_integers,
    siphash64,
)
from kcompile.keras.layers.preprocessing.host import HostLayer, mapped
from kcompile.keras.registry import register
from kcompile.keras.tracing.tensor import KerasTensor

_CROSSING_KEY = 956888297470  # the first value of every crossing: TensorFlow's, so that bins agree


def bin_of(value, bins: int, salt=None) -> int:
    """Return the bin of a string, bytes or number (floats lose their fraction)."""
    if isinstance(value, float):
        value = int(value)
    data = value if isinstance(value, bytes) else str(value).encode()
    return (siphash64(data, tuple(salt)) if salt is not None else fingerprint64(data)) % bins


def _fingerprints(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iu":
        return fingerprints64_of_integers(array)
    return fingerprints64(np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array)


@register
class Hashing(HostLayer):
    """The bin of each string or integer: FarmHash's, or with `salt` (one or two integers) SipHash's.

    Args: mask_value: its bin is 0, all others begin at 1.

    >>> Hashing(3)([["A"], ["B"]]).numpy().tolist()
    [[1], [0]]
    """

    def __init__(self, num_bins, mask_value=None, salt=None, output_mode="int", sparse=False, **kwargs):
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = "int64" if output_mode == "int" else config.floatx()
        super().__init__(**kwargs)
        if num_bins is None or num_bins <= 0:
            raise ArgumentError(
                f"The `num_bins` for `Hashing` cannot be `None` or non-positive values. Received: num_bins={num_bins}."
            )
        self.output_mode = check_output_mode(output_mode, ("int", "one_hot", "multi_hot", "count"), sparse, self)
        if self.output_mode == "int" and self.dtype not in ("int32", "int64"):
            raise ArgumentError(
                "When `output_mode=\"int\"`, `dtype` should be an integer type, 'int32' or 'int64'. "
                f"Received: dtype={self.dtype}"
            )
        if salt is not None and not isinstance(salt, int) and len(salt) != 2:
            raise ArgumentError(
                "The `salt` argument for `Hashing` can only be a tuple of size 2 integers, or a single integer. "
                f"Received: salt={salt}."
            )
        self.num_bins, self.mask_value, self.sparse = num_bins, mask_value, sparse
        self.salt = salt if salt is None else [salt, salt] if isinstance(salt, int) else list(salt)

    def on_host(self, inputs):
        array = np.asarray(inputs)
        masked = self.mask_value is not None and self.num_bins > 1
        bins = self.num_bins - 1 if masked else self.num_bins
        if self.salt is None and not masked and array.size and array.dtype.kind in "iuSU":
            places = (_fingerprints(array.reshape(-1)) % bins).astype(np.int64).reshape(array.shape)
        else:
            places = mapped(lambda value: self._place(value, bins, masked), array, np.int64)
        return np.asarray(encode(places, self.output_mode, self.num_bins, self.dtype))

    def _place(self, value, bins: int, masked: bool) -> int:
        if masked and (value.decode() if isinstance(value, bytes) else value) == self.mask_value:
            return 0
        return bin_of(value, bins, self.salt) + masked

    def compute_output_spec(self, inputs):
        shape = inputs.shape if self.output_mode == "int" else (*inputs.shape[:-1], self.num_bins)
        if self.output_mode == "one_hot" and inputs.shape and inputs.shape[-1] != 1:
            shape = (*inputs.shape, self.num_bins)
        return KerasTensor(shape, self.dtype)


@register
class HashedCrossing(HostLayer):
    """The bin of each combination of features: strings or integers, one per row in each of several inputs.

    >>> HashedCrossing(5)((np.array(["A", "B"]), np.array([101, 101]))).shape
    (2,)
    """

    def __init__(self, num_bins, output_mode="int", sparse=False, name=None, dtype=None, **kwargs):
        if dtype is None:
            dtype = "int64" if output_mode == "int" else config.floatx()
        super().__init__(name=name, dtype=dtype, **kwargs)
        if num_bins is None or num_bins <= 0:
            raise ArgumentError(
                "The `num_bins` for `HashedCrossing` cannot be `None` or non-positive values. "
                f"Received: num_bins={num_bins}."
            )
        self.num_bins = num_bins
        self.output_mode = check_output_mode(output_mode, ("int", "one_hot"), sparse, self)

    def on_host(self, inputs):
        features = [np.asarray(one) for one in inputs]
        self._check([f.shape for f in features])
        hashed = np.full(features[0].size, _CROSSING_KEY, np.uint64)
        for feature in features:
            flat = feature.reshape(-1)
            own = flat.astype(np.int64).view(np.uint64) if flat.dtype.kind in "iub" else _hashes_of_strings(flat)
            hashed = crossed(hashed, own)
        places = (hashed % np.uint64(self.num_bins)).astype(np.int64).reshape(features[0].shape)
        return np.asarray(encode(places, self.output_mode, self.num_bins, self.dtype))

    def compute_output_spec(self, inputs):
        self._check([one.shape for one in inputs])
        shape = inputs[0].shape
        if self.output_mode == "one_hot":
            shape = (*shape[:-1], self.num_bins) if shape and shape[-1] == 1 else (*shape, self.num_bins)
        return KerasTensor(shape, self.dtype)

    def _check(self, shapes: list[tuple]) -> None:
        if len(shapes) < 2:
            raise ArgumentError(f"`HashedCrossing` should be called on at least two inputs. Received: {len(shapes)}")
        if any(shape != shapes[0] for shape in shapes):
            raise ArgumentError(f"All `HashedCrossing` inputs should have equal shape. Received: {shapes}")
        if len(shapes[0]) > 2 or (len(shapes[0]) == 2 and shapes[0][-1] != 1):
            raise ArgumentError(
                "All `HashedCrossing` inputs should have shape `()`, `(batch_size)` or `(batch_size, 1)`. "
                f"Received: {shapes}"
            )


def _hashes_of_strings(flat: np.ndarray) -> np.ndarray:
    return mapped(lambda v: fingerprint64(v if isinstance(v, bytes) else str(v).encode()), flat, np.uint64)
