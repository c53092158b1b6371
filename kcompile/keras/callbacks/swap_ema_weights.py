"""SwapEMAWeights: evaluate and predict with the moving averages of the weights."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback


class SwapEMAWeights(Callback):
    """Put the optimizer's moving averages in place of the weights while the model is looked at.

    Args:
        swap_on_epoch: from the end of an epoch to the start of the next too, so that checkpoints hold averages.

    Raises: ArgumentError if the optimizer keeps no averages (`use_ema=True`).
    """

    def __init__(self, swap_on_epoch=False):
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._averages_inside = False

    def on_epoch_begin(self, epoch, logs=None):
        if self.swap_on_epoch:
            self._put(averages=False)

    def on_epoch_end(self, epoch, logs=None):
        if not self.swap_on_epoch:
            return
        self._put(averages=True)
        if epoch == self.params["epochs"] - 1:
            for weight, average in self._pairs():  # `fit` ends by copying averages to weights
                average.assign(weight.numpy())

    def on_test_begin(self, logs=None):
        self._put(averages=True)

    def on_test_end(self, logs=None):
        self._put(averages=False)

    def on_predict_begin(self, logs=None):
        self._put(averages=True)

    def on_predict_end(self, logs=None):
        self._put(averages=False)

    def _put(self, averages: bool) -> None:
        if averages == self._averages_inside:
            return
        for weight, average in self._pairs():
            before = weight.numpy()
            weight.assign(average.numpy())
            average.assign(before)
        self._averages_inside = averages

    def _pairs(self):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not getattr(optimizer, "use_ema", False):
            raise ArgumentError(
                "SwapEMAWeights must be used when `use_ema=True` is set on the optimizer. "
                f"Received: use_ema={getattr(optimizer, 'use_ema', None)}"
            )
        return list(zip(optimizer._trainable_variables, optimizer._averages))
