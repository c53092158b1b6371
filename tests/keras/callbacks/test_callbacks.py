"""Callbacks: W-9, W-12, and what each one does to a training run."""

import csv
import http.server
import json
import math
import struct
import threading
import urllib.parse

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import callbacks as cb
from kcompile.keras.callbacks import CallbackList, event_file


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
    assert not CallbackList(add_progbar=True, verbose=2, steps=5).wants_some_batches("train")


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
    added = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(extra=1.0))
    seen = cb.LambdaCallback(on_train_end=lambda logs: ends.update(logs))
    ends: dict = {}
    model.fit(*data(4), validation_data=data(4), callbacks=[added, cb.CSVLogger(path), seen], verbose=0)
    assert path.read_text().split()[0] == "epoch,extra,loss,mae,val_loss,val_mae"
    assert "loss" in ends and "extra" not in ends  # what callbacks add in an epoch is for each other


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


def test_terminate_on_nan_may_raise():
    model = small_model()
    x, y = data(4)
    y[0] = math.nan
    with pytest.raises(RuntimeError, match="batch 0"):
        model.fit(x, y, callbacks=[cb.TerminateOnNaN(raise_error=True)], verbose=0)


def test_base_logger_sees_the_epoch_means_without_a_call_per_batch():
    logger = cb.BaseLogger(stateful_metrics=["mae"])
    assert not CallbackList([logger]).wants_every_batch("train")
    history = small_model().fit(*data(10), batch_size=4, epochs=2, callbacks=[logger], verbose=0)
    assert logger.totals == {k: v[-1] for k, v in history.history.items()}


