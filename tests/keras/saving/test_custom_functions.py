"""Models that hold functions of the user: saved, loaded, exported; and what is said if nobody knows the function."""

import functools
import shutil

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import SavedFileError, UnknownNameError
from kcompile.keras import layers, ops
from kcompile.keras.saving import register_keras_serializable

X = np.random.default_rng(0).standard_normal((4, 3)).astype("f")


@register_keras_serializable("tests")
@ops.custom_gradient
def clipped(x):
    """tanh, with gradients cut at 0.01."""
    return ops.tanh(x), lambda upstream: ops.clip(upstream, -0.01, 0.01)


@ops.custom_gradient
def nameless(x):
    return ops.tanh(x), lambda upstream: upstream


@register_keras_serializable("tests")
def doubled(x):
    return 2.0 * x


class Net(keras.Model):
    """A subclass that calls the function in `call`."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dense = units, layers.Dense(units)

    def call(self, x):
        return nameless(self.dense(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def sequential(*stack):
    return keras.Sequential([keras.Input((3,)), layers.Dense(2), *stack])


def called(function):
    x = keras.Input((3,))
    return keras.Model(x, function(layers.Dense(2)(x)))


MAKE = {
    "activation": lambda f: sequential(layers.Dense(2, activation=f)),
    "Activation": lambda f: sequential(layers.Activation(f)),
    "Lambda": lambda f: sequential(layers.Lambda(f)),
}


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
@pytest.mark.parametrize("make", [*MAKE, "called"])
def test_registered_functions_are_found(make, file, tmp_path):
    functions = (clipped,) if make == "called" else (clipped, doubled)
    for function in functions:
        model = called(function) if make == "called" else MAKE[make](function)
        model.save(tmp_path / file)
        again = keras.models.load_model(tmp_path / file)
        np.testing.assert_array_equal(again(X), model(X))


def test_the_gradient_is_kept(tmp_path):
    model = called(clipped)
    model.save(tmp_path / "m.keras")
    for one in (model, keras.models.load_model(tmp_path / "m.keras")):
        before = one.get_weights()[1]
        one.compile(keras.optimizers.SGD(1.0), "mse")
        one.train_on_batch(X, 100.0 * np.ones((4, 2), "f"))
        np.testing.assert_allclose(one.get_weights()[1] - before, [0.04, 0.04], rtol=1e-4)


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
@pytest.mark.parametrize("make", [*MAKE, "called"])
def test_unknown_functions_are_asked_for(make, file, tmp_path):
    model = called(nameless) if make == "called" else MAKE[make](nameless)
    model.save(tmp_path / file)
    with pytest.raises(UnknownNameError, match=r"'nameless'.*custom_objects.*register_keras_serializable"):
        keras.models.load_model(tmp_path / file)
    again = keras.models.load_model(tmp_path / file, custom_objects={"nameless": nameless})
    np.testing.assert_array_equal(again(X), model(X))


def test_of_a_name_that_is_taken(tmp_path):
    @ops.custom_gradient
    def relu(x):
        return ops.maximum(x, -1.0), lambda upstream: upstream

    model = called(relu)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"relu": relu})
    np.testing.assert_array_equal(again(-10 * X), model(-10 * X))


def test_a_subclass_and_its_clones(tmp_path):
    model = Net()
    model(X)
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnknownNameError, match=r"'Net'.*custom_objects"):
        keras.models.load_model(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Net": Net})
    np.testing.assert_array_equal(again(X), model(X))
    wired = called(clipped)
    clone = keras.models.clone_model(wired)
    clone.set_weights(wired.get_weights())
    np.testing.assert_array_equal(clone(X), wired(X))


def test_a_loss_nobody_knows(tmp_path):
    def mine(y, z):
        return ops.mean(ops.abs(y - z))

    for file in ("m.keras", "m.h5"):
        model = sequential()
        model.compile("sgd", mine)
        model.save(tmp_path / file)
        with pytest.raises(UnknownNameError, match=r"'mine'.*custom_objects"):
            keras.models.load_model(tmp_path / file)
        keras.models.load_model(tmp_path / file, custom_objects={"mine": mine})
        keras.models.load_model(tmp_path / file, compile=False)


def test_keras_finds_registered_functions_in_our_configs(real_keras):
    register = real_keras.saving.register_keras_serializable("tests", "doubled")
    assert real_keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(register(doubled))) is doubled


def test_functions_in_a_file_of_keras(tmp_path, real_keras):
    """It writes a loss that nobody registered as one registered under the name "function"."""

    def mine(y, z):
        return keras.ops.mean(keras.ops.square(y - z))

    model = real_keras.Sequential([real_keras.Input((3,)), real_keras.layers.Dense(1)])
    model.compile("sgd", mine, metrics=[mine, "mae"])
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"mine": mine})
    assert again.evaluate(X, X[:, :1], verbose=0, return_dict=True).keys() == {"loss", "mine", "mae"}


@pytest.mark.skipif(not any(shutil.which(c) for c in ("cc", "gcc", "clang")), reason="no C compiler")
def test_exported(tmp_path):
    from kcompile.export.load import ExportedModel

    model = called(clipped)
    model.export(tmp_path / "libm.so")
    np.testing.assert_array_equal(ExportedModel(tmp_path / "libm.so").predict(X), model.predict(X, verbose=0))


def test_lambdas_are_written_and_known_to_their_process(tmp_path):
    """What builds from a config of this process gets the same functions, whatever they close over."""
    shift, unsaid = 3.0, object()
    model = sequential(
        layers.Lambda(lambda t: t * 2.0 + shift, name="double"),
        layers.Dense(
            2, activation=lambda t: t if unsaid else None, kernel_initializer=lambda shape, dtype=None: ops.ones(shape)
        ),
    )
    expected = model.predict(X, verbose=0)
    copies = [keras.models.clone_model(model), keras.Sequential.from_config(model.get_config())]
    copies.append(keras.models.model_from_json(model.to_json()))
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
        copies.append(keras.models.load_model(tmp_path / name))
    for copy in copies:
        copy.set_weights(model.get_weights())
        assert np.array_equal(copy.predict(X, verbose=0), expected)
        assert copy.layers[1].function is model.layers[1].function


def test_lambdas_of_another_process_are_asked_for(tmp_path, monkeypatch):
    model = sequential(layers.Lambda(lambda t: t * 2.0, name="double"))
    model.save(tmp_path / "m.keras")
    sequential(layers.Dense(2, activation=lambda t: t)).save(tmp_path / "a.keras")
    monkeypatch.setattr("kcompile.keras.lambdas._known", {})
    with pytest.raises(SavedFileError, match=r"Lambda layer 'double' holds Python code .*custom_objects"):
        keras.models.load_model(tmp_path / "m.keras")
    with pytest.raises(SavedFileError, match=r"a\.keras.*lambda.*never run"):
        keras.models.load_model(tmp_path / "a.keras")
    copy = keras.models.load_model(tmp_path / "m.keras", custom_objects={"double": lambda t: t * 2.0})
    assert np.array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_copied_token_is_no_name():
    """`functools.wraps` copies what a function carries."""
    inner = lambda t: t  # noqa: E731
    keras.layers.Lambda(inner).get_config()
    outer = lambda t: 2.0 * inner(t)  # noqa: E731
    functools.update_wrapper(outer, inner)
    assert keras.layers.Lambda.from_config(keras.layers.Lambda(outer).get_config()).function is outer


def test_keras_runs_our_lambdas_when_told_to(tmp_path, real_keras):
    model = sequential(layers.Lambda(lambda t: t * 2.0, name="double"))
    model.save(tmp_path / "m.keras")
    theirs = real_keras.models.load_model(tmp_path / "m.keras", safe_mode=False)
    np.testing.assert_allclose(theirs.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)


def test_lambda_layers_pass_on_mask_and_training():
    layer = layers.Lambda(lambda t, training=None: t * 2.0 if training else t)
    assert np.array_equal(np.asarray(layer(X, training=True)), X * 2.0)
    assert np.array_equal(np.asarray(layer(X)), X)
    kept = layers.Lambda(lambda t, mask=None: t * ops.cast(mask, "float32")[..., None])
    masked = kept(layers.Masking()(np.array([[[1.0], [0.0]]], "f")))
    assert np.asarray(masked).ravel().tolist() == [1.0, 0.0]
