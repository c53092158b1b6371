"""Trainer: fit, evaluate, predict and their one-batch forms, mixed into Model.

Arguments are those of Keras 2 and 3 together. The work is done elsewhere: data/ makes sources, programs.py
finds the compiled step, loop.py runs it. Values for logs are read from the metrics' Variables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras import config
from kcompile.keras.callbacks import CallbackList, History
from kcompile.keras.layers.indices import check_indices
from kcompile.keras.layers.preprocessing.calls import HostCalls, find, inputs_like
from kcompile.keras.random.seeds import draw_seed_number
from kcompile.keras.tracing import tree
from kcompile.keras.training.checks import check_count, check_labels, check_rows
from kcompile.keras.training.compiling import Compiling
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
from kcompile.keras.training.data.arrays import class_weights, map_arrays
from kcompile.keras.training.lean import Lean
from kcompile.keras.training.loop import Run
from kcompile.keras.training.programs import PREDICT, TEST, TRAIN, Batch, StepProgram


class Trainer(Compiling):
    """The training half of a Model."""

    stop_training = False
    history: History | None = None
    host_calls: HostCalls | None = None  # of layers on strings inside `call`, which ran before the programs

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
            shuffle: rows in every epoch; "batch" whole batches; not if `steps_per_epoch` is given.
            class_weight: weights per class index, in the training loss.
            steps_per_epoch, validation_steps: batches, for endless sources.
            validation_freq: every n epochs, or the epochs (from 1) to validate after.
            max_queue_size, workers, use_multiprocessing: accepted.
        """
        self._assert_compiled("fit")
        x, validation_data = self._on_host(x), self._data_on_host(validation_data)
        check_count("epochs", epochs)
        epochs = epochs if config.max_epochs() is None else min(epochs, config.max_epochs())
        check_count("initial_epoch", initial_epoch)
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
        if isinstance(data, ArrayData):
            self._check_targets(TRAIN, data.y)
        rng = np.random.default_rng(draw_seed_number())
        self.stop_training = False
        run = self._pass(TRAIN, callbacks)
        logs: dict[str, float] = {}
        self._initial_epoch = None  # BackupAndRestore sets it to continue an interrupted run
        callbacks.on_train_begin({})
        first_epoch = self._initial_epoch or initial_epoch
        for epoch in range(first_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch, {})
            done = run.arrays(data, data.order(rng)) if isinstance(data, ArrayData) else run.batches(data, rng)
            if not done and not self.stop_training:
                if epoch == first_epoch:
                    raise ArgumentError("The source gave no batches in this epoch.")
                break  # a generator that has ended: what was trained stays
            logs = self._logs(TRAIN)
            if validation is not None and _validates(epoch + 1, validation_freq):
                found = self._evaluate(validation, callbacks)
                logs.update({f"val_{name}": value for name, value in found.items()})
            callbacks.on_epoch_end(epoch, dict(logs))  # what callbacks add is for each other
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
        if isinstance(data, ArrayData):
            self._check_targets(TEST, data.y)
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

    # programs ---------------------------------------------------------------------------------------------

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
        if lean.is_direct and not self._reads_strings:  # what users give is not what the program reads
            compiled.lean[mode] = lean
        return lean

    # inside ----------------------------------------------------------------------------------------------

    def _on_host(self, x: Any) -> Any:
        """Run the layers on strings, which come before the compiled program, on arrays or on every batch."""
        if x is None or not self._reads_strings:
            return x
        if is_batch_source(x):
            return HostBatches(x, self._on_host)
        if self._graph is None and isinstance(vars(self).get("_stack"), list):  # a Sequential that nobody has called
            self(np.asarray(x, object)[:1])
        if self._graph is not None and self._graph.is_cut:
            return self._graph.on_host(x, self.name)
        x = map_arrays(np.asarray, x)
        calls = self._calls_on_strings(x)
        return calls.prepare(x) if calls.are_needed else x

    def _calls_on_strings(self, x: Any) -> HostCalls:
        """The calls of layers on strings inside `call`, for inputs like these; programs are traced for them next."""
        known = vars(self).setdefault("_known_calls", {})
        key = tuple((path, np.shape(a)[1:], a.dtype) for path, a in tree.flatten_with_path(x))
        if key not in known:
            if not self.built:
                self.build_on(inputs_like(x))
            known[key] = self._find_calls(x)
        vars(self)["host_calls"] = known[key] if known[key].are_needed else None
        return known[key]

    def _find_calls(self, x: Any) -> HostCalls:
        try:
            return find(lambda given: self(given, training=False), x)
        finally:
            self._clear_losses()

    def calls_on_strings(self) -> HostCalls | None:
        """The calls of layers on strings that no cut of a model graph finds; None without, or if inputs are unknown."""
        is_cut = self._graph is not None and self._graph.is_cut
        if self.host_calls is not None or is_cut or not self._reads_strings:
            return self.host_calls
        inputs = self.declared_inputs() if self.built else None
        found = None if inputs is None else self._find_calls(inputs)
        return found if found is not None and found.are_needed else None

    def _data_on_host(self, data: Any) -> Any:
        if isinstance(data, (tuple, list)) and not is_batch_source(data) and data:
            return type(data)([self._on_host(data[0]), *data[1:]])
        return self._on_host(data)

    @property
    def _reads_strings(self) -> bool:
        if self._graph is not None and self._graph.reads_host:
            return True
        return any(getattr(layer, "runs_on_host", False) for layer in self._flatten_layers())

    def _program(self, mode: str, batch: Batch) -> StepProgram:
        compiled = self._training
        self._check_targets(mode, batch.y)
        program = compiled.programs.get(mode, batch, self._compile_graph if compiled.jit else None)
        if program.limits:
            check_indices(program.limits, batch.inputs())
        return program

    def _compile_graph(self, graph):
        from kcompile import ready  # loads LLVM, which an interpreted model never needs

        return ready.compile(graph, num_threads=self._training.num_threads, precision=self._training.precision)

    def _checked_program(self, mode: str, batch: Batch) -> StepProgram:
        program = self._program(mode, batch)
        if self._compares_targets(mode):
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

    def _check_targets(self, mode: str, y: Any) -> None:
        """Report missing targets before callbacks run and anything is printed; a step of one's own may need none."""
        if mode != PREDICT and y is None and self._training.losses is not None and self._compares_targets(mode):
            raise ArgumentError(f"model {self.name!r} was compiled with a loss, but no targets `y` were given.")

    def _compares_targets(self, mode: str) -> bool:
        """True if it is the compiled losses that see the targets, not code of the user's."""
        return self.own_method(f"{mode}_step") is None and self.own_method("compute_loss") is None

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
