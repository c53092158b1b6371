"""Adafactor: Adam's second moment kept as one row and one column per matrix, and no first moment."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, register_optimizer


@register_optimizer
class Adafactor(Optimizer):
    """w - alpha·u / max(1, rms(u) / clip_threshold), u = g / sqrt(v), v = r·c / mean(r) for matrices.

    Args:
        beta_2_decay: the past weighs 1 - step^beta_2_decay in the means of g².
        epsilon_1: added to g². epsilon_2: smallest scale of a weight.
        clip_threshold: largest root mean square of u.
        relative_step: let the rate fall as 1 / sqrt(step) if it is a number.

    Source: Shazeer, Stern 2018, "Adafactor", algorithms 4 and 5.
    """

    elementwise = False  # rows and columns are those of one weight

    def __init__(
        self,
        learning_rate=0.001,
        beta_2_decay=-0.8,
        epsilon_1=1e-30,
        epsilon_2=1e-3,
        clip_threshold=1.0,
        relative_step=True,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._rows, self._columns, self._velocities = [], [], []
        for w in variables:
            shape = tuple(w.shape)
            if len(shape) >= 2:
                kinds = ((shape[:-1], w.dtype), ((*shape[:-2], shape[-1]), w.dtype))
            else:
                kinds = (((), "int32"), ((), "int32"))  # without use; Keras's files have them
            row, column = (self.add_variable(s, dtype=d, name=w.name) for s, d in kinds)
            self._rows.append(row)
            self._columns.append(column)
            self._velocities.append(self.add_variable_from_reference(w, name="velocity"))

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        lr, step = self._scalars(learning_rate, variable.dtype)
        w, g = variable.value, ops.cast(gradient, variable.dtype)
        falling = 1.0 / ops.sqrt(step)
        if self.relative_step and not callable(self._learning_rate):
            lr = ops.minimum(lr, falling)
        alpha = ops.maximum(self.epsilon_2, _rms(w)) * ops.minimum(lr, falling)
        past = 1.0 - ops.power(step, self.beta_2_decay)
        squares = ops.square(g) + self.epsilon_1
        if len(variable.shape) >= 2:
            row = past * self._rows[index].value + (1.0 - past) * ops.mean(squares, axis=-1)
            column = past * self._columns[index].value + (1.0 - past) * ops.mean(squares, axis=-2)
            share = row / ops.mean(row, axis=-1, keepdims=True)
            v = ops.expand_dims(share, -1) * ops.expand_dims(column, -2)
            self.assign(self._rows[index], row)
            self.assign(self._columns[index], column)
        else:
            v = past * self._velocities[index].value + (1.0 - past) * squares
        self.assign(self._velocities[index], v)
        move = g / ops.sqrt(v)
        self.assign(variable, w - alpha * move / ops.maximum(1.0, _rms(move) / self.clip_threshold))


def _rms(x):
    return ops.sqrt(ops.mean(ops.square(x)))
