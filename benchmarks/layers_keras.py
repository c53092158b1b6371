"""A case of `layers.py` with `kcompile.keras`, or with `keras` on the backend KERAS_BACKEND names."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.layer_cases import APART, FORWARD, Case, Made, Row, arrays
from benchmarks.peer_keras import load
from benchmarks.peers import OURS, Run
from benchmarks.timing import repeated

EPOCH_BYTES = 32 << 20
EPOCH_BATCHES = 32


def ways(peer: str, row: Row, threads: int) -> dict[str, Run]:
    """The calls that do a row; none where this Keras has no such layer."""
    keras = load(peer, threads)
    made = row.case.made(ours=peer == OURS)
    if made is None:
        return {}
    given = arrays(row.case)
    x = given if len(given) > 1 else given[0]
    if row.mode == FORWARD:
        return {"predict_on_batch": repeated(_inference(keras, peer, row.case, made, x))}
    model = trained(keras, row.case, made)
    y = np.zeros((len(given[0]), 1), "float32")
    found = {"train_on_batch": repeated(lambda: model.train_on_batch(x, y))}
    if peer != OURS:
        found["fit"] = _fit(model, given, y)
    return found


def _inference(keras, peer: str, case: Case, made: Made, x) -> Callable[[], object]:
    """A batch in, NumPy arrays out: a model, or the layer itself where real Keras does not put it into one."""
    try:
        model = inference(keras, case, made)
        model.predict_on_batch(x)
        return lambda: model.predict_on_batch(x)
    except Exception:
        if peer == OURS:
            raise
        layer = create(keras, made)
        np.asarray(layer(x))
        return lambda: np.asarray(layer(x))


def create(keras, made: object):
    """A layer, and the layers among its arguments."""
    if isinstance(made, Made):
        return getattr(keras.layers, made.layer)(**{k: create(keras, v) for k, v in made.config.items()})
    if isinstance(made, tuple) and any(isinstance(v, Made) for v in made):
        return [create(keras, v) for v in made]
    return made


def inference(keras, case: Case, made: Made):
    """A model of this layer."""
    inputs = _inputs(keras, case)
    layer = create(keras, made)
    return keras.Model(inputs, _called(_as_in_training(keras, layer) if case.training else layer, case, inputs))


def trained(keras, case: Case, made: Made):
    """A model of this layer that learns to give zeros; each input is scaled by a weight if it can be."""
    inputs = _inputs(keras, case)
    scaled = [_scale(keras)(x) if case.dtype == "float32" else x for x in inputs]
    model = keras.Model(inputs, _called(create(keras, made), case, scaled))

    def mean_square(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_pred), axis=-1)

    model.compile(optimizer=keras.optimizers.SGD(1e-3), loss=mean_square)
    return model


def _inputs(keras, case: Case) -> list:
    return [keras.Input(shape[1:], dtype=case.dtype) for shape in case.shapes]


def _called(layer, case: Case, inputs: list):
    if case.takes == APART:
        return layer(*inputs)
    return layer(inputs if len(inputs) > 1 else inputs[0])


def _as_in_training(keras, layer):
    """A layer around another one; real Keras puts the model's own mode in place of an argument `training`."""

    class AsInTraining(keras.layers.Layer):
        """Does at inference what training does."""

        def call(self, x):
            return self.layer(x, training=True)

    outer = AsInTraining()
    outer.layer = layer
    return outer


def _scale(keras):
    class Scale(keras.layers.Layer):
        """x times a learned number."""

        def build(self, input_shape):
            self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

        def call(self, x):
            return x * self.factor

    return Scale()


def _fit(model, given: list[np.ndarray], y: np.ndarray) -> Run:
    """Epochs of a few batches."""
    rows = len(y)
    batches = max(2, min(EPOCH_BATCHES, EPOCH_BYTES // sum(a.nbytes for a in given)))
    many = [np.concatenate([a] * batches) for a in given]
    x, target = many if len(many) > 1 else many[0], np.concatenate([y] * batches)

    def run(steps: int) -> float:
        epochs = max(1, steps // batches)
        start = time.perf_counter()
        model.fit(x, target, batch_size=rows, epochs=epochs, verbose=0)
        return (time.perf_counter() - start) / (epochs * batches)

    return run
