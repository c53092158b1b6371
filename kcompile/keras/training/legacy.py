"""Methods of tf.keras 2's models that Keras 3 left out; each says what to write instead."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError


def _warn(name: str, instead: str) -> None:
    warnings.warn(f"`Model.{name}` is deprecated: use {instead}.", DeprecationWarning, stacklevel=3)


class LegacyMethods:
    """Mixed into Model."""

    def fit_generator(
        self,
        generator,
        steps_per_epoch=None,
        epochs=1,
        verbose=1,
        callbacks=None,
        validation_data=None,
        validation_steps=None,
        validation_freq=1,
        class_weight=None,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
        shuffle=True,
        initial_epoch=0,
    ):
        """`fit` on a source of batches."""
        _warn("fit_generator", "`Model.fit`, which takes generators")
        given = {k: v for k, v in locals().items() if k not in ("self", "generator")}
        return self.fit(generator, **given)

    def evaluate_generator(
        self,
        generator,
        steps=None,
        callbacks=None,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
        verbose=0,
    ):
        """`evaluate` on a source of batches."""
        _warn("evaluate_generator", "`Model.evaluate`, which takes generators")
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_generator(
        self,
        generator,
        steps=None,
        callbacks=None,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
        verbose=0,
    ):
        """`predict` on a source of batches."""
        _warn("predict_generator", "`Model.predict`, which takes generators")
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose)

    def predict_classes(self, x, batch_size=None, verbose=0) -> np.ndarray:
        """The most likely class of each row; of one output column, whether it is above 0.5."""
        _warn(
            "predict_classes", "`np.argmax(model.predict(x), axis=-1)`, or `(model.predict(x) > 0.5).astype('int32')`"
        )
        found = self._one_output("predict_classes", x, batch_size, verbose)
        return found.argmax(axis=-1) if found.shape[-1] > 1 else (found > 0.5).astype("int32")

    def predict_proba(self, x, batch_size=None, verbose=0) -> np.ndarray:
        """`predict`; warns of outputs that are no probabilities."""
        _warn("predict_proba", "`Model.predict`")
        found = self._one_output("predict_proba", x, batch_size, verbose)
        if found.size and (found.min() < 0.0 or found.max() > 1.0):
            warnings.warn(
                "Network returning invalid probability values: the last layer might not normalize predictions into "
                "probabilities (as softmax or sigmoid would).",
                stacklevel=2,
            )
        return found

    def _one_output(self, name: str, x: Any, batch_size: int | None, verbose: Any) -> np.ndarray:
        found = self.predict(x, batch_size=batch_size, verbose=verbose)
        if not isinstance(found, np.ndarray):
            raise ArgumentError(f"Model.{name}: the model {self.name!r} has several outputs; use `predict`.")
        return found

    def reset_states(self) -> None:
        """Set the states of all stateful recurrent layers to zero."""
        for layer in self._flatten_layers(include_self=False):
            if getattr(layer, "stateful", False):
                layer.reset_states()
