"""Loss: the base class, the reductions, and classes made from functions.

A loss is a pure function of `(y_true, y_pred)` that gives one value per sample. `register_loss` makes
the class with `reduction`, `name` and `dtype` from it and enters both under their names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import config, dtype_policies, ops
from kcompile.keras.serialization import serialize_keras_object
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.names import auto_name, snake_case
from kcompile.keras.tracing.tensor import is_tensor

SUM_OVER_BATCH_SIZE = "sum_over_batch_size"
_REDUCTIONS = (SUM_OVER_BATCH_SIZE, "sum", "mean", "mean_with_sample_weight", "none", None)
_DIVIDING = (SUM_OVER_BATCH_SIZE, "mean", "mean_with_sample_weight")


class Reduction:
    """Older names of the reductions: `Reduction.SUM`, ..."""

    AUTO = SUM_OVER_BATCH_SIZE
    NONE = "none"
    SUM = "sum"
    SUM_OVER_BATCH_SIZE = SUM_OVER_BATCH_SIZE

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return (cls.AUTO, cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE)

    @classmethod
    def validate(cls, key: str) -> None:
        if key not in cls.all():
            raise ArgumentError(f"Invalid Reduction Key: {key}. Expected keys are {cls.all()}")


class Loss:
    """Base class of losses; a subclass writes `call(y_true, y_pred)` with keras.ops.

    Args:
        name: by default made from the class.
        reduction: "sum_over_batch_size" (the mean), "sum", "mean", "mean_with_sample_weight" (sum divided
            by the sum of weights) or "none"/None (one value per sample).
        dtype: what both arguments are converted to; floatx by default.
    """

    plugin_group = "losses"
    # True: integer labels reach `call` as they are, instead of as `dtype`
    takes_integer_labels = False
    # True: targets have sizes of their own, which are not those of the outputs
    has_own_sizes = False

    def __init__(self, name: str | None = None, reduction: str | None = SUM_OVER_BATCH_SIZE, dtype=None):
        self.name = name or auto_name(type(self).__name__)
        self.reduction = standardize_reduction(reduction)
        self._dtype = dtype_policies.compute_dtype(dtype)

    @property
    def dtype(self) -> str:
        return self._dtype

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Return the reduced loss; arguments may be arrays, tensors, lists or numbers.

        Shapes:  y_pred [batch, d0, ..., dn], y_true the same or (sparse) without dn;
                 sample_weight [batch] or anything that broadcasts to the values per sample.
        """
        mask = get_mask(y_pred)
        y_pred = _map(lambda t: _converted(t, self.dtype), y_pred)
        y_true = _map(lambda t: _converted(t, None if self._keeps(t) else self.dtype), y_true)
        values = self.call(y_true, y_pred)
        mask = _both(mask, get_mask(values))
        return reduce_weighted_values(values, sample_weight, mask, self.reduction, self.dtype)

    def _keeps(self, labels) -> bool:
        return self.takes_integer_labels and not _is_float(labels)

    def call(self, y_true, y_pred):
        raise NotSupportedError(f"{type(self).__name__} must implement `call(y_true, y_pred)`.")

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, reduction={self.reduction}>"


class LossFunctionWrapper(Loss):
    """A loss made of a function `fn(y_true, y_pred, **kwargs)` with one value per sample."""

    def __init__(self, fn: Callable, reduction=SUM_OVER_BATCH_SIZE, name=None, dtype=None, **kwargs):
        super().__init__(name=name or getattr(fn, "__name__", None), reduction=reduction, dtype=dtype)
        self.fn = fn
        self._fn_kwargs = kwargs
        self.takes_integer_labels = getattr(fn, "takes_integer_labels", False)
        self.has_own_sizes = getattr(fn, "has_own_sizes", False)

    def call(self, y_true, y_pred):
        if not tree.is_nested(y_true) and not tree.is_nested(y_pred):
            y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self):
        return {**super().get_config(), "fn": serialize_keras_object(self.fn), **self._fn_kwargs}


