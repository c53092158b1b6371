"""Run an exported library from Python: needs numpy only, not the compiler."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kcompile.errors import ArgumentError, ShapeError

_KNOWN_SHAPES = 64  # whose `_Call` is kept


@dataclass(frozen=True)
class _Call:
    """What follows from the shapes of the inputs: the numbers of the named sizes, shape and dtype of each output."""

    sizes: tuple[int, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]


class ExportedModel:
    """An exported library, loaded. `model(x)` computes; several inputs are given in order.

    Shapes:  each input as the header says, any batch size.
    Raises:  ArgumentError for a file that is no exported model, ShapeError for a wrong input.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int = 1):
        path = Path(path).resolve()
        self._prefix = "".join(c if c.isalnum() else "_" for c in path.stem)
        self._prefix = self._prefix if not self._prefix[:1].isdigit() else f"_{self._prefix}"
        try:
            self._library = ctypes.CDLL(str(path))
            describe = self._function("describe", ctypes.c_char_p)
        except (OSError, AttributeError) as error:
            raise ArgumentError(f"{path} is not a model exported by kcompile: {error}") from None
        about = json.loads(describe())
        self.inputs, self.outputs, self._sizes = about["inputs"], about["outputs"], about["sizes"]
        self._error = self._function("error", ctypes.c_char_p)
        self._predict = self._function("predict", ctypes.c_int32)
        buffers = [ctypes.c_void_p] * (len(self.inputs) + len(self.outputs))
        self._predict.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * len(self._sizes), *buffers]
        self._dtypes = [np.dtype(i["dtype"]) for i in self.inputs]
        self._calls: dict[tuple, _Call] = {}
        self._destroy = self._function("destroy", None)
        self._model = ctypes.c_void_p()
        create = self._function("create", ctypes.c_int32)
        self._check(create(ctypes.byref(self._model), ctypes.c_int32(num_threads)))

    def _function(self, name: str, result):
        function = getattr(self._library, f"{self._prefix}_{name}")
        function.restype = result
        return function

    def _check(self, code: int) -> None:
        if code:
            raise ArgumentError(f"{self._prefix}: {self._error(ctypes.c_int32(code)).decode()}")

    def __call__(self, *inputs) -> np.ndarray | list[np.ndarray]:
        """Return the output, or a list of outputs if the model has several."""
        if len(inputs) != len(self.inputs):
            raise ArgumentError(f"{self._prefix} takes {len(self.inputs)} inputs, received {len(inputs)}")
        arrays = [np.ascontiguousarray(x, dtype=dtype) for x, dtype in zip(inputs, self._dtypes)]
        shapes = tuple([a.shape for a in arrays])
        call = self._calls.get(shapes) or self._new_call(shapes, arrays)
        results = [np.empty(shape, dtype) for shape, dtype in call.outputs]
        pointers = [a.__array_interface__["data"][0] for a in (*arrays, *results)]
        code = self._predict(self._model, *call.sizes, *pointers)
        if code:
            self._check(code)
        return results[0] if len(results) == 1 else results

    predict = __call__

    def _new_call(self, shapes: tuple, arrays: Sequence[np.ndarray]) -> _Call:
        """Check the shapes; what they say is kept for the next call."""
        sizes = self._read_sizes(arrays)
        outputs = tuple((_shape(o["shape"], sizes), np.dtype(o["dtype"])) for o in self.outputs)
        call = _Call(tuple(sizes[s] for s in self._sizes), outputs)
        if len(self._calls) >= _KNOWN_SHAPES:
            self._calls.clear()
        self._calls[shapes] = call
        return call

    def _read_sizes(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for array, about in zip(arrays, self.inputs):
            if array.ndim != len(about["shape"]):
                raise ShapeError(f"input {about['name']}: expected shape {about['shape']}, received {array.shape}")
            for actual, declared in zip(array.shape, about["shape"]):
                if declared in self._sizes:
                    sizes.setdefault(declared, actual)
                expected = sizes[declared] if declared in self._sizes else int(declared)
                if actual != expected:
                    raise ShapeError(f"input {about['name']}: expected shape {about['shape']}, received {array.shape}")
        return sizes

    def __del__(self):
        if getattr(self, "_model", None):
            self._destroy(self._model)
            self._model = None


def _shape(declared: Sequence[str], sizes: dict[str, int]) -> tuple[int, ...]:
    """Evaluate size polynomials such as `batch` or `2*time - 1`, written by kcompile."""
    return tuple(_evaluate(text, sizes) for text in declared)


def _evaluate(text: str, sizes: dict[str, int]) -> int:
    total = 0
    for term in text.replace("- ", "-").replace("+ ", "").split():
        product = -1 if term.startswith("-") else 1
        for factor in term.lstrip("-").split("*"):
            product *= sizes[factor] if factor in sizes else int(factor)
        total += product
    return total
