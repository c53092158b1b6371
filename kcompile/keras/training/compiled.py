"""What `compile` was given, resolved against a model's outputs: losses with weights, metrics with names.

Both resolve when they first see targets and predictions (the string "accuracy" depends on shapes), which is
while a program is traced. They are plain holders: values live in the metrics' Variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras import losses as loss_table
from kcompile.keras import metrics as metric_table
from kcompile.keras import ops
from kcompile.keras.losses.loss import Loss, LossFunctionWrapper, name_of
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean, MeanMetricWrapper
from kcompile.keras.tracing import tree
from kcompile.keras.training.structure import output_labels, per_output, targets_per_output, weights_per_output


@dataclass(frozen=True)
class OutputLoss:
    """A loss of one output; `classes` if its labels are indices below that number."""

    output: int
    label: str
    loss: Loss
    weight: float | None
    classes: int | None = None
    ignored: int | None = None  # an index outside the classes that is allowed


class CompiledLosses:
    """The losses of `compile`, their weights, and a running mean of each if there are several."""

    def __init__(self, loss: Any, loss_weights: Any, output_names: Sequence[str] | None):
        self.user_loss = loss
        self.user_weights = loss_weights
        self.output_names = output_names
        self.parts: list[OutputLoss] | None = None
        self.metrics: list[Mean] = []
        self.labels: list[str] = []

    @property
    def has_loss(self) -> list[bool]:
        """For each output whether it has a loss; empty before `build`."""
        return [any(p.output == i for p in self.parts or ()) for i in range(len(self.labels))]

    def build(self, y: Any, y_pred: Any) -> None:
        """Resolve names once the shapes are known."""
        labels = output_labels(y_pred, self.output_names)
        predictions = tree.flatten(y_pred)
        wanted = self._per_output(labels)
        targets = targets_per_output(y, labels, [w is not None for w in wanted])
        weights = self._weights(wanted, labels)
        parts = []
        for i, (spec, target, prediction) in enumerate(zip(wanted, targets, predictions)):
            for identifier in spec if isinstance(spec, (list, tuple)) else [spec]:
                if identifier is None:
                    continue
                if target is None:
                    raise ArgumentError(f"output {labels[i]!r} has a loss but no target in `y`.")
                loss = resolve_loss(identifier, target, prediction)
                parts.append(OutputLoss(i, labels[i], loss, weights[i], *_label_range(loss, prediction)))
        if isinstance(self.user_loss, Mapping):  # they are reported in the order that the user gave
            given = list(self.user_loss)
            parts.sort(key=lambda p: given.index(p.label) if p.label in given else len(given))
        self.labels = labels
        self.parts = parts
        if len(parts) > 1 and not self.metrics:
            self.metrics = [Mean(name=name) for name in _unique([f"{p.label}_loss" for p in parts])]

    def _per_output(self, labels: list[str]) -> list[Any]:
        loss = self.user_loss
        if not tree.is_nested(loss):
            return [loss] * len(labels)
        if len(labels) == 1 and isinstance(loss, (list, tuple)) and len(loss) != 1:
            return [list(loss)]  # several losses of the one output
        return per_output(loss, labels, "loss")

    def _weights(self, wanted: list[Any], labels: list[str]) -> list[float | None]:
        given = self.user_weights
        if given is None:
            return [None] * len(labels)
        if isinstance(given, (list, tuple)) and len(given) != len(labels):
            with_loss = [i for i, w in enumerate(wanted) if w is not None]
            if len(given) != len(with_loss):
                raise ArgumentError(
                    f"`loss_weights` must match the number of losses, got {len(with_loss)} losses and "
                    f"{len(given)} weights."
                )
            found = dict(zip(with_loss, given))
            return [found.get(i) for i in range(len(labels))]
        return per_output(given, labels, "loss_weights")

    def __call__(self, y: Any, y_pred: Any, sample_weight: Any, batch: Any) -> Any | None:
        """Return the weighted sum of the losses, and add each to its running mean; None without losses."""
        if self.parts is None:
            self.build(y, y_pred)
        predictions = tree.flatten(y_pred)
        targets = targets_per_output(y, self.labels, self.has_loss)
        weights = weights_per_output(sample_weight, self.labels)
        total = None
        for number, part in enumerate(self.parts):
            value = self._value(part, targets[part.output], predictions[part.output], weights[part.output])
            if self.metrics:
                self.metrics[number].update_state(value, sample_weight=batch)
            if part.weight is not None:
                value = value * part.weight
            total = value if total is None else total + value
        return total

    def _value(self, part: OutputLoss, target, prediction, weight):
        try:
            value = part.loss(target, prediction, sample_weight=weight)
        except KcompileError as error:
            shapes = f"y_true: {_shape(target)}, y_pred: {_shape(prediction)}"
            raise type(error)(
                f"{error}\n  in  loss {part.loss.name!r} of output {part.label!r}; received {shapes}"
            ) from None
        return ops.sum(value) if len(value.shape) else value  # reduction "none" still needs one number to minimise


class CompiledMetrics:
    """The metrics of `compile` with the names they are logged under."""

    def __init__(self, metrics: Any, weighted_metrics: Any, output_names: Sequence[str] | None):
        for argument, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value and not isinstance(value, (list, tuple, dict)):
                raise ArgumentError(
                    f"Expected `{argument}` argument to be a list, tuple, or dict. Received instead: "
                    f"{argument}={value} of type {type(value)}"
                )
        self.user_metrics = metrics
        self.user_weighted = weighted_metrics
        self.output_names = output_names
        self.entries: list[tuple[int, Metric, bool]] | None = None  # (output, metric, weighted)
        self.names: list[str] = []
        self.labels: list[str] = []

    @property
    def metrics(self) -> list[Metric]:
        return [m for _, m, _ in self.entries or ()]

    def build(self, y: Any, y_pred: Any, has_loss: Sequence[bool]) -> None:
        """Resolve names once the shapes are known."""
        labels = self.labels = output_labels(y_pred, self.output_names)
        predictions = tree.flatten(y_pred)
        targets = targets_per_output(y, labels, has_loss)
        entries, names = [], []
        for weighted, given, what in (
            (False, self.user_metrics, "metrics"),
            (True, self.user_weighted, "weighted_metrics"),
        ):
            for i, wanted in enumerate(metrics_per_output(given, labels, what)):
                for identifier in wanted:
                    if targets[i] is None:
                        raise ArgumentError(f"output {labels[i]!r} has metrics but no target in `y`.")
                    metric, name = resolve_metric(identifier, targets[i], predictions[i])
                    prefix = f"{labels[i]}_" if len(labels) > 1 else ""
                    entries.append((i, metric, weighted))
                    names.append(_free(prefix, name, weighted, names))
        self.entries, self.names = entries, names

    def update(self, y: Any, y_pred: Any, sample_weight: Any, has_loss: Sequence[bool]) -> None:
        """Add a batch to every metric."""
        if self.entries is None:
            self.build(y, y_pred, has_loss)
        predictions = tree.flatten(y_pred)
        targets = targets_per_output(y, self.labels, has_loss)
        weights = weights_per_output(sample_weight, self.labels)
        for (output, metric, weighted), name in zip(self.entries, self.names):
            try:
                weight = {"sample_weight": weights[output]} if weighted and weights[output] is not None else {}
                metric.update_state(targets[output], predictions[output], **weight)
            except KcompileError as error:
                shapes = f"y_true: {_shape(targets[output])}, y_pred: {_shape(predictions[output])}"
                raise type(error)(
                    f"{error}\n  in  metric {name!r} of output {self.labels[output]!r}; received {shapes}"
                ) from None


def metrics_per_output(given: Any, labels: Sequence[str], what: str) -> list[list[Any]]:
    """Return a list of metrics per output of any of the accepted forms.

    One output takes a flat list. Several take a dict by name, or a list with an entry (a metric, a list or
    None) per output; a flat list of another length applies to every output, as in Keras 2.
    """
    if not given:
        return [[] for _ in labels]
    if len(labels) == 1:
        return [[m for m in tree.flatten(given) if m is not None]]
    if not isinstance(given, dict) and len(given) != len(labels) and not any(tree.is_nested(g) for g in given):
        return [list(given) for _ in labels]
    return [
        [m for m in tree.flatten(entry) if m is not None] if entry is not None else []
        for entry in per_output(given, labels, what)
    ]


def resolve_loss(identifier: Any, y_true: Any, y_pred: Any) -> Loss:
    """Return a loss object for a name, function or object; "crossentropy" by the shapes."""
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        identifier = _by_shape(y_true, y_pred) + "_crossentropy"
    found = loss_table.get(identifier)
    if isinstance(found, Loss):
        return found
    return LossFunctionWrapper(found, name=name_of(identifier))


def resolve_metric(identifier: Any, y_true: Any, y_pred: Any) -> tuple[Metric, str]:
    """Return a metric object and the name it is logged under; "accuracy" and "crossentropy" by the shapes."""
    text = identifier.lower() if isinstance(identifier, str) else ""
    if text in ("accuracy", "acc"):
        found = metric_table.get(_by_shape(y_true, y_pred) + "_accuracy")
    elif text in ("crossentropy", "ce"):
        found = metric_table.get(_by_shape(y_true, y_pred) + "_crossentropy")
    else:
        found = metric_table.get(identifier)
    name = name_of(identifier)
    if not isinstance(found, Metric):
        found = MeanMetricWrapper(found, name=name)
    if isinstance(identifier, str):
        found.name = name
    return found, name


def _by_shape(y_true, y_pred) -> str:
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    if pred[-1] == 1:
        return "binary"
    is_sparse = len(true) < len(pred) or (true[-1] == 1 and pred[-1] != 1)
    return "sparse_categorical" if is_sparse else "categorical"


def _label_range(loss: Loss, y_pred: Any) -> tuple[int | None, int | None]:
    """Return (number of classes, ignored index) of a loss on class indices."""
    if not loss.takes_integer_labels or not len(y_pred.shape):
        return None, None
    size = y_pred.shape[getattr(loss, "axis", -1)]
    return (size if isinstance(size, int) else None), getattr(loss, "ignore_class", None)


def _free(prefix: str, name: str, weighted: bool, taken: Sequence[str]) -> str:
    """A name not in use: a weighted metric of the same name becomes `weighted_...`."""
    if prefix + name not in taken:
        return prefix + name
    name = f"{prefix}weighted_{name}" if weighted else prefix + name
    return _unique([*taken, name])[-1]


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        candidate, number = name, 0
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found


def _shape(value) -> str:
    return "(" + ", ".join(str(s) for s in getattr(value, "shape", ())) + ")"
