"""TerminateOnNaN: stop as soon as the loss is no number."""

from __future__ import annotations

import math

from kcompile.keras.callbacks.callback import Callback


class TerminateOnNaN(Callback):
    """Stop training when a NaN or infinite loss appears."""

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
