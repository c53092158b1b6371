"""TerminateOnNaN: stop as soon as the loss is no number."""

from __future__ import annotations

import math

from kcompile.keras.callbacks.callback import Callback


class TerminateOnNaN(Callback):
    """Stop training when a NaN or infinite loss appears.

    Args:
        raise_error: raise a RuntimeError instead of ending `fit` normally.
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"NaN or Inf loss encountered at batch {batch}. Loss value: {loss}. Terminating training immediately."
            )
        print(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
