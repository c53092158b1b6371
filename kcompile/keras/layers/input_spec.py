"""InputSpec: what a layer demands of its inputs, checked before every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.dim import Dim
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import standardize_dtype


class InputSpec:
    """Rank, shape, dtype and fixed axes of one input; None leaves a thing open.

    >>> InputSpec(ndim=4, axes={-1: 3})
    InputSpec(ndim=4, axes={-1: 3})
    """

    def __init__(
        self,
        dtype: object = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
        allow_last_axis_squeeze: bool = False,
        name: str | None = None,
        optional: bool = False,
    ):
        self.dtype = None if dtype is None else standardize_dtype(dtype)
        self.shape = None if shape is None else tuple(shape)
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(k): axes[k] for k in axes} if axes else {}
        self.allow_last_axis_squeeze, self.name, self.optional = allow_last_axis_squeeze, name, optional

    def __repr__(self) -> str:
        fields = ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        set_fields = [f"{f}={getattr(self, f)}" for f in fields if getattr(self, f)]
        return f"InputSpec({', '.join(f for f in set_fields if not (f.startswith('ndim') and self.shape))})"

    def get_config(self) -> dict[str, Any]:
        return {
            k: getattr(self, k) for k in ("dtype", "shape", "ndim", "max_ndim", "min_ndim", "axes")
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InputSpec:
        return cls(**config)


def shown_shape(x: Any) -> tuple:
    """Return the shape of x with None for symbolic sizes."""
    return tuple(None if isinstance(s, Dim) else s for s in x.shape)


def check_inputs(spec: Any, inputs: Any, layer_name: str) -> None:
    """Check every input against its spec.

    Raises: ShapeError or ArgumentError in Keras's words, naming the layer, expected and received.
    """
    if spec is None:
        return
    if isinstance(spec, Mapping) and isinstance(inputs, Mapping):
        missing = [name for name in spec if name not in inputs]
        if missing:
            raise ArgumentError(f'Missing data for input "{missing[0]}". You passed a data dictionary with keys '
                                f"{list(inputs)}. Expected the following keys: {list(spec)}")  # fmt: skip
        inputs, spec = [inputs[n] for n in spec], list(spec.values())
    specs, values = tree.flatten(spec), tree.flatten(inputs)
    if len(specs) != len(values):
        raise ArgumentError(
            f'Layer "{layer_name}" expects {len(specs)} input(s), but it received {len(values)} input tensors. '
            f"Inputs received: {[getattr(v, 'shape', v) for v in values]}"
        )
    for number, (one, x) in enumerate(zip(specs, values)):
        if one is None or (x is None and one.optional):
            continue
        if not hasattr(x, "shape"):
            raise ArgumentError(
                f"Inputs to a layer should be tensors. Got '{x}' (of type {type(x)}) as input for layer '{layer_name}'."
            )
        _check_one(one, x, f'Input {number} of layer "{layer_name}" is incompatible with the layer: ')


def _check_one(spec: InputSpec, x: Any, start: str) -> None:
    shape, ndim = shown_shape(x), len(x.shape)
    if spec.ndim is not None and not spec.allow_last_axis_squeeze and ndim != spec.ndim and spec.shape is None:
        raise ShapeError(f"{start}expected ndim={spec.ndim}, found ndim={ndim}. Full shape received: {shape}")
    if spec.max_ndim is not None and ndim > spec.max_ndim:
        raise ShapeError(f"{start}expected max_ndim={spec.max_ndim}, found ndim={ndim}")
    if spec.min_ndim is not None and ndim < spec.min_ndim:
        raise ShapeError(f"{start}expected min_ndim={spec.min_ndim}, found ndim={ndim}. Full shape received: {shape}")
    if spec.dtype is not None and standardize_dtype(x.dtype) != spec.dtype:
        raise ArgumentError(f"{start}expected dtype={spec.dtype}, found dtype={standardize_dtype(x.dtype)}")
    for axis, value in spec.axes.items():
        if value is not None and shape[axis] not in (value, None):
            raise ShapeError(
                f"{start}expected axis {axis} of input shape to have value {value}, "
                f"but received input with shape {shape}"
            )
    if spec.shape is not None:
        if len(spec.shape) != ndim or any(
            a is not None and b is not None and a != b for a, b in zip(spec.shape, shape)
        ):
            raise ShapeError(f"{start}expected shape={spec.shape}, found shape={shape}")
