"""Numbers made fit for training: scaled, standardised, put into bins."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras import config, ops
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.preprocessing.encoding import check_output_mode, encode
from kcompile.keras.layers.preprocessing.host import batches_of
from kcompile.keras.registry import register


@register
class Rescaling(Layer):
    """x · scale + offset."""

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.supports_masking = True

    def call(self, inputs):
        dtype = self.compute_dtype
        scale, offset = (ops.cast(ops.convert_to_tensor(v), dtype) for v in (self.scale, self.offset))
        if len(scale.shape) and config.image_data_format() == "channels_first":
            scale = ops.reshape(scale, (*scale.shape, *(1,) * (3 - len(scale.shape))))
        return ops.cast(inputs, dtype) * scale + offset


@register
class Normalization(Layer):
    """(x - mean) / deviation, with statistics given or learned by `adapt` from data.

    Args:    axis: axes with statistics of their own for each index; None: one mean and variance for all.
    Weights: mean, variance, count (not trained), unless given.

    >>> layer = Normalization(axis=None); layer.adapt(np.array([1.0, 2.0, 3.0], "float32"))
    >>> layer([2.0]).numpy()
    array([0.], dtype=float32)
    """

    def __init__(self, axis=-1, mean=None, variance=None, invert=False, **kwargs):
        super().__init__(**kwargs)
        self.axis = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        if (mean is None) != (variance is None):
            raise ArgumentError(
                "When setting values directly, both `mean` and `variance` must be set. Received: "
                f"mean={mean} and variance={variance}"
            )
        if mean is not None and np.shape(mean) != np.shape(variance):
            raise ArgumentError(
                "When setting values directly, `mean` and `variance` must have the same shape. Received: "
                f"mean shape {np.shape(mean)} and variance shape {np.shape(variance)}"
            )
        if mean is not None and np.ndim(mean) > len(self.axis):
            raise ArgumentError(
                f"The rank of `mean` must be less than or equal to the number of axes ({len(self.axis)}). Received: "
                f"mean shape {np.shape(mean)} for axis {self.axis}"
            )
        self.input_mean, self.input_variance, self.invert = mean, variance, invert
        self.supports_masking = True
        self.mean = self.variance = None  # known when built, and after `adapt`

    def build(self, input_shape):
        ndim = len(input_shape)
        if any(not -ndim <= a < ndim for a in self.axis):
            raise ArgumentError(
                "All `axis` values must be in the range [-ndim, ndim). Received inputs with "
                f"ndim={ndim}, while axis={self.axis}"
            )
        kept = sorted(a % ndim for a in self.axis)
        if any(input_shape[a] is None for a in kept):
            raise ArgumentError(
                "All `axis` values to be kept must have a known shape. Received "
                f"axis={self.axis}, inputs.shape={tuple(input_shape)}"
            )
        self._kept = tuple(kept)
        self._spread = tuple(s if a in kept else 1 for a, s in enumerate(input_shape))
        if self.input_mean is None:
            shape = tuple(input_shape[a] for a in kept)
            self.adapt_mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
            self.adapt_variance = self.add_weight(name="variance", shape=shape, initializer="ones", trainable=False)
            self.count = self.add_weight(name="count", shape=(), dtype="int32", initializer="zeros", trainable=False)
        self.finalize_state()

    def adapt(self, data) -> None:
        """Learn mean and variance from an array or from batches."""
        if self.input_mean is not None:
            raise KcompileError(f"Cannot adapt layer '{self.name}': it was made with `mean` and `variance`.")
        total, mean, variance = 0, 0.0, 0.0
        for batch in batches_of(data):
            batch = np.asarray(batch, np.float64)
            if not self.built:
                self.build((None, *batch.shape[1:]) if batch.ndim else ())
            axes = tuple(a for a in range(batch.ndim) if a not in self._kept)
            count = int(np.prod([batch.shape[a] for a in axes])) if axes else 1
            new, spread = batch.mean(axis=axes), batch.var(axis=axes)
            share = count / (total + count)  # parts of a variance: within each part, and between their means
            joined = mean * (1 - share) + new * share
            variance = (variance + (mean - joined) ** 2) * (1 - share) + (spread + (new - joined) ** 2) * share
            mean, total = joined, total + count
        if not total:
            raise ArgumentError("adapt() received no data")
        self.adapt_mean.assign(mean)
        self.adapt_variance.assign(variance)
        self.finalize_state()

    def reset_state(self) -> None:
        """Nothing is kept between two calls of `adapt`."""

    def finalize_state(self) -> None:
        """Show the present statistics as `mean` and `variance`, shaped to combine with inputs. `call` reads weights."""
        self.mean, self.variance = [v.numpy() for v in self._statistics()]

    def load_own_variables(self, store) -> None:
        """Take the weights from a file."""
        super().load_own_variables(store)
        self.finalize_state()

    def _statistics(self):
        if self.input_mean is None:
            found = self.adapt_mean, self.adapt_variance
            shapes = self._spread, self._spread
        else:
            found = [np.asarray(v, np.float64) for v in (self.input_mean, self.input_variance)]
            places = self._kept[len(self._kept) - found[0].ndim :]
            sizes = dict(zip(places, found[0].shape))
            shapes = [tuple(sizes.get(a, 1) for a in range(len(self._spread)))] * 2
        return [ops.reshape(ops.cast(v, self.compute_dtype), shape) for v, shape in zip(found, shapes)]

    def call(self, inputs):
        mean, variance = self._statistics()
        deviation = ops.maximum(ops.sqrt(variance), config.epsilon())
        inputs = ops.cast(inputs, self.compute_dtype)
        return mean + inputs * deviation if self.invert else (inputs - mean) / deviation

    def get_config(self):
        given = {"mean": self.input_mean, "variance": self.input_variance}
        return {**super().get_config(), **{k: None if v is None else np.array(v).tolist() for k, v in given.items()}}


@register
class Discretization(Layer):
    """Which of the bins between `bin_boundaries` each number falls into; `adapt` finds boundaries of equal bins.

    >>> Discretization(bin_boundaries=[0.0, 1.0, 2.0])([[-1.5, 1.0, 3.4, 0.5]]).numpy()
    array([[0, 2, 3, 1]], dtype=int32)
    """

    def __init__(
        self,
        bin_boundaries=None,
        num_bins=None,
        epsilon=0.01,
        output_mode="int",
        sparse=False,
        dtype=None,
        name=None,
    ):
        super().__init__(name=name, dtype=dtype)
        if num_bins is not None and num_bins < 0:
            raise ArgumentError(f"`num_bins` must be greater than or equal to 0. Received: `num_bins={num_bins}`")
        if num_bins is not None and bin_boundaries is not None:
            raise ArgumentError(
                "Both `num_bins` and `bin_boundaries` should not be set. Received: "
                f"`num_bins={num_bins}` and `bin_boundaries={bin_boundaries}`"
            )
        if num_bins is None and bin_boundaries is None:
            raise ArgumentError("You need to set either `num_bins` or `bin_boundaries`.")
        self.output_mode = check_output_mode(output_mode, ("int", "one_hot", "multi_hot", "count"), sparse, self)
        self.bin_boundaries = None if bin_boundaries is None else [float(b) for b in bin_boundaries]
        self.num_bins, self.epsilon, self.sparse = num_bins, epsilon, sparse
        self._summary = np.zeros((2, 0), np.float32)

    def adapt(self, data, steps=None) -> None:
        """Learn the boundaries from an array or from (`steps`) batches."""
        if self.num_bins is None:
            raise KcompileError(
                "Cannot adapt a Discretization layer that has been initialized with `bin_boundaries`, use `num_bins` "
                "instead."
            )
        self._summary = np.zeros((2, 0), np.float32)
        for batch in batches_of(data, steps):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data) -> None:
        """Add a batch to what is known of the distribution."""
        merged = np.concatenate([_summary_of(np.asarray(data, np.float32), self.epsilon), self._summary], axis=1)
        self._summary = _compressed(merged[:, np.argsort(merged[0])], self.epsilon)

    def finalize_state(self) -> None:
        """Set the boundaries from what was seen."""
        self.bin_boundaries = _compressed(self._summary, 1.0 / self.num_bins)[0, :-1].tolist()

    def call(self, inputs):
        if self.bin_boundaries is None:
            raise KcompileError(
                "You need to either pass the `bin_boundaries` argument at construction time or call "
                "`adapt(dataset)` before you can start using the `Discretization` layer."
            )
        edges = np.asarray(self.bin_boundaries, np.float32)
        below = ops.less_equal(ops.convert_to_tensor(edges), ops.expand_dims(ops.cast(inputs, "float32"), -1))
        indices = ops.sum(ops.cast(below, "int32"), axis=-1)
        dtype = "int32" if self.output_mode == "int" else self.compute_dtype
        return encode(indices, self.output_mode, len(self.bin_boundaries) + 1, dtype)

    def get_config(self):
        return {
            "bin_boundaries": self.bin_boundaries,
            "num_bins": self.num_bins,
            "epsilon": self.epsilon,
            "output_mode": self.output_mode,
            "sparse": self.sparse,
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config):
        learned = config["bin_boundaries"] is not None and config["num_bins"] is not None
        made = cls(**{**config, "bin_boundaries": None if learned else config["bin_boundaries"]})
        if learned:
            made.bin_boundaries = config["bin_boundaries"]
        return made


def _summary_of(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Return values at equal ranks (about 1 / epsilon of them), and how many elements each stands for."""
    values = np.sort(values.reshape(-1))
    step = max(values.size * epsilon, 1)
    edges = values[int(step - 1) :: int(step)]
    return np.stack([edges, np.full_like(edges, step)])


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """Return a summary of ranks `epsilon` apart, interpolated."""
    if summary.shape[1] * epsilon < 1:
        return summary
    shares = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    ranks = weights / weights[-1]
    values, weights = np.interp(shares, ranks, summary[0]), np.interp(shares, ranks, weights)
    return np.stack([values, np.diff(weights, prepend=0.0)]).astype(np.float32)