def register_loss(
    class_name: str,
    aliases: Iterable[str] = (),
    integer_labels: bool = False,
    order: Iterable[str] = (),
    class_aliases: Iterable[str] = (),
    own_sizes: bool = False,
) -> Callable[[Callable], Callable]:
    """Enter a loss function, and the class made from it, under their names.

    Args:
        class_name: of the class, e.g. "LogCosh"; the function keeps its own name.
        aliases: further names of the function.
        integer_labels: labels are class indices and stay integers.
        order: the constructor's arguments, where it is not the function's own order followed by
            reduction, name, dtype.
        own_sizes: targets are as long as they are, whatever the length of the outputs.
    """

    def register(fn: Callable) -> Callable:
        fn.takes_integer_labels, fn.has_own_sizes = integer_labels, own_sizes
        common = {"reduction": SUM_OVER_BATCH_SIZE, "name": fn.__name__, "dtype": None}
        made = class_of(fn, class_name, LossFunctionWrapper, Loss, common, tuple(order))
        fn.loss_class = made
        fn.loss_names = (fn.__name__, *aliases)
        plugins.register("losses", fn.__name__, fn, aliases=aliases)
        plugins.register("losses", class_name, made, aliases=class_aliases)
        return fn

    return register


def class_of(
    fn: Callable, class_name: str, wrapper: type, config_of: type, common: dict[str, Any], order: tuple[str, ...] = ()
) -> type:
    """Return a subclass of `wrapper` for a function, whose constructor takes the function's options.

    Args:
        wrapper: its constructor takes `fn`, the `common` arguments and the options by keyword.
        config_of: the class whose `get_config` the options are added to.
        common: arguments of every such class, with their defaults.
        order: of all arguments; default: the options, then the common ones.
    """
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = list(inspect.signature(fn).parameters.values())[2:]
    parameters = {p.name: p for p in options}
    parameters.update({n: inspect.Parameter(n, keyword, default=d) for n, d in common.items()})
    signature = inspect.Signature([parameters[n] for n in (order or parameters)])
    names = tuple(p.name for p in options)

    def __init__(self, *args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{class_name}{signature}: {error}") from None
        bound.apply_defaults()
        wrapper.__init__(self, fn, **bound.arguments)
        for name in names:
            setattr(self, name, bound.arguments[name])

    def get_config(self):
        return {**config_of.get_config(self), **{n: getattr(self, n) for n in names}}

    members = {
        "__init__": __init__,
        "__module__": fn.__module__,
        "__qualname__": class_name,
        "__doc__": f"{fn.__doc__}\n\n    The class of `{fn.__name__}`; takes {signature}.",
        "get_config": get_config,
    }
    made = type(class_name, (wrapper,), members)
    made.__signature__ = signature
    return made


# reductions -----------------------------------------------------------------------------------------


def standardize_reduction(reduction: str | None) -> str | None:
    """Return the reduction; "auto" is an older name of the default.

    Raises: ArgumentError for an unknown one.
    """
    if reduction == "auto":
        return SUM_OVER_BATCH_SIZE
    if reduction not in _REDUCTIONS:
        raise ArgumentError(
            f"Invalid value for argument `reduction`. Expected one of {_REDUCTIONS}. Received: reduction={reduction}"
        )
    return reduction


def reduce_weighted_values(values, sample_weight=None, mask=None, reduction=SUM_OVER_BATCH_SIZE, dtype=None):
    """Weight the values per sample and reduce them; masked samples count for nothing."""
    dtype = dtype or config.floatx()
    values = ops.convert_to_tensor(values, dtype=dtype)
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, dtype=dtype)
    if mask is not None:
        sample_weight = _mask_weight(sample_weight, mask, dtype, reduction)
    if sample_weight is not None:
        values, sample_weight = squeeze_or_expand_to_same_rank(values, sample_weight)
        _check_weights(sample_weight, values)
        values = values * sample_weight
    if reduction in (None, "none") or len(values.shape) == 0:
        return values
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        return ops.divide_no_nan(ops.sum(values), ops.sum(sample_weight))
    return ops.mean(values) if reduction in _DIVIDING else ops.sum(values)


