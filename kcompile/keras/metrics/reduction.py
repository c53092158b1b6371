"""Sum, Mean, and means of functions: most metrics are one of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kcompile import plugins
from kcompile.keras import ops
from kcompile.keras.losses.loss import class_of, get_mask, squeeze_or_expand_to_same_rank
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object


def reduce_to_samplewise_values(values, sample_weight, reduce_fn, dtype):
    """Return one value per sample and the weights that go with them (or None)."""
    mask = get_mask(values)
    values = ops.cast(ops.convert_to_tensor(values), dtype)
    if sample_weight is not None:
        sample_weight = with_mask(ops.convert_to_tensor(sample_weight, dtype=dtype), mask, dtype)
        values, sample_weight = squeeze_or_expand_to_same_rank(values, sample_weight)
        weight_rank = len(sample_weight.shape)
        if len(values.shape) > weight_rank:
            values = reduce_fn(values, axis=list(range(weight_rank, len(values.shape))))
        sample_weight = ops.broadcast_to(sample_weight, ops.shape(values))
        values = values * sample_weight
        if weight_rank > 1:
            sample_weight = reduce_fn(sample_weight, axis=list(range(1, weight_rank)))
    if len(values.shape) > 1:
        values = reduce_fn(values, axis=list(range(1, len(values.shape))))
    return values, sample_weight


def with_mask(sample_weight, mask, dtype):
    """Return the weights with masked samples at zero."""
    if mask is None:
        return sample_weight
    mask = ops.cast(mask, dtype)
    if sample_weight is None:
        return mask
    mask, sample_weight = squeeze_or_expand_to_same_rank(mask, ops.cast(sample_weight, dtype))
    return mask * sample_weight


class Sum(Metric):
    """The (weighted) sum of the values given.

    >>> m = Sum(); m.update_state([1, 2, 3, 4]); float(m.result())
    10.0
    """

    def __init__(self, name="sum", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), name="total")

    def update_state(self, values, sample_weight=None):
        values, _ = reduce_to_samplewise_values(values, sample_weight, ops.sum, self.dtype)
        self.total.assign_add(ops.sum(values))

    def result(self):
        return ops.cast(self.total.value, self.dtype)


class Mean(Metric):
    """The (weighted) mean of the values given: total divided by count.

    >>> m = Mean(); m.update_state([1, 3, 5, 7]); float(m.result())
    4.0
    """

    def __init__(self, name="mean", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable(shape=(), name="total")
        self.count = self.add_variable(shape=(), name="count")

    def update_state(self, values, sample_weight=None):
        values, sample_weight = reduce_to_samplewise_values(values, sample_weight, ops.mean, self.dtype)
        if sample_weight is not None:
            count = ops.sum(sample_weight)
        else:
            count = values.shape[0] if len(values.shape) else 1
        self.total.assign_add(ops.sum(values))
        self.count.assign_add(ops.convert_to_tensor(count, dtype=self.dtype))

    def result(self):
        return ops.divide_no_nan(self.total.value, self.count.value)

    def log_value(self):
        if type(self).result is not Mean.result:
            return super().log_value()
        count = self.count._array[()]  # asked for after every batch: no ops, just the division
        return float(self.total._array[()] / count) if count != 0 else 0.0


class MeanMetricWrapper(Mean):
    """The mean of `fn(y_true, y_pred, **kwargs)` over all samples."""

    def __init__(self, fn: Callable, name=None, dtype=None, **kwargs):
        super().__init__(name=name or getattr(fn, "__name__", None), dtype=dtype)
        self._fn = fn
        self._fn_kwargs = kwargs

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = get_mask(y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        super().update_state(values, sample_weight=with_mask(sample_weight, mask, self.dtype))

    def get_config(self):
        return {**super().get_config(), "fn": serialize_keras_object(self._fn), **self._fn_kwargs}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if isinstance(config.get("fn"), str):
            config["fn"] = function_called(config["fn"])
        elif isinstance(config.get("fn"), dict):
            config["fn"] = deserialize_keras_object(config["fn"])
        return cls(**config)


def function_called(name: str) -> Callable:
    """Return the metric or loss function called `name`."""
    found = plugins.find("metrics", name)
    found = getattr(found, "metric_function", found)
    return found if found is not None else plugins.get("losses", name)


def metric_of(
    fn: Callable,
    class_name: str,
    aliases: Iterable[str] = (),
    name: str | None = None,
    order: Iterable[str] = (),
) -> type[MeanMetricWrapper]:
    """Make the class that averages `fn`, and enter it under `class_name`, the function's name and `aliases`.

    Args:
        name: the default name of its objects; that of the function if not given.
        order: of the constructor's arguments, by default name, dtype, then the function's options.
    """
    common = {"name": name or fn.__name__, "dtype": None}
    made = class_of(fn, class_name, MeanMetricWrapper, Metric, common, tuple(order) or _usual_order(fn, common))
    made.metric_function = staticmethod(fn)
    made.metric_names = (class_name, fn.__name__, *aliases)
    plugins.register("metrics", class_name, made, aliases=(fn.__name__, *aliases))
    return made


def _usual_order(fn: Callable, common: dict) -> tuple[str, ...]:
    options = fn.__code__.co_varnames[2 : fn.__code__.co_argcount]
    return (*common, *options)


def register_metric(class_name: str, aliases: Iterable[str] = (), order: Iterable[str] = ()):
    """Decorate a function `(y_true, y_pred, ...)` giving one value per sample; its mean becomes a metric class."""

    def register(fn: Callable) -> Callable:
        fn.metric_class = metric_of(fn, class_name, aliases, order=order)
        return fn

    return register