@pytest.mark.parametrize("as_json", [False, True])
def test_remote_monitor_posts_every_epoch(as_json):
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((self.path, self.headers["X-Mine"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        monitor = cb.RemoteMonitor(root, path="/here/", headers={"X-Mine": "yes"}, send_as_json=as_json)
        history = small_model().fit(*data(4), epochs=2, callbacks=[monitor], verbose=0)
        server.shutdown()
        thread.join()
    assert [(path, header) for path, header, _ in received] == [("/here/", "yes")] * 2
    bodies = [body if as_json else urllib.parse.parse_qs(body)["data"][0] for _, _, body in received]
    expected = [{"epoch": e, **{k: v[e] for k, v in history.history.items()}} for e in range(2)]
    assert [json.loads(b) for b in bodies] == expected
    with pytest.warns(UserWarning, match="Could not reach"):
        monitor.on_epoch_end(0, {"loss": 1.0})  # the server is gone


def test_swap_ema_weights_shows_the_averages():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(optimizer, "mse", jit=False)
    x, y = data(8)
    seen = []

    class Look(cb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([v.numpy() for v in (self.model.weights[1], optimizer._averages[1])])

        def on_test_end(self, logs=None):
            seen.append([v.numpy() for v in (self.model.weights[1], optimizer._averages[1])])

    options = {"batch_size": 2, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, callbacks=[Look(), cb.SwapEMAWeights()], **options)
    (inside, outside), (after, average) = seen
    assert (inside, outside) == (average, after) and inside != after
    assert model.weights[1].numpy() == average  # `fit` ends with the averages
    predicted = model.predict(x, callbacks=[cb.SwapEMAWeights()], verbose=0)
    np.testing.assert_allclose(predicted[0], average)
    with pytest.raises(ArgumentError, match="use_ema"):
        small_model().fit(x, y, callbacks=[cb.SwapEMAWeights()], **options)


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_backup_and_restore_continues_where_it_stopped(tmp_path, save_freq):
    x, y = np.random.default_rng(0).normal(size=(8, 3)).astype("float32"), np.ones((8, 1), "float32")
    folder = tmp_path / "backup"
    options = {"batch_size": 4, "epochs": 4, "shuffle": False, "verbose": 0}

    def adam_model():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(keras.optimizers.Adam(0.1), "mse", jit=False)
        return model

    class PowerCut(cb.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    backup = {"save_freq": save_freq, "double_checkpoint": True}
    with pytest.raises(KeyboardInterrupt):
        adam_model().fit(x, y, callbacks=[PowerCut(), cb.BackupAndRestore(folder, **backup)], **options)
    assert (folder / "latest.weights.h5").exists() and (folder / "latest.weights.h5.bkp").exists()
    if save_freq == 2:  # the last save lies before the end of its epoch: that epoch runs again
        assert json.loads((folder / "training_metadata.json").read_text()) == {"epoch": 1, "batch": 1}
    else:
        (folder / "latest.weights.h5.bkp").write_bytes((folder / "latest.weights.h5").read_bytes())
        (folder / "training_metadata.json.bkp").write_bytes((folder / "training_metadata.json").read_bytes())
        (folder / "latest.weights.h5").write_bytes(b"cut short")
    model = adam_model()
    history = model.fit(x, y, callbacks=[cb.BackupAndRestore(folder, **backup)], **options)
    assert not folder.exists()  # it ran to its end
    if save_freq == "epoch":
        assert history.epoch == [2, 3]
        whole = adam_model()
        whole.fit(x, y, **options)
        for a, b in zip(model.get_weights(), whole.get_weights()):
            np.testing.assert_array_equal(a, b)
    else:
        assert history.epoch == [1, 2, 3]
    with pytest.raises(ArgumentError, match="backup_dir"):
        cb.BackupAndRestore("")


def read_events(folder):
    """Read event files with the standard library: [(step, tag, value), ...]; checks every checksum."""

    def fields(data):
        at = 0

        def varint():
            nonlocal at
            found, shift = 0, 0
            while True:
                byte, at = data[at], at + 1
                found |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return found

        while at < len(data):
            key = varint()
            if key & 7 == 0:
                yield key >> 3, varint()
                continue
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            at += size
            yield key >> 3, data[at - size : at]

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = dict(fields(data[12 : 12 + length]))
            assert data[: 16 + length] == event_file.record(data[12 : 12 + length])
            data = data[16 + length :]
            if 5 in event:
                value = dict(fields(dict(fields(event[5]))[1]))
                number = struct.unpack("<f", value[2])[0] if 2 in value else dict(fields(value[5]))
                found.append((event.get(2, 0), value[1].decode(), number))
            else:
                assert event[3] == b"brain.Event:2"
    return found


def test_tensorboard_writes_event_files(tmp_path):
    board = cb.TensorBoard(tmp_path, update_freq=2, histogram_freq=1, write_steps_per_second=True)
    model = small_model()
    history = model.fit(*data(6), batch_size=2, epochs=2, validation_data=data(4), callbacks=[board], verbose=0)
    train, validation = read_events(tmp_path / "train"), read_events(tmp_path / "validation")
    tags = {tag for _, tag, _ in train}
    assert {"epoch_loss", "epoch_mae", "epoch_learning_rate", "epoch_steps_per_second", "batch_loss"} < tags
    for kind, events in (("", train), ("val_", validation)):
        written = [(s, v) for s, tag, v in events if tag == "epoch_loss"]
        assert [s for s, _ in written] == [0, 1]
        np.testing.assert_allclose([v for _, v in written], history.history[f"{kind}loss"], rtol=1e-6)
    assert [s for s, tag, _ in train if tag == "batch_loss"] == [0, 2, 4]
    assert [s for s, tag, _ in validation if tag == "evaluation_mae_vs_iterations"] == [3, 6]
    shapes = [h for _, tag, h in train if tag.endswith("kernel/histogram")]
    assert len(shapes) == 2 and struct.unpack("<d", shapes[0][3])[0] == 3.0  # three numbers
    plain = CallbackList([cb.TensorBoard(tmp_path)])
    assert not plain.wants_every_batch("train")


def test_event_file_checksum_and_options():
    assert event_file.crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value of the polynomial
    with pytest.raises(NotSupportedError, match="embeddings_freq"):
        cb.TensorBoard(embeddings_freq=1)
    with pytest.raises(ArgumentError, match="update_freq"):
        cb.TensorBoard(update_freq=0)


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
    x, y = data(8)
    model.fit(((x[i : i + 1], y[i : i + 1]) for i in range(8)), verbose=2)  # of unknown length
    assert capsys.readouterr().out.startswith("8/8 - 0s - loss: ")
    model.fit(*data(8), verbose=0)
    assert capsys.readouterr().out == ""


def test_wrong_callback():
    with pytest.raises(ArgumentError, match="Callback"):
        small_model().fit(*data(2), callbacks=[print], verbose=0)
    with pytest.raises(ArgumentError, match="received the class EarlyStopping: call it"):
        small_model().fit(*data(2), callbacks=[cb.EarlyStopping], verbose=0)