def _mask_weight(sample_weight, mask, dtype, reduction):
    """Weights that leave masked values out of a mean: each valid one counts total/valid times."""
    weight = ops.cast(mask, dtype)
    if reduction in ("mean", SUM_OVER_BATCH_SIZE):
        weight = ops.divide_no_nan(weight, ops.mean(weight))
    if sample_weight is None:
        return weight
    weight, sample_weight = squeeze_or_expand_to_same_rank(weight, sample_weight)
    return weight * sample_weight


def _check_weights(sample_weight, values) -> None:
    if len(sample_weight.shape) > len(values.shape) > 0:  # one number for the whole batch is weighted by every row
        raise ArgumentError(
            f"`sample_weight` of shape {tuple(sample_weight.shape)} has more dimensions than the loss values of "
            f"shape {tuple(values.shape)}."
        )


def pair_of_one_dtype(y_true, y_pred):
    """Return targets and predictions as tensors, the targets in the dtype of the predictions."""
    y_pred = ops.convert_to_tensor(y_pred)
    return ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype), y_pred


def pair_of_one_rank(y_true, y_pred):
    """The same, with a last axis of size 1 squeezed or expanded where the ranks differ by one."""
    return squeeze_or_expand_to_same_rank(*pair_of_one_dtype(y_true, y_pred))


def squeeze_or_expand_to_same_rank(x1, x2, expand_rank_1: bool = True):
    """Squeeze or expand a last axis of size 1 where the ranks differ by exactly one."""
    rank1, rank2 = len(x1.shape), len(x2.shape)
    if rank1 == rank2 + 1 and x1.shape[-1] == 1:
        if rank2 == 1 and expand_rank_1:
            return x1, ops.expand_dims(x2, axis=-1)
        return ops.squeeze(x1, axis=-1), x2
    if rank2 == rank1 + 1 and x2.shape[-1] == 1:
        if rank1 == 1 and expand_rank_1:
            return ops.expand_dims(x1, axis=-1), x2
        return x1, ops.squeeze(x2, axis=-1)
    return x1, x2


# masks and conversion ---------------------------------------------------------------------------------


def get_mask(x):
    """Return the mask that travels with a tensor, or None."""
    return getattr(x, "_keras_mask", None)


def set_mask(x, mask):
    """Let `mask` travel with `x`."""
    x._keras_mask = mask
    return x


def _both(a, b):
    if a is None or b is None:
        return b if a is None else a
    return ops.logical_and(a, b)


def _map(function, value):
    """Apply to a tensor, or to every leaf of a dict/list of *tensors*; a list of numbers is one tensor."""
    if isinstance(value, dict) or (tree.is_nested(value) and any(is_tensor(v) for v in tree.flatten(value))):
        return tree.map_structure(function, value)
    return function(value)


def _converted(value, dtype):
    return ops.convert_to_tensor(value, dtype=dtype)


def _is_float(value) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        leaf = next(iter(tree.flatten(value)), 0)
        return isinstance(leaf, float) or (hasattr(leaf, "dtype") and _is_float(leaf))
    return "float" in str(getattr(dtype, "keras", dtype))


# names ------------------------------------------------------------------------------------------------


def name_of(identifier: Any) -> str:
    """Return the name a loss or metric given by name, function or object is shown under."""
    if isinstance(identifier, str):
        return identifier
    return (
        getattr(identifier, "name", None)
        or getattr(identifier, "__name__", None)
        or snake_case(type(identifier).__name__)
    )
