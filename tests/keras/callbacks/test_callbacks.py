"""Callbacks: W-9, W-12, and what each one does to a training run."""

import csv
import math

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import callbacks as cb
from kcompile.keras.callbacks import CallbackList


def small_model(**options):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"], jit=False, **options)
    return model


def data(rows):
    return np.zeros((rows, 3), "float32"), np.ones((rows, 1), "float32")


class Recorder(cb.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []


for _name in [n for n in vars(cb.Callback) if n.startswith("on_") and n not in ("on_batch_begin", "on_batch_end")]:
    setattr(Recorder, _name, lambda self, *args, _name=_name, **kwargs: self.calls.append(_name[3:]))


def test_w12_hook_order():
    model, recorder = small_model(), Recorder()
    x, y = data(16)
    options = {"validation_data": data(4), "validation_batch_size": 2, "callbacks": [recorder], "verbose": 0}
    model.fit(x, y, batch_size=2, epochs=3, **options)
    model.evaluate(*data(10), batch_size=2, callbacks=[recorder], verbose=0)
    batch = ["train_batch_begin", "train_batch_end"]
    test = ["test_batch_begin", "test_batch_end"]
    epoch = ["epoch_begin", *batch * 8, "test_begin", *test * 2, "test_end", "epoch_end"]
    expected = ["train_begin", *epoch * 3, "train_end", "test_begin", *test * 5, "test_end"]
    assert recorder.calls == expected
    recorder.calls.clear()
    model.predict(x, batch_size=8, callbacks=[recorder])
    assert recorder.calls == ["predict_begin", *["predict_batch_begin", "predict_batch_end"] * 2, "predict_end"]


def test_w9_lambda_callback(capsys):
    seen = []
    callback = cb.LambdaCallback(
        on_batch_end=lambda batch, logs: seen.append((batch, sorted(logs))),
        on_epoch_end=lambda epoch, logs: print(epoch, logs),
    )
    small_model().fit(*data(6), batch_size=3, validation_data=data(3), callbacks=[callback], verbose=0)
    assert seen == [(0, ["loss", "mae"]), (1, ["loss", "mae"])]
    out = capsys.readouterr().out
    assert out.startswith("0 {'loss': ") and "'val_mae': " in out


def test_batches_run_natively_unless_a_callback_watches_them():
    watching = CallbackList([cb.LambdaCallback(on_batch_end=lambda batch, logs: None)])
    usual = [cb.EarlyStopping(), cb.ModelCheckpoint("x.keras")]
    plain = CallbackList(usual, add_history=True, add_progbar=True, verbose=1)
    assert watching.wants_every_batch("train") and not watching.wants_every_batch("test")
    assert not plain.wants_every_batch("train") and plain.wants_some_batches("train")
    assert CallbackList([cb.ModelCheckpoint("x.keras", save_freq=5)]).wants_every_batch("train")
    assert not CallbackList(add_progbar=True, verbose=2).wants_some_batches("train")


def test_batch_logs_are_running_means():
    values = []
    callback = cb.LambdaCallback(on_train_batch_end=lambda batch, logs: values.append(logs["loss"]))
    history = small_model().fit(*data(10), batch_size=4, callbacks=[callback], verbose=0)
    assert len(values) == 3
    assert values[-1] == history.history["loss"][0]
    assert values[0] > values[1] > values[2]


def test_history():
    model = small_model()
    history = model.fit(*data(4), epochs=3, initial_epoch=1, verbose=0)
    assert history.epoch == [1, 2]
    assert set(history.history) == {"loss", "mae"}
    assert model.history is history


class Values(cb.Callback):
    """Puts given values into the epoch's logs, before the callback under test."""

    def __init__(self, **series):
        super().__init__()
        self.series = series

    def on_epoch_end(self, epoch, logs=None):
        for name, values in self.series.items():
            logs[name] = values[epoch]


def epochs_run(callback, epochs=8, **series):
    model = small_model()
    history = model.fit(*data(2), epochs=epochs, callbacks=[Values(**series), callback], verbose=0)
    return len(history.epoch), model


def test_early_stopping():
    assert epochs_run(cb.EarlyStopping("v", patience=2), v=[5, 4, 4, 4, 3, 3, 3, 3])[0] == 4
    assert epochs_run(cb.EarlyStopping("v", min_delta=0.5, patience=1), v=[5, 4.8, 4, 4, 3, 3, 3, 3])[0] == 2
    assert epochs_run(cb.EarlyStopping("acc", patience=1), acc=[1, 2, 3, 3, 4, 5, 6, 7])[0] == 4
    assert epochs_run(cb.EarlyStopping("v", mode="max", patience=1), v=[1, 2, 3, 3, 4, 5, 6, 7])[0] == 4
    assert epochs_run(cb.EarlyStopping("v", baseline=1.0, patience=3), v=[9, 9, 9, 9, 9, 9, 9, 9])[0] == 3
    assert epochs_run(cb.EarlyStopping("v", patience=0, start_from_epoch=3), v=[1, 1, 1, 1, 1, 1, 1, 1])[0] == 5
    with pytest.warns(UserWarning, match="not available"):
        assert epochs_run(cb.EarlyStopping("nothing"), epochs=2)[0] == 2


def test_early_stopping_restores_the_best_weights():
    class Weights(cb.Callback):
        seen = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append(self.model.get_weights()[1].copy())

    stop = cb.EarlyStopping("v", patience=2, restore_best_weights=True)
    weights = Weights()
    model = small_model()
    model.fit(*data(2), epochs=6, callbacks=[Values(v=[3, 2, 9, 9, 9, 9]), weights, stop], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[1], weights.seen[1])
    assert stop.best_epoch == 1


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    model = small_model()
    model.fit(*data(4), epochs=2, callbacks=[cb.CSVLogger(path)], verbose=0)
    model.fit(*data(4), epochs=1, callbacks=[cb.CSVLogger(path, append=True)], verbose=0)
    rows = list(csv.DictReader(path.open()))
    assert [r["epoch"] for r in rows] == ["0", "1", "0"]
    assert float(rows[0]["loss"]) > float(rows[1]["loss"]) > 0


def test_learning_rate_scheduler():
    model = small_model()
    schedule = cb.LearningRateScheduler(lambda epoch, lr: lr * 0.5)
    history = model.fit(*data(2), epochs=3, callbacks=[schedule], verbose=0)
    np.testing.assert_allclose(history.history["learning_rate"], [0.05, 0.025, 0.0125], rtol=1e-6)
    constant = cb.LearningRateScheduler(lambda epoch: 0.3)
    model.fit(*data(2), callbacks=[constant], verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.3)


def test_reduce_lr_on_plateau():
    callback = cb.ReduceLROnPlateau("v", factor=0.1, patience=2, min_lr=0.002)
    _, model = epochs_run(callback, v=[1, 1, 1, 1, 1, 1, 1, 1])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    with pytest.raises(ArgumentError, match="factor"):
        cb.ReduceLROnPlateau(factor=1.0)


def test_terminate_on_nan():
    model = small_model()
    x, y = data(8)
    y[4] = math.nan
    history = model.fit(x, y, batch_size=2, epochs=5, shuffle=False, callbacks=[cb.TerminateOnNaN()], verbose=0)
    assert len(history.epoch) == 1


def test_stop_training_inside_an_epoch():
    class Stop(cb.Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            self.model.stop_training = batch == 2

    stop = Stop()
    small_model().fit(*data(10), batch_size=1, epochs=4, callbacks=[stop], verbose=0)
    assert stop.batches == 3


def test_model_checkpoint_paths(tmp_path):
    class Saved:
        paths = []

        def save(self, path, overwrite=True):
            self.paths.append(path)

        save_weights = save

    def run(callback, logs):
        callback.set_model(Saved())
        Saved.paths.clear()
        for epoch, values in enumerate(logs):
            callback.on_epoch_end(epoch, values)
        return [p.replace(str(tmp_path), "") for p in Saved.paths]

    logs = [{"val_loss": v} for v in (3.0, 2.0, 2.5)]
    every = cb.ModelCheckpoint(tmp_path / "m-{epoch:02d}-{val_loss:.2f}.keras")
    assert run(every, logs) == ["/m-01-3.00.keras", "/m-02-2.00.keras", "/m-03-2.50.keras"]
    best = cb.ModelCheckpoint(tmp_path / "{epoch}.h5", save_best_only=True, save_weights_only=True)
    assert run(best, logs) == ["/1.h5", "/2.h5"]
    with pytest.raises(ArgumentError, match="val_acc"):
        run(cb.ModelCheckpoint(tmp_path / "{val_acc}.keras"), logs)


def test_progress_output_of_fit(capsys):
    model = small_model()
    model.fit(*data(8), batch_size=1, epochs=2, verbose=1)
    out = capsys.readouterr().out
    assert "Epoch 1/2\n" in out and "Epoch 2/2\n" in out
    assert "1/8 [==>...........................] - ETA: " in out
    assert "8/8 [==============================] - " in out and "/step - loss: " in out
    model.fit(*data(8), batch_size=1, verbose=2)
    assert capsys.readouterr().out.startswith("8/8 - 0s - loss: ")
    model.fit(*data(8), verbose=0)
    assert capsys.readouterr().out == ""


def test_wrong_callback():
    with pytest.raises(ArgumentError, match="Callback"):
        small_model().fit(*data(2), callbacks=[print], verbose=0)
