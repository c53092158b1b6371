"""Five updates of many layers at once: each layer is a branch of one model, with inputs and a loss of its own.

    input + shift -> layer -> mean squared error against random numbers

The shift is a weight of zeros, so that the updates show the gradient of the layer's input too. Branches share
nothing but the optimizer, which treats every weight alone; one compilation serves a family of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS = 3
STEPS = 5


@dataclass(frozen=True)
class Given:
    """One input of a branch.

    shape: without the batch axis; high: integers below it, instead of normal numbers.
    masked: steps that are zero in every number count for nothing. sizes: what stands for each None of the shape.
    """

    shape: tuple
    high: int | None = None
    masked: bool = False
    shifted: bool = True
    positive: bool = False
    sizes: tuple[int, ...] = ()

    def tensor(self, keras, dtype: str) -> tuple[Any, Any]:
        """Return the model's input and what the layer reads."""
        if self.high is not None:
            x = keras.Input(self.shape, dtype="int32")
            return x, x
        x = keras.Input(self.shape, dtype=dtype)
        y = keras.layers.Masking()(x) if self.masked else x
        return x, shift(keras, tuple(1 if n is None else n for n in self.shape))(y) if self.shifted else y

    def numbers(self, rng: np.random.Generator, dtype: str) -> np.ndarray:
        sizes = iter(self.sizes)
        shape = (ROWS, *(next(sizes) if n is None else n for n in self.shape))
        if self.high is not None:
            return rng.integers(0, self.high, shape).astype(np.int32)
        x = rng.standard_normal(shape)
        if self.masked:
            kept = rng.random(shape[:2]) < 0.6
            kept[:, 0] = True
            x = x * kept.reshape(*kept.shape, *[1] * (x.ndim - 2))
        return (np.abs(x) if self.positive else x).astype(dtype)


@dataclass(frozen=True)
class Branch:
    """Layers under test, from the tensors of the inputs to one output."""

    classes: tuple[str, ...]
    build: Callable[..., Any]
    given: tuple[Given, ...]
    reference: Callable[..., Any] | None = None  # where Keras 3 has no such layer


def shift(keras, shape: tuple[int, ...]):
    """Return a layer that adds a weight."""

    class Shift(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def build(self, input_shape):
            self.value = self.add_weight(shape=shape, initializer="zeros", name="shift")

        def call(self, x):
            return x + self.value

        def compute_output_shape(self, input_shape):
            return input_shape

    return Shift()


def flat_list(value: Any) -> list:
    return [x for part in value for x in flat_list(part)] if isinstance(value, (list, tuple)) else [value]


def joined(keras, outputs: Any) -> Any:
    """One tensor of all outputs."""
    if not isinstance(outputs, (list, tuple)):
        return outputs
    flat = [keras.layers.Flatten()(t) for t in flat_list(outputs)]
    return keras.layers.Concatenate()(flat)


def model_of(keras, branches: dict[str, Branch], dtype: str, real: bool):
    inputs, outputs = [], []
    for name, branch in branches.items():
        mine, read = zip(*(g.tensor(keras, dtype) for g in branch.given))
        inputs += mine
        build = branch.reference if real and branch.reference else branch.build
        outputs.append(keras.layers.Identity(name=f"of_{name}")(joined(keras, build(keras, *read))))
    return keras.Model(inputs, outputs)


@dataclass(frozen=True)
class Run:
    losses: list[dict[str, float]]
    weights: list[np.ndarray]


def trained(model, keras, weights, batches: Sequence, **options: Any) -> Run:
    """Train for a step on each batch."""
    model.set_weights(weights)
    names = [t.name for t in model.outputs]
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), ["mse"] * len(names), **options)
    losses = []
    for x, y in batches:
        model.reset_metrics()
        losses.append({k: float(v) for k, v in model.train_on_batch(x, y, return_dict=True).items()})
    return Run(losses, [np.asarray(w) for w in model.get_weights()])


def compare(real, ours, branches: dict[str, Branch], dtype: str = "float32", tolerance=(1e-5, 1e-4, 2e-6)) -> None:
    """Compare the losses of every branch at every step and all weights; name what differs.

    tolerance: relative of losses, relative and absolute of weights.
    """
    rng = np.random.default_rng(0)
    theirs, mine = model_of(real, branches, dtype, True), model_of(ours, branches, dtype, False)
    assert [tuple(w.shape) for w in mine.weights] == [tuple(w.shape) for w in theirs.weights]
    weights = [w + 0.1 * rng.random(w.shape).astype(w.dtype) for w in mine.get_weights()]
    given = [g for branch in branches.values() for g in branch.given]
    xs = [[g.numbers(rng, dtype) for g in given] for _ in range(STEPS)]
    mine.set_weights(weights)
    shapes = [np.shape(t) for t in flat_list(mine.predict_on_batch(xs[0]))]
    batches = [(x, [rng.standard_normal(s).astype(dtype) for s in shapes]) for x in xs]
    expected = trained(theirs, real, weights, batches)
    found = trained(mine, ours, weights, batches, jit=True)
    loss, relative, absolute = tolerance
    wrong = []
    for step, (a, b) in enumerate(zip(found.losses, expected.losses, strict=True)):
        assert a.keys() == b.keys()
        wrong += [f"{k} at step {step}: {a[k]}, Keras {b[k]}" for k in b if not np.isclose(a[k], b[k], rtol=loss)]
    for variable, a, b in zip(theirs.weights, found.weights, expected.weights, strict=True):
        if not np.allclose(a, b, rtol=relative, atol=absolute):
            wrong.append(f"{variable.path}: off by {np.abs(a - b).max():.2g}")
    assert not wrong, "\n".join(wrong)
