"""What a user does: save, load, go on; overwrite or not; custom objects; formats; interrupted saves."""

import errno
import functools
import os
import signal

import h5py
import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, KcompileError, NotSupportedError, SavedFileError, UnknownNameError
from tests.keras.saving import models
from tests.keras.saving.models import data, interpret, mlp

FILES = ["m.keras", "m.h5", "folder"]


def save(model, path):
    if path.name == "folder":
        with pytest.warns(UserWarning, match="no TensorFlow SavedModel"):
            model.save(path, save_format="tf")
    else:
        model.save(path)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("which", ["cnn", "two_by_two", "embedding"])
def test_training_goes_on_exactly(file, which, tmp_path):
    """Two epochs, save, load, two epochs: bit for bit as four; dropout's random numbers included."""
    model, x, y = getattr(models, which)(keras)
    interpret(model).fit(x, y, epochs=2, verbose=0, shuffle=False)
    save(model, tmp_path / file)
    again = interpret(keras.models.load_model(tmp_path / file))
    before = [v.numpy() for v in model.optimizer.variables]
    for one, other in zip(before, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    if file == "m.h5" and which == "cnn":  # the older layout has no place for seeds
        for generator, other in zip(model._seed_generators(), again._seed_generators()):
            other.state.assign(generator.state.numpy())
    for one in (model, again):
        one.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.evaluate(x, y, verbose=0) == again.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("precision", ["default", "highest"])
def test_precision_is_kept(precision, tmp_path):
    model, _, _ = mlp(keras)
    model.compile("sgd", "mse", precision=precision)
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras")._training.precision == precision
    assert ("precision" in model.get_compile_config()) == (precision != "default")  # Keras does not know it


@pytest.mark.parametrize("file", FILES)
def test_without_optimizer(file, tmp_path):
    model, x, y = mlp(keras)
    interpret(model).fit(x, y, verbose=0)
    if file == "folder":
        with pytest.warns(UserWarning):
            model.save(tmp_path / file, include_optimizer=False)
    else:
        model.save(tmp_path / file, include_optimizer=False)
    again = interpret(keras.models.load_model(tmp_path / file))
    assert again.optimizer is None and not again.compiled
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    model.save(tmp_path / "c.keras")
    assert not keras.models.load_model(tmp_path / "c.keras", compile=False).compiled
    assert not keras.models.load_model(tmp_path / "c.keras")._training.jit  # jit=False is remembered


@pytest.mark.parametrize("file", FILES)
def test_interrupted_save_keeps_the_old_file(file, tmp_path, monkeypatch):
    model, x, _ = mlp(keras)
    interpret(model)
    save(model, tmp_path / file)
    expected = model.predict(x, verbose=0)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    other, _, _ = mlp(keras)
    monkeypatch.setattr(h5py.Group, "create_dataset", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(other, tmp_path / file) if file != "folder" else other.save(tmp_path / file)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [file]
    found = interpret(keras.models.load_model(tmp_path / file))
    np.testing.assert_array_equal(found.predict(x, verbose=0), expected)
    save(other, tmp_path / file)
    found = interpret(keras.models.load_model(tmp_path / file))
    np.testing.assert_array_equal(found.get_weights()[0], other.get_weights()[0])
    assert os.listdir(tmp_path) == [file]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_overwrite(tmp_path, monkeypatch, answer):
    path = tmp_path / "m.keras"
    model, _, _ = mlp(keras)
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(ArgumentError, match="already exists"):
        model.save(path, overwrite=False)
    with pytest.raises(ArgumentError, match="already exists"):
        model.save_weights(path.rename(tmp_path / "w.weights.h5"), overwrite=False)
    (tmp_path / "w.weights.h5").rename(path)
    assert path.read_bytes() == before
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    model.compile("sgd", "mae")
    model.save(path, overwrite=False)
    assert (path.read_bytes() == before) == (answer == "n")


def test_rights_and_links_stay(tmp_path):
    model, _, _ = mlp(keras)
    model.save(tmp_path / "real.keras")
    os.chmod(tmp_path / "real.keras", 0o640)
    os.symlink(tmp_path / "real.keras", tmp_path / "link.keras")
    model.save(tmp_path / "link.keras")
    assert (tmp_path / "link.keras").is_symlink()
    assert (tmp_path / "real.keras").stat().st_mode & 0o777 == 0o640


def test_formats_and_names(tmp_path):
    model, _, _ = mlp(keras)
    with pytest.raises(ArgumentError, match="contradicts"):
        model.save(tmp_path / "m.keras", save_format="h5")
    with pytest.raises(ArgumentError, match="Unknown save_format"):
        model.save(tmp_path / "m", save_format="onnx")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "no" / "m.keras")
    model.save(tmp_path / "plain", save_format="h5")
    assert keras.models.load_model(tmp_path / "plain").name == model.name
    with pytest.raises(ArgumentError, match=r"model\.save"):
        model.save_weights(tmp_path / "w.keras")
    (tmp_path / "tf").mkdir()
    (tmp_path / "tf" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(NotSupportedError, match="SavedModel"):
        keras.models.load_model(tmp_path / "tf")
    model.save_weights(tmp_path / "w.h5")
    with pytest.raises(SavedFileError, match="weights only"):
        keras.models.load_model(tmp_path / "w.h5")


def test_unbuilt_models(tmp_path):
    model = keras.Sequential([keras.layers.Dense(3)])
    for call in (model.save_weights, model.load_weights, model.save):
        with pytest.raises(KcompileError, match="not yet been built"):
            call(tmp_path / "w.weights.h5")


@pytest.mark.parametrize("name", ["w.weights.h5", "my_model_weights.h5", "checkpoint"])
def test_weights_round_trip(name, tmp_path):
    model, x, y = models.cnn(keras)
    interpret(model).fit(x, y, verbose=0)
    model.save_weights(tmp_path / name)
    other, _, _ = models.cnn(keras)
    other.load_weights(tmp_path / name)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    model.save(tmp_path / "whole.keras")
    third, _, _ = models.cnn(keras)
    third.load_weights(tmp_path / "whole.keras")
    np.testing.assert_array_equal(third.get_weights()[0], model.get_weights()[0])


def test_skip_mismatch(tmp_path):
    model, _, _ = mlp(keras)
    model.save_weights(tmp_path / "w.weights.h5")
    layers = keras.layers
    other = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"expected shape \(5, 3\), received \(5, 2\)"):
        other.load_weights(tmp_path / "w.weights.h5")
    with pytest.warns(UserWarning, match="left out"):
        other.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


# custom objects -------------------------------------------------------------------------------------------


class Scale(keras.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor
        self.inner = [keras.layers.Dense(3), {"deep": keras.layers.Dense(3)}]

    def build(self, input_shape):
        self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return self.inner[1]["deep"](self.inner[0](x * self.gain * self.factor))


def half_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1) / 2


CUSTOM = {"Scale": Scale, "half_error": half_error}


def custom_model():
    model = keras.Sequential([keras.Input((4,)), Scale(3.0)])
    model.compile("sgd", half_error, metrics=[half_error], jit=False)
    x, y = data((8, 4), (8, 3))
    model.fit(x, y, verbose=0)
    return model, x, y


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_custom_objects(file, tmp_path):
    model, x, y = custom_model()
    model.save(tmp_path / file)
    with pytest.raises(UnknownNameError, match=r"Scale.*custom_objects"):
        keras.models.load_model(tmp_path / file)
    found = [keras.models.load_model(tmp_path / file, custom_objects=CUSTOM)]
    with keras.saving.CustomObjectScope(CUSTOM):
        found.append(keras.models.load_model(tmp_path / file))
    try:
        keras.saving.get_custom_objects().update(CUSTOM)
        found.append(keras.models.load_model(tmp_path / file))
    finally:
        for name in CUSTOM:
            keras.saving.get_custom_objects().pop(name)
    for one in found:
        assert one.layers[0].factor == 3.0
        np.testing.assert_array_equal(interpret(one).predict(x, verbose=0), model.predict(x, verbose=0))
        np.testing.assert_allclose(one.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0))


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_registered_objects(file, tmp_path):
    try:
        cls = keras.saving.register_keras_serializable("shop", "Doubling")(type("Doubling", (Scale,), {}))
        model = keras.Sequential([keras.Input((4,)), cls(2.0)])
        model.save(tmp_path / file)
        assert type(keras.models.load_model(tmp_path / file).layers[0]) is cls
    finally:
        keras.saving.get_custom_objects().pop("shop>Doubling")


