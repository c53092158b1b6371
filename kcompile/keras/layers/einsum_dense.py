"""EinsumDense: a learned linear map along any axes, described as an einsum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kcompile.errors import ArgumentError
from kcompile.keras import activations, constraints, initializers, ops, regularizers
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.lora import LowRank
from kcompile.keras.registry import register

_FORMS = (  # no dots; dots in front; dots behind
    re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)"),
    re.compile(r"\.\.\.([a-zA-Z]+),([a-zA-Z]+)->\.\.\.([a-zA-Z]+)"),
    re.compile(r"([a-zA-Z]{2,})\.\.\.,([a-zA-Z]+)->([a-zA-Z]+)\.\.\."),
)


@register
class EinsumDense(LowRank):
    """activation(einsum(equation, x, kernel) + bias).

    Shapes:  as the equation says; `output_shape` gives the sizes of the axes after the batch, None to take the
             input's.
    Weights: kernel, bias (of the axes in `bias_axes`).

    >>> EinsumDense("ab,bc->ac", output_shape=3, kernel_initializer="ones")([[1.0, 2.0]]).numpy()
    array([[3., 3., 3.]], dtype=float32)
    """

    def __init__(
        self,
        equation,
        output_shape,
        activation=None,
        bias_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._take_rank(lora_rank, lora_alpha)
        self.equation = equation
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.bias_axes = bias_axes
        self.activation = activations.get(activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape):
        shapes = shapes_of(self.equation, self.bias_axes, tuple(input_shape), self.partial_output_shape)
        self.input_spec = InputSpec(ndim=len(input_shape))
        self.kernel = self.add_weight(
            name="kernel",
            shape=shapes.kernel,
            initializer=_with_axes(self.kernel_initializer, shapes),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if shapes.bias is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=shapes.bias,
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self._adapt()

    def call(self, inputs, training=None):
        x = ops.einsum(self.equation, inputs, self._adapted())
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)

    def get_config(self):
        return {**super().get_config(), "output_shape": self.partial_output_shape}


@dataclass(frozen=True)
class Shapes:
    """What an equation says of the weights: shapes, and which axes of the kernel are summed or made."""

    kernel: tuple[int, ...]
    bias: tuple[int, ...] | None
    input_axes: tuple[int, ...]
    output_axes: tuple[int, ...]


def shapes_of(equation: str, bias_axes: str | None, input_shape: Sequence, output_shape: Sequence) -> Shapes:
    """Return the shapes of kernel and bias for inputs of a shape (batch first).

    Raises: ArgumentError if the equation has another form, or letters and sizes do not fit.
    """
    found = next(((n, m) for n, form in enumerate(_FORMS) if (m := form.fullmatch(equation))), None)
    if found is None:
        raise ArgumentError(
            f"Invalid einsum equation '{equation}'. Equations must be in the form [X],[Y]->[Z], ...[X],[Y]->...[Z], "
            "or [X]...,[Y]->[Z]...."
        )
    form, (inputs, kernel, outputs) = found[0], found[1].groups()
    dots = len(input_shape) - len(inputs)
    elided = tuple(input_shape[1:dots] if form == 1 else input_shape[len(input_shape) - dots :])
    if form == 1:  # the letters name the last axes
        named = dict(zip(inputs, input_shape[dots:]))
        whole = (input_shape[0], *elided, *output_shape)
        made = dict(zip(outputs, whole[dots:]))
    else:
        named = dict(zip(inputs, input_shape))
        whole = (input_shape[0], *output_shape, *(elided if dots > 0 else ()))
        made = dict(zip(outputs, whole))
    for letter in inputs:
        if made.get(letter) is not None and made[letter] != named[letter]:
            raise ArgumentError(
                f"Input shape and output shape do not match at shared dimension '{letter}'. Input shape is "
                f"{named[letter]}, and output shape is {made[letter]}."
            )
    unknown = [c for c in outputs if c not in inputs and c not in kernel]
    unknown += [c for c in kernel if c not in inputs and c not in outputs]
    unknown += [c for c in bias_axes or "" if c not in outputs]
    if unknown:
        raise ArgumentError(
            f"EinsumDense: dimension {unknown[0]!r} of '{equation}' (bias_axes={bias_axes!r}) is unknown"
        )
    sizes = tuple(made[c] if c in made else named[c] for c in kernel)
    bias = None
    if bias_axes is not None:
        first = min(outputs.find(c) for c in bias_axes)
        bias = tuple(made[c] if c in bias_axes else 1 for c in outputs[first:])
        bias += (1,) * (dots if form != 1 else 0)
    if None in sizes or None in (bias or ()):
        raise ArgumentError(f"EinsumDense '{equation}': the weights need known sizes, received shape {input_shape}")
    return Shapes(
        sizes,
        bias,
        tuple(i for i, c in enumerate(kernel) if c not in made),
        tuple(i for i, c in enumerate(kernel) if c in made),
    )


def _with_axes(initializer, shapes: Shapes):
    """Tell an initializer that scales by fan which axes are summed."""
    if getattr(initializer, "input_axes", 0) is not None and getattr(initializer, "output_axes", 0) is not None:
        return initializer
    config = {**initializer.get_config(), "input_axes": shapes.input_axes, "output_axes": shapes.output_axes}
    return type(initializer).from_config(config)
