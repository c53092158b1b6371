"""`keras.metrics`: classes, functions and their names.

metric.py      Metric
reduction.py   Sum, Mean, means of functions, register_metric
accuracy.py    how often predictions are right
regression.py  means of the loss functions
confusion.py   true and false positives and negatives, precision, recall
curves.py      AUC and the best ratio where another is good enough
f_score.py     F scores
iou.py         intersection over union
correlation.py correlations, R2, elementwise means
"""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError, MissingNameError, suggestion
from kcompile.keras import losses as _losses
from kcompile.keras.metrics import accuracy as _accuracy
from kcompile.keras.metrics import confusion as _confusion
from kcompile.keras.metrics import correlation as _correlation
from kcompile.keras.metrics import curves as _curves
from kcompile.keras.metrics import f_score as _f_score
from kcompile.keras.metrics import iou as _iou
from kcompile.keras.metrics import regression as _regression
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean, MeanMetricWrapper, Sum, register_metric
from kcompile.keras.metrics.regression import MeanRelativeError, RootMeanSquaredError
from kcompile.keras.serialization import deserialize_keras_object, get_registered_object, serialize_keras_object

for _class in (Metric, Mean, Sum, MeanMetricWrapper):
    plugins.register("metrics", _class.__name__, _class)

# the classes made from functions, and the functions themselves under each of their names
_BUILTIN: dict[str, Any] = {}
_functions = [v for m in (_accuracy, _regression, _correlation) for v in vars(m).values() if hasattr(v, "metric_class")]
_classes = [f.metric_class for f in _functions]
_classes += [v for v in vars(_regression).values() if isinstance(v, type) and hasattr(v, "metric_names")]
for _class in _classes:
    _BUILTIN.update(dict.fromkeys(_class.metric_names[1:], _class.metric_function))
    _BUILTIN[_class.metric_names[0]] = _class
for _family in (_confusion, _curves, _f_score, _iou, _correlation):
    _BUILTIN.update({_class.__name__: _class for _class in _family.CLASSES})
globals().update(_BUILTIN)

__all__ = [
    "Mean",
    "MeanMetricWrapper",
    "MeanRelativeError",
    "Metric",
    "RootMeanSquaredError",
    "Sum",
    "deserialize",
    "get",
    "register_metric",
    "serialize",
    *_BUILTIN,
]


def get(identifier: Any):
    """Return a metric: None as it is, an object or function as it is, a name or config looked up.

    >>> get("mse").name
    'mean_squared_error'
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        name = "accuracy" if identifier in ("acc", "Acc", "ACC") else identifier
        found = get_registered_object(name) or plugins.find("metrics", name) or plugins.find("losses", name)
        identifier = found if found is not None else plugins.get("metrics", name)
    if isinstance(identifier, type) and issubclass(identifier, (Metric, _losses.Loss)):
        return identifier()
    if callable(identifier) or isinstance(identifier, Metric):
        return identifier
    raise ArgumentError(f"Could not interpret metric identifier: {identifier}")


def serialize(metric: Any) -> Any:
    """Return the config of a metric object, or the name of a function."""
    return serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: dict[str, Any] | None = None):
    """Return a metric from a name or from `serialize`'s config."""
    found = deserialize_keras_object(config, custom_objects, group="metrics")
    return found() if isinstance(found, type) else found


def __getattr__(name: str):
    """Metrics of installed plugins appear here under their names."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = plugins.find("metrics", name)
    if found is None:
        hint = suggestion(name, plugins.names("metrics"))
        raise MissingNameError(f"keras.metrics has no metric {name!r} in kcompile.{hint}")
    return found