class Net(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.zeta = keras.layers.Dense(units)
        self.blocks = [keras.layers.Dense(units, activation="tanh") for _ in range(2)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.zeta(x)


def test_subclassed_model(tmp_path):
    model = Net(5)
    x = data((4, 5))
    expected = np.asarray(model(x))
    model.save(tmp_path / "net.keras")
    found = keras.models.load_model(tmp_path / "net.keras", custom_objects={"Net": Net})
    np.testing.assert_array_equal(np.asarray(found(x)), expected)
    model.save_weights(tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "net.weights.h5") as file:  # as Keras names them: attributes, in their order
        assert {"blocks/dense/vars/0", "blocks/dense_1/vars/1", "layers/dense/vars/0"} <= _datasets(file)


def _datasets(file):
    found = set()
    file.visititems(lambda n, o: found.add(n) if isinstance(o, h5py.Dataset) else None)
    return found


def test_subclassed_weights_as_in_keras(tmp_path):
    """The same class over real Keras reads the same file."""
    from tests.keras.real import real_keras

    real = real_keras()
    theirs = type("Net", (real.Model,), {"call": Net.call})()
    theirs.zeta = real.layers.Dense(5)
    theirs.blocks = [real.layers.Dense(5, activation="tanh") for _ in range(2)]
    ours, x = Net(5), data((4, 5))
    ours(x), theirs(x)
    ours.save_weights(tmp_path / "n.weights.h5")
    theirs.load_weights(tmp_path / "n.weights.h5")
    np.testing.assert_allclose(np.asarray(theirs(x)), np.asarray(ours(x)), rtol=1e-5, atol=1e-6)


def test_loss_that_cannot_be_written(tmp_path):
    model, x, _ = mlp(keras)
    model.compile("sgd", functools.partial(lambda y, p, scale: keras.ops.mean(scale * (y - p), axis=-1), scale=2.0))
    with pytest.warns(UserWarning, match="left out"):
        model.save(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras").compiled


def test_a_lambda_as_loss_is_known_to_its_process(tmp_path, monkeypatch):
    """Another process gets the model without it, if it asks for that."""
    model, x, y = mlp(keras)
    model.compile("sgd", lambda y, p: keras.ops.mean(y - p, axis=-1))
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)
    monkeypatch.setattr("kcompile.keras.lambdas._known", {})
    with pytest.raises(SavedFileError, match=r"lambda.*compile=False"):
        keras.models.load_model(tmp_path / "m.keras")
    assert not keras.models.load_model(tmp_path / "m.keras", compile=False).compiled


def test_checkpoints(tmp_path):
    """ModelCheckpoint writes files that load; EarlyStopping restores the best weights."""
    model, x, y = mlp(keras)
    interpret(model)
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "e{epoch:02d}.keras", monitor="loss"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", "loss", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
    ]
    model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
    assert sorted(os.listdir(tmp_path)) == ["best.weights.h5", "e01.keras", "e02.keras", "e03.keras"]
    last = interpret(keras.models.load_model(tmp_path / "e03.keras"))
    np.testing.assert_array_equal(last.predict(x, verbose=0), model.predict(x, verbose=0))
    other, _, _ = mlp(keras)
    other.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_h5py_is_loaded_only_with_a_file():
    import subprocess
    import sys

    code = "import sys; from kcompile.keras import saving, models; assert 'h5py' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on the size of files")
@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.weights.h5"])
def test_a_full_disk_names_the_file(file, tmp_path):
    """A limit on the size of files stands for the disk; nothing half written stays."""
    resource = pytest.importorskip("resource")
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(400)])
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=file) as found:
            (model.save_weights if "weights" in file else model.save)(tmp_path / file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert found.value.errno == errno.EFBIG and os.listdir(tmp_path) == []
