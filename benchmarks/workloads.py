"""What is measured: models in Keras code, data made from a fixed seed, and modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """One row of the table. `mode`: fit (one step of an epoch), train_on_batch or predict."""

    model: str
    mode: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.mode} b{self.batch}"


MODELS = {
    "tiny": ((16,), 1),
    "mlp": ((784,), 10),
    "cnn": ((28, 28, 1), 10),
}

WORKLOADS = tuple(
    Workload(model, mode, batch)
    for model in MODELS
    for mode, batch in (
        *(("fit", b) for b in ((32, 128) if model == "cnn" else (32,))),
        ("train_on_batch", 32),
        ("predict", 1),
        ("predict", 32),
    )
)


def build(keras, model: str):
    """The Keras model, compiled, on whatever backend `keras` is."""
    layers = keras.layers
    shape, _ = MODELS[model]
    if model == "tiny":
        body = [layers.Dense(16, activation="relu"), layers.Dense(4, activation="relu"), layers.Dense(1)]
    elif model == "mlp":
        body = [layers.Dense(512, activation="relu"), layers.Dense(512, activation="relu")]
        body.append(layers.Dense(10, activation="softmax"))
    else:
        body = [
            layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"), layers.Flatten(),
            layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax"),
        ]  # fmt: skip
    made = keras.Sequential([keras.Input(shape), *body])
    made.compile(optimizer="adam", loss="mse" if model == "tiny" else "sparse_categorical_crossentropy")
    return made


def data(model: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs f32[rows, ...] and targets: f32[rows, 1], or i32[rows] classes."""
    draw = np.random.default_rng(0)
    shape, classes = MODELS[model]
    x = draw.standard_normal((rows, *shape)).astype("float32")
    if classes == 1:
        return x, draw.standard_normal((rows, 1)).astype("float32")
    return x, draw.integers(0, classes, rows).astype("int32")
