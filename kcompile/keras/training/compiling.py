"""Compiling: the part of a Model between its layers and its loops - what `compile` set up, and what one step computes.

Users override what is here: `compute_loss`, `compute_metrics`, or a whole `train_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import losses as loss_table
from kcompile.keras import metrics as metric_table
from kcompile.keras import ops, optimizers
from kcompile.keras.layers import tracking
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import is_tracing, tree
from kcompile.keras.training import step
from kcompile.keras.training.checks import check_count
from kcompile.keras.training.compiled import CompiledLosses, CompiledMetrics
from kcompile.keras.training.custom import own_method
from kcompile.keras.training.lean import Lean
from kcompile.keras.training.programs import Programs
from kcompile.keras.utils.packing import unpack_x_y_sample_weight
from kcompile.passes.winograd import PRECISIONS


@dataclass
class Training:
    """What `compile` set up; one opaque object, so that layers do not track what is in it."""

    programs: Programs
    optimizer: Any = None
    losses: CompiledLosses | None = None
    metrics: CompiledMetrics | None = None
    loss_tracker: Mean = field(default_factory=lambda: Mean(name="loss"))
    jit: bool = True
    num_threads: int | None = None
    precision: str = "default"
    steps_per_execution: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)  # as given, for saving
    compiled: bool = False
    lean: dict[str, Lean] = field(default_factory=dict)
    attribute_metrics: list[Metric] | None = None


class Compiling:
    """What a Model is compiled with, its metrics, and its steps."""

    @property
    def _training(self) -> Training:
        found = vars(self).get("_training_state")
        if found is None:
            found = Training(Programs(self))
            object.__setattr__(self, "_training_state", found)
        return found

    # compile -----------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        *,
        jit: bool | None = None,
        num_threads: int | None = None,
        precision: str = "default",
        sample_weight_mode=None,
        target_tensors=None,
        **kwargs,
    ) -> None:
        """Set up training.

        Args:
            optimizer: name or object.
            loss: name, function or object; a list or dict by output for several outputs.
            metrics, weighted_metrics: list, dict by output, or list of lists; the second kind uses sample weights.
            loss_weights: list or dict of numbers. Given as third positional argument (Keras 3) they are
                recognised as numbers.
            run_eagerly, jit: `jit=False` or `run_eagerly=True` run the same graph with NumPy instead of native code.
            steps_per_execution: batches between two calls of callbacks' batch hooks.
            num_threads: of the compiled programs; default `KCOMPILE_NUM_THREADS` or the machine's cores.
            precision: "default", "high" or "highest": which algorithms prediction and evaluation may use. All but
                "highest" take fewer multiplications for 3x3 convolutions, at a largest error of 7e-7 ("high") or
                3e-6 ("default") of the largest result.
            auto_scale_loss: a model of policy `mixed_float16` gets a LossScaleOptimizer around its optimizer.
            jit_compile, sample_weight_mode: accepted.
            target_tensors: only None.
        """
        if target_tensors is not None:
            raise NotSupportedError("compile(target_tensors=...) is an idea of TensorFlow 1: pass targets to fit().")
        if sample_weight_mode not in (None, "temporal") and not isinstance(sample_weight_mode, (list, dict)):
            raise ArgumentError(f"sample_weight_mode must be None or 'temporal'. Received: {sample_weight_mode!r}")
        if kwargs:
            raise ArgumentError(f"compile(): unexpected arguments {sorted(kwargs)}")
        if jit not in (None, True, False):
            raise ArgumentError(f"`jit` must be True, False or None. Received: jit={jit!r}")
        if num_threads is not None:
            check_count("num_threads", num_threads, least=1)
        if precision not in PRECISIONS:
            raise ArgumentError(f"`precision` must be one of {list(PRECISIONS)}. Received: precision={precision!r}")
        metrics, loss_weights = _third_positional(metrics, loss_weights)
        names = getattr(self, "output_names", None)
        made = Training(
            programs=Programs(self),
            optimizer=self._scaling(optimizers.get(optimizer)) if auto_scale_loss else optimizers.get(optimizer),
            losses=CompiledLosses(loss, loss_weights, names) if loss is not None else None,
            metrics=CompiledMetrics(metrics, weighted_metrics, names) if metrics or weighted_metrics else None,
            jit=not run_eagerly and jit is not False,
            num_threads=num_threads,
            precision=precision,
            steps_per_execution=steps_per_execution or 1,
            compiled=True,
        )
        _check_names(loss, loss_table.get)
        _check_names([metrics, weighted_metrics], metric_table.get)
        made.arguments = {
            "optimizer": made.optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            **({"precision": precision} if precision != "default" else {}),  # Keras reads files without it
        }
        object.__setattr__(self, "_training_state", made)
        vars(self)["_compiled_calls"] = None  # threads, or whether there are programs, may be others now
        self.stop_training = False

    def _scaling(self, optimizer: Any) -> Any:
        """Small gradients vanish in float16: let the optimizer scale the loss."""
        needs = self.dtype_policy.name == "mixed_float16" and optimizer is not None
        if not needs or isinstance(optimizer, optimizers.LossScaleOptimizer):
            return optimizer
        return optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")

    @property
    def compiled(self) -> bool:
        return self._training.compiled

    @property
    def optimizer(self):
        """The optimizer, or None before `compile`."""
        return self._training.optimizer

    @optimizer.setter
    def optimizer(self, value):
        self._training.optimizer = optimizers.get(value)
        self._training.programs = Programs(self)
        self._training.lean.clear()

    @property
    def loss(self):
        """The loss as given to `compile`."""
        return self._training.arguments.get("loss")

    @property
    def run_eagerly(self) -> bool:
        return bool(self._training.arguments.get("run_eagerly"))

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile` as plain data, or None before it."""
        if not self.compiled:
            return None
        return {k: serialize_keras_object(v) for k, v in self._training.arguments.items()}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile with what `get_compile_config` gave; a built model also builds its optimizer."""
        given = {k: deserialize_keras_object(v) if k != "optimizer" else v for k, v in config.items()}
        given.pop("jit_compile", None)
        self.compile(**given)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # the parts of a step that users override -----------------------------------------------------------

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the total loss of a batch: compiled losses plus those of layers. Runs inside the traced step."""
        del training
        total = None
        if self._training.losses is not None:
            self._training.losses.output_names = getattr(self, "output_names", None)  # known once built
            total = self._training.losses(y, y_pred, sample_weight, step.batch_size(y_pred if x is None else x))
        for penalty in self.losses:
            penalty = ops.sum(ops.convert_to_tensor(penalty))
            total = penalty if total is None else total + penalty
        if total is None:
            raise ArgumentError("No loss to compute. Provide a `loss` argument in `compile()`.")
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Add a batch to the compiled metrics; returns all values so far. Runs inside the traced step."""
        del x
        self.update_metrics(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def update_metrics(self, y, y_pred, sample_weight=None) -> None:
        """Add a batch to the compiled metrics."""
        compiled = self._training
        if compiled.metrics is not None:
            compiled.metrics.output_names = getattr(self, "output_names", None)
            has_loss = compiled.losses.has_loss if compiled.losses is not None else []
            compiled.metrics.update(y, y_pred, sample_weight, has_loss)

    def train_step(self, data) -> dict[str, Any]:
        """Make one update from a batch `x`, `(x, y)` or `(x, y, sample_weight)`; returns the logs.

        Override it to write a step of your own, with `keras.GradientTape` for gradients: `fit` and `train_on_batch`
        trace and compile it.
        """
        x, y, sample_weight = unpack_x_y_sample_weight(data)
        step.train(self, x, y, sample_weight, self.trainable_variables, None)
        return self.get_metrics_result()

    def test_step(self, data) -> dict[str, Any]:
        """Loss and metrics of a batch in test mode; as `train_step`, for `evaluate`."""
        step.test(self, *unpack_x_y_sample_weight(data))
        return self.get_metrics_result()

    def predict_step(self, data):
        """The outputs for a batch, for `predict`."""
        return self(unpack_x_y_sample_weight(data)[0], training=False)

    def own_method(self, name: str) -> Callable | None:
        """Return the method of that name if a subclass wrote it."""
        return own_method(self, Compiling, name)

    # metrics -------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> list[Metric]:
        """All metrics: loss, losses of single outputs, compiled ones, those held by layers."""
        compiled = self._training
        found: list[Metric] = []
        if compiled.compiled:
            found.append(compiled.loss_tracker)
            found += compiled.losses.metrics if compiled.losses is not None else []
            found += compiled.metrics.metrics if compiled.metrics is not None else []
        return found + self._attribute_metrics()

    def _attribute_metrics(self) -> list[Metric]:
        compiled = self._training
        if compiled.attribute_metrics is None:
            compiled.attribute_metrics = tracking.metrics_of(self)
        return compiled.attribute_metrics

    @property
    def jit_compile(self) -> bool:
        """Whether steps run as native code; `compile(jit_compile=False)` has them interpreted."""
        return bool(self._training.jit)

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order (known after the first batch)."""
        return [name for name, _ in self._log_entries()]

    @property
    def metrics_variables(self) -> list:
        """The variables of all metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def _log_entries(self, mode: str = "") -> list[tuple[str, Metric]]:
        """(name, metric) of everything in the logs of a mode, which may have a step that returns its own."""
        compiled = self._training
        metrics = compiled.metrics
        standard = list(zip(metrics.names, metrics.metrics)) if metrics is not None else []
        known = {id(m) for _, m in standard}
        entries = [(m.name, m) for m in self.metrics if id(m) not in known]
        first = [*entries[:1], *(standard if metrics is None or len(metrics.labels) == 1 else ()), *entries[1:]]
        returned = compiled.programs.logs.get(mode)
        return _in_keras_order([*entries, *standard] if returned is None else list(returned.items()), first)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the present value of every metric by name: numbers, or tensors inside a step."""
        return log_values(self._log_entries())

    def _logs(self, mode: str) -> dict[str, Any]:
        return log_values(self._log_entries(mode))

    def reset_metrics(self) -> None:
        """Start all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()


def _in_keras_order(entries: list[tuple[str, Metric]], first: list[tuple[str, Metric]]) -> list[tuple[str, Metric]]:
    """Return the entries named in `first` in that order, then all others by name: so they come from `evaluate`."""
    names = [name for name, _ in first]
    return sorted(entries, key=lambda e: (names.index(e[0]), "") if e[0] in names else (len(names), e[0]))


def _third_positional(metrics: Any, loss_weights: Any) -> tuple[Any, Any]:
    """Keras 2 has metrics third, Keras 3 loss weights: numbers can only be weights."""
    if _is_numbers(metrics) and not _is_numbers(loss_weights):
        return loss_weights, metrics
    return metrics, loss_weights


def _is_numbers(value: Any) -> bool:
    flat = tree.flatten(value) if tree.is_nested(value) else []
    return bool(flat) and all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in flat)


def _check_names(identifiers: Any, get: Callable) -> None:
    """Unknown names are reported by `compile`, not by the first batch."""
    for identifier in tree.flatten(identifiers):
        if isinstance(identifier, str) and identifier.lower() not in ("crossentropy", "ce"):
            get(identifier)


def log_values(entries: list[tuple[str, Metric]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, metric in entries:
        value = metric.result() if is_tracing() else metric.log_value()
        values.update(value if isinstance(value, dict) else {name: value})
    return values
