"""Initializer: `initializer(shape, dtype)` returns the initial numbers of a weight."""

from __future__ import annotations

import numpy as np

from kcompile.keras.configurable import Configurable
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import numpy_dtype, standardize_dtype
from kcompile.keras.tracing.tensor import Tensor, as_tensor


class Initializer(Configurable):
    """Base class: subclasses give `values(shape)` or override `__call__`.

    >>> from kcompile.keras.initializers import Constant
    >>> Constant(2.0)((2,)).numpy()
    array([2., 2.], dtype=float32)
    """

    plugin_group = "initializers"

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return float64 numbers of `shape`."""
        raise NotImplementedError(f"{type(self).__name__} must override values() or __call__()")

    def __call__(self, shape, dtype=None, **kwargs) -> Tensor:
        shape = (shape,) if isinstance(shape, int) else tuple(int(s) for s in shape)
        values = as_tensor(np.asarray(self.values(shape)).astype(numpy_dtype(dtype)))
        return BFloat16Tensor(values) if standardize_dtype(dtype) == "bfloat16" else values
