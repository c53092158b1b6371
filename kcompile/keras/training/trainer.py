"""Trainer: compile, fit, evaluate, predict and their one-batch forms, mixed into Model.

Arguments are those of Keras 2 and 3 together. The work is done elsewhere: data/ makes sources, programs.py
finds the compiled step, loop.py runs it. Values for logs are read from the metrics' Variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, KcompileError, NotSupportedError
from kcompile.keras import losses as loss_table
from kcompile.keras import metrics as metric_table
from kcompile.keras import ops, optimizers
from kcompile.keras.callbacks import CallbackList, History
from kcompile.keras.layers import tracking
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean
from kcompile.keras.random.seeds import draw_seed_number
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import is_tracing, tree
from kcompile.keras.training import step
from kcompile.keras.training.checks import check_indices, check_labels, check_rows
from kcompile.keras.training.compiled import CompiledLosses, CompiledMetrics
from kcompile.keras.training.custom import own_method
from kcompile.keras.training.data import (
    ArrayData,
    BatchData,
    HostBatches,
    convert_all,
    is_batch_source,
    leaves,
    make_data,
    split,
)
from kcompile.keras.training.data.arrays import class_weights
from kcompile.keras.training.lean import Lean
from kcompile.keras.training.loop import Run
from kcompile.keras.training.programs import PREDICT, TEST, TRAIN, Batch, Programs, StepProgram
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


class Trainer:
    """The training half of a Model."""

    stop_training = False
    history: History | None = None

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
            _check_count("num_threads", num_threads, least=1)
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
        return own_method(self, Trainer, name)

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
            values = (v for layer in self._flatten_layers() for v in tracking.attribute_values(layer, layer.untracked))
            compiled.attribute_metrics = tracking.unique(values, tracking.is_metric)
        return compiled.attribute_metrics

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` returns, in its order (known after the first batch)."""
        return [name for name, _ in self._log_entries()]

    def _log_entries(self, mode: str = "") -> list[tuple[str, Metric]]:
        """(name, metric) of everything in the logs of a mode, which may have a step that returns its own."""
        compiled = self._training
        returned = compiled.programs.logs.get(mode)
        if returned is not None:
            return list(returned.items())
        standard = {id(m) for m in (compiled.metrics.metrics if compiled.metrics is not None else ())}
        entries = [(m.name, m) for m in self.metrics if id(m) not in standard]
        named = list(zip(compiled.metrics.names, compiled.metrics.metrics)) if standard else []
        first = 1 + len(compiled.losses.metrics if compiled.losses is not None else ())
        return [*entries[:first], *named, *entries[first:]]

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the present value of every metric by name: numbers, or tensors inside a step."""
        return _values(self._log_entries())

    def _logs(self, mode: str) -> dict[str, Any]:
        return _values(self._log_entries(mode))

    def reset_metrics(self) -> None:
        """Start all metrics anew."""
        for metric in self.metrics:
            metric.reset_state()

    # fit -----------------------------------------------------------------------------------------------

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=True,
        class_weight=None,
        sample_weight=None,
        initial_epoch=0,
        steps_per_epoch=None,
        validation_steps=None,
        validation_batch_size=None,
        validation_freq=1,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
    ) -> History:
        """Train for the epochs from `initial_epoch` to `epochs`; returns the History.

        Args:
            x, y, sample_weight: arrays, lists, nested by input and output; or `x` alone: a generator, PyDataset or
                iterable that gives batches.
            batch_size: rows per update, 32 by default.
            verbose: 0 silent, 1 or "auto" a bar, 2 a line per epoch.
            validation_split: share taken from the end of the arrays for validation.
            validation_data: (x, y), (x, y, sample_weight) or a source of batches.
            shuffle: rows in every epoch; "batch" whole batches.
            class_weight: weights per class index, in the training loss.
            steps_per_epoch, validation_steps: batches, for endless sources.
            validation_freq: every n epochs, or the epochs (from 1) to validate after.
            max_queue_size, workers, use_multiprocessing: accepted.
        """
        self._assert_compiled("fit")
        x, validation_data = self._on_host(x), self._data_on_host(validation_data)
        _check_count("epochs", epochs)
        _check_count("initial_epoch", initial_epoch)
        if validation_split and validation_data is None:
            if is_batch_source(x):
                raise ArgumentError("`validation_split` is only supported for arrays, not for sources of batches.")
            parts = [convert_all(v, n) for v, n in ((x, "x"), (y, "y"), (sample_weight, "sample_weight"))]
            # unequal lengths are reported for the whole data, not for the parts
            ArrayData(*parts)
            (x, y, sample_weight), validation_data = split(parts, validation_split)
        data = make_data(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            steps=steps_per_epoch,
            shuffle=shuffle,
            class_weight=class_weight,
        )
        validation = self._validation(validation_data, validation_batch_size or batch_size, validation_steps)
        callbacks = self._callbacks(callbacks, verbose, epochs, data.num_batches, add_history=True)
        self._check_data(data)
        rng = np.random.default_rng(draw_seed_number())
        self.stop_training = False
        run = self._pass(TRAIN, callbacks)
        logs: dict[str, float] = {}
        self._initial_epoch = None  # BackupAndRestore sets it to continue an interrupted run
        callbacks.on_train_begin({})
        for epoch in range(self._initial_epoch or initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch, {})
            done = run.arrays(data, data.order(rng)) if isinstance(data, ArrayData) else run.batches(data, rng)
            if not done and not self.stop_training:
                raise ArgumentError("The source gave no batches in this epoch.")
            logs = self._logs(TRAIN)
            if validation is not None and _validates(epoch + 1, validation_freq):
                found = self._evaluate(validation, callbacks)
                logs.update({f"val_{name}": value for name, value in found.items()})
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        if getattr(self.optimizer, "use_ema", False) and epochs > 0:
            self.optimizer.finalize_variable_values(self.trainable_variables)
        callbacks.on_train_end(logs)
        return self.history

    def _validation(self, given: Any, batch_size: int | None, steps: int | None) -> ArrayData | BatchData | None:
        if given is None:
            return None
        if isinstance(given, (tuple, list)) and not is_batch_source(given):
            if not 1 <= len(given) <= 3:
                raise ArgumentError(
                    "`validation_data` expects (x, y) or (x, y, sample_weight). "
                    f"Received a {type(given).__name__} of {len(given)} items."
                )
            return make_data(*given, batch_size=batch_size, steps=steps)
        return make_data(given, batch_size=batch_size, steps=steps)

    # evaluate and predict --------------------------------------------------------------------------------

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
    ):
        """Return loss and metrics in test mode: a number, a list in the order of `metrics_names`, or a dict."""
        lean = self._training.lean.get(TEST)
        if lean is not None and lean.is_all(x, y, sample_weight, batch_size, verbose, callbacks, steps):
            return lean.step(x, y, None, True, return_dict)
        self._assert_compiled("evaluate")
        x = self._on_host(x)
        data = make_data(x, y, sample_weight, batch_size=batch_size, steps=steps)
        callbacks = self._callbacks(callbacks, verbose, 1, data.num_batches)
        self._check_data(data)
        logs = self._evaluate(data, callbacks)
        return logs if return_dict else _flat(logs)

    def _evaluate(self, data: ArrayData | BatchData, callbacks: CallbackList) -> dict[str, float]:
        run = self._pass(TEST, callbacks, stops=False)
        self.reset_metrics()
        callbacks.on_test_begin({})
        if isinstance(data, ArrayData):
            run.arrays(data, None)
            self._remember(TEST, run.program, Batch(data.x, data.y, data.sample_weight))
        else:
            run.batches(data, np.random.default_rng(0))
        logs = self._logs(TEST)
        callbacks.on_test_end(logs)
        return logs

    def predict(
        self,
        x,
        batch_size=None,
        verbose="auto",
        steps=None,
        callbacks=None,
        max_queue_size=10,
        workers=1,
        use_multiprocessing=False,
    ):
        """Return the outputs for all rows, as arrays in the nesting of the model's outputs."""
        silent = 0 if verbose == "auto" else verbose
        lean = self._training.lean.get(PREDICT)
        if lean is not None and lean.is_all(x, None, None, batch_size, silent, callbacks, steps):
            self.stop_training = False
            return lean.predict(x)
        data = make_data(self._on_host(x), batch_size=batch_size, steps=steps)
        if isinstance(data, BatchData):
            data.source = _InputsOnly(data.source)
        callbacks = self._callbacks(callbacks, silent, 1, data.num_batches)
        self.stop_training = False
        run = self._pass(PREDICT, callbacks)
        callbacks.on_predict_begin({})
        found = self._predict_arrays(data, run) if isinstance(data, ArrayData) else self._predict_batches(data, run)
        callbacks.on_predict_end({})
        return found

    def _predict_arrays(self, data: ArrayData, run: Run) -> Any:
        program = self._program(PREDICT, Batch(data.x))
        self._remember(PREDICT, program, Batch(data.x))
        arrays = program.output_arrays(Batch(data.x).inputs())
        if arrays is None:  # an output without a batch axis: one value per batch, stacked
            steps = (data.batch(i, None) for i in range(data.num_batches))
            return self._predict_batches(BatchData(list(steps)), run)
        run.arrays(data, None, outputs=arrays)
        return program.traced.pack(arrays)

    def _predict_batches(self, data: BatchData, run: Run) -> Any:
        parts: list[dict[str, np.ndarray]] = []
        programs: list[StepProgram] = []

        def collect(program, outputs):
            programs.append(program)
            parts.append(outputs)

        run.batches(data, np.random.default_rng(0), collect)
        if not parts:
            raise ArgumentError("Expected data with at least one batch; the source gave none.")
        joined = {n: _joined([p[n] for p in parts]) for n in parts[0]}
        return programs[0].traced.pack(joined)

    # one batch -------------------------------------------------------------------------------------------

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, reset_metrics=True, return_dict=False):
        """Make one update; returns the loss, or loss and metrics, of this batch.

        reset_metrics=False keeps accumulating over calls.
        """
        lean = self._training.lean.get(TRAIN)
        if lean is None or class_weight is not None or not lean.takes(x, y, sample_weight):
            self._assert_compiled("train_on_batch")
            lean, x, y, sample_weight = self._lean(TRAIN, x, y, sample_weight, class_weight)
        return lean.step(x, y, sample_weight, reset_metrics, return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, reset_metrics=True, return_dict=False):
        """Return the loss, or loss and metrics, of one batch in test mode."""
        lean = self._training.lean.get(TEST)
        if lean is None or not lean.takes(x, y, sample_weight):
            self._assert_compiled("test_on_batch")
            lean, x, y, sample_weight = self._lean(TEST, x, y, sample_weight)
        return lean.step(x, y, sample_weight, reset_metrics, return_dict)

    def predict_on_batch(self, x):
        """Return the outputs for one batch."""
        lean = self._training.lean.get(PREDICT)
        if lean is None or not lean.takes(x, None, None):
            lean, x, _, _ = self._lean(PREDICT, x)
        return lean.predict(x)

    # looking ---------------------------------------------------------------------------------------------

    def profile(self, x, y=None, batch_size=32):
        """Time each kernel of one step on the first `batch_size` rows; returns a Profile, `print` it.

        With `y` it is the training step (the test step if there is no optimizer), without it prediction.
        Weights, optimizer and metrics stay as they are. `profile(...).html()` is a page with the timeline.
        """
        from kcompile.keras.training.profiling import profile  # loads LLVM

        return profile(self, x, y, batch_size)

    def memory_plan(self, x=None, y=None):
        """What a step keeps in memory, by batch size, before it runs; returns a MemoryPlan, `print` it.

        `x`, `y`: a few rows, as for `fit`; without `y` the step is prediction. `memory_plan(...).picture(32)` draws
        the arena over time, `.largest_batch(limit_bytes)` says what fits.
        """
        from kcompile.keras.training.memory import memory_plan  # loads LLVM

        return memory_plan(self, x, y)

    def _lean(self, mode: str, x, y=None, sample_weight=None, class_weight=None):
        x, y = convert_all(self._on_host(x), "x"), convert_all(y, "y")
        sample_weight = convert_all(sample_weight, "sample_weight")
        if class_weight is not None:
            weights = class_weights(y, class_weight)
            sample_weight = weights if sample_weight is None else weights * leaves(sample_weight)[0]
        rows = ArrayData(x, y, sample_weight).rows  # checks the lengths
        batch = Batch(x, y, sample_weight)
        program = self._program(mode, batch)
        check_rows(program.rows, rows, rows)
        return self._remember(mode, program, batch), x, y, sample_weight

    def _remember(self, mode: str, program: StepProgram, batch: Batch) -> Lean:
        """Return the step prepared for batches like this one, which is the next call's first guess."""
        compiled = self._training
        known = compiled.lean.get(mode)
        if known is not None and known.program is program and known.takes(batch.x, batch.y, batch.sample_weight):
            return known
        lean = Lean(program, batch, compiled.losses, self.reset_metrics, lambda: self._log_entries(mode))
        if isinstance(batch.x, np.ndarray) and (batch.y is None or isinstance(batch.y, np.ndarray)):
            compiled.lean[mode] = lean
        return lean

    # inside ----------------------------------------------------------------------------------------------

    def _on_host(self, x: Any) -> Any:
        """Run the layers on strings, which come before the compiled program, on arrays or on every batch."""
        if x is None or not self._reads_strings:
            return x
        if is_batch_source(x):
            return HostBatches(x, self._on_host)
        if self._graph is None:  # a Sequential that nobody has called yet
            self(np.asarray(x, object)[:1])
        return self._graph.on_host(x, self.name)

    def _data_on_host(self, data: Any) -> Any:
        if isinstance(data, (tuple, list)) and not is_batch_source(data) and data:
            return type(data)([self._on_host(data[0]), *data[1:]])
        return self._on_host(data)

    @property
    def _reads_strings(self) -> bool:
        if self._graph is not None:
            return bool(self._graph.host_nodes)
        stack = vars(self).get("_stack") or [None]
        return getattr(stack[0], "runs_on_host", False)

    def _program(self, mode: str, batch: Batch) -> StepProgram:
        compiled = self._training
        if mode != PREDICT and batch.y is None and compiled.losses is not None:
            raise ArgumentError(f"model {self.name!r} was compiled with a loss, but no targets `y` were given.")
        program = compiled.programs.get(mode, batch, self._compile_graph if compiled.jit else None)
        if program.limits:
            check_indices(program.limits, batch.inputs())
        return program

    def _compile_graph(self, graph):
        from kcompile import pipeline  # loads LLVM, which an interpreted model never needs

        return pipeline.compile(graph, num_threads=self._training.num_threads, precision=self._training.precision)

    def _checked_program(self, mode: str, batch: Batch) -> StepProgram:
        program = self._program(mode, batch)
        check_labels(self._training.losses, batch.y)
        return program

    def _pass(self, mode: str, callbacks: CallbackList, stops: bool = True) -> Run:
        program_for: Callable = self._program if mode == PREDICT else self._checked_program
        return Run(
            mode,
            lambda batch: program_for(mode, batch),
            callbacks,
            lambda: self._logs(mode),
            (lambda: self.stop_training) if stops else (lambda: False),
            self._training.steps_per_execution,
        )

    def _callbacks(self, callbacks, verbose, epochs, steps, add_history=False) -> CallbackList:
        verbose = 1 if verbose in ("auto", True) else int(verbose)
        if isinstance(callbacks, CallbackList):
            return callbacks
        return CallbackList(
            callbacks,
            add_history=add_history,
            add_progbar=verbose != 0,
            model=self,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
        )

    def _check_data(self, data: ArrayData | BatchData) -> None:
        """Report wrong data before callbacks run and anything is printed."""
        if isinstance(data, ArrayData) and self._training.losses is not None and data.y is None:
            raise ArgumentError(f"model {self.name!r} was compiled with a loss, but no targets `y` were given.")

    def _assert_compiled(self, method: str) -> None:
        if not self._training.compiled:
            raise KcompileError(f"You must call `compile()` before calling `{method}()`.")
        if self._training.optimizer is None and method in ("fit", "train_on_batch"):
            raise KcompileError(f"`{method}()` needs an optimizer: the model was compiled with optimizer=None.")


class _InputsOnly:
    """A source of batches with only the inputs kept: targets play no part in `predict`."""

    def __init__(self, source: Any):
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self):
        batches = (self.source[i] for i in range(len(self.source))) if _is_indexed(self.source) else self.source
        return (b[:1] if isinstance(b, tuple) else b for b in batches)


def _is_indexed(source: Any) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


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


def _check_count(name: str, value: Any, least: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}")


def _values(entries: list[tuple[str, Metric]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, metric in entries:
        value = metric.result() if is_tracing() else metric.log_value()
        values.update(value if isinstance(value, dict) else {name: value})
    return values


def _validates(epoch: int, frequency: Any) -> bool:
    """Whether the epoch (from 1) ends with a validation."""
    if isinstance(frequency, int):
        return epoch % frequency == 0
    if isinstance(frequency, (list, tuple, set, frozenset)):
        return epoch in frequency
    raise ArgumentError(f"Expected `validation_freq` to be a list or int. Received: {frequency!r}")


def _flat(logs: dict[str, Any]) -> Any:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=0) if parts[0].ndim else np.stack(parts)
