"""The whole way against real Keras: same weights, same data, no dropout, ten updates in native code.

Losses agree to 1e-5 relative, weights to 1e-4; then `evaluate` and `predict` agree on other numbers of rows.
"""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras as ours
from tests.keras.real import real_keras
from tests.keras.zoo import CLASSES, ROWS, ZOO, Case

STEPS = 10


def trained(keras, case: Case, weights, optimizer, given=None, steps: int = STEPS, **options):
    """Return the model after `steps` updates, and the logs of each.

    given: step -> further arguments of train_on_batch.
    """
    model = case.build(keras)
    model.set_weights(weights)
    model.compile(optimizer=optimizer(keras), loss=case.loss(keras), **case.options, **options)
    logs = []
    for step in range(steps):
        x, y = case.data(ROWS, seed=step)
        model.reset_metrics()
        found = model.train_on_batch(x, y, return_dict=True, **(given(step) if given else {}))
        logs.append({name: float(value) for name, value in found.items()})
    return model, logs


def assert_logs(found, expected, where=""):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-7), f"{name} {where}"


def assert_equal_models(case: Case, optimizer, given=None) -> tuple:
    real = real_keras()
    weights = case.weights(real)
    theirs, expected = trained(real, case, weights, optimizer, given)
    mine, found = trained(ours, case, weights, optimizer, given, jit=True)
    for step in range(STEPS):
        assert_logs(found[step], expected[step], f"of step {step}")
    for a, b, variable in zip(mine.get_weights(), theirs.get_weights(), theirs.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=variable.path)
    return mine, theirs


def adam(keras):
    return keras.optimizers.Adam(0.01)


@pytest.mark.parametrize("name", ZOO)
def test_model(name):
    case = ZOO[name]
    mine, theirs = assert_equal_models(case, adam)
    x, y = case.data(12, seed=99)
    found, expected = (m.evaluate(x, y, batch_size=5, verbose=0, return_dict=True) for m in (mine, theirs))
    assert_logs(found, expected, "of evaluate")
    found, expected = (m.predict(x, batch_size=5, verbose=0) for m in (mine, theirs))
    as_lists = [p if isinstance(p, list) else [p] for p in (found, expected)]
    for a, b in zip(*as_lists, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.1),
    "momentum": lambda k: k.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "decayed": lambda k: k.optimizers.SGD(0.05, weight_decay=0.01, clipnorm=0.5),
    "rmsprop": lambda k: k.optimizers.RMSprop(0.01),
    "rmsprop_momentum": lambda k: k.optimizers.RMSprop(0.01, momentum=0.9),
    "rmsprop_centered": lambda k: k.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    "adam_amsgrad": lambda k: k.optimizers.Adam(0.01, amsgrad=True),
    "adam_clipped": lambda k: k.optimizers.Adam(0.01, beta_1=0.8, epsilon=1e-5, clipvalue=0.05),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    assert_equal_models(ZOO["mlp"], OPTIMIZERS[name])


@pytest.mark.parametrize("model, name", [("cnn", "momentum"), ("two_by_two", "rmsprop_centered")])
def test_optimizer_of_larger_models(model, name):
    assert_equal_models(ZOO[model], OPTIMIZERS[name])


def test_sample_weights():
    def given(step):
        return {"sample_weight": np.random.default_rng(step).random(ROWS).astype(np.float32)}

    assert_equal_models(ZOO["mlp"], adam, given)


def test_sample_weights_of_each_output():
    def given(step):
        rng = np.random.default_rng(step)
        return {"sample_weight": [rng.random(ROWS).astype(np.float32) for _ in range(2)]}

    assert_equal_models(ZOO["two_by_two"], adam, given)


@pytest.mark.parametrize("name", ["mlp", "one_hot"])
def test_class_weights(name):
    assert_equal_models(ZOO[name], adam, lambda step: {"class_weight": {0: 0.5, 1: 2.0, 2: 3.0}})


@pytest.mark.parametrize("name", ["mlp", "cnn", "two_by_two"])
def test_fit_with_odd_batches(name):
    """23 rows in batches of 4: the last one has 3; validation comes in its own batches."""
    case, real = ZOO[name], real_keras()
    weights = case.weights(real)
    x, y = case.data(23)
    histories, ends = [], []
    for keras, options in ((real, {}), (ours, {"jit": True})):
        model = case.build(keras)
        model.set_weights(weights)
        model.compile("sgd", case.loss(keras), **case.options, **options)
        arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
        histories.append(model.fit(x, y, validation_data=case.data(9, seed=5), **arguments).history)
        ends.append(model.get_weights())
    assert histories[0].keys() == histories[1].keys()
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=1e-5, err_msg=key)
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_row_and_zero_weights():
    """The smallest batch, and a batch that counts for nothing."""
    real = real_keras()
    case = ZOO["mlp"]
    weights = case.weights(real)
    logs = []
    for keras, options in ((real, {}), (ours, {"jit": True})):
        model = case.build(keras)
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.1), case.loss(keras), **case.options, **options)
        found = []
        for rows, weight in ((1, 1.0), (ROWS, 0.0), (1, 0.5)):
            x, y = case.data(rows, seed=rows)
            sample_weight = np.full(rows, weight, np.float32)
            found.append(model.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True))
        logs.append([{k: float(v) for k, v in f.items()} for f in found])
    for found, expected in zip(logs[1], logs[0]):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_frozen_layers_and_new_compile():
    """Trainable parts change between two compilations; the frozen weights keep their bits."""
    real = real_keras()
    case = ZOO["mlp"]
    weights = case.weights(real)
    ends = []
    for keras, options in ((real, {}), (ours, {"jit": True})):
        model = case.build(keras)
        model.set_weights(weights)
        for frozen in (True, False):
            model.layers[0].trainable = not frozen
            model.compile(keras.optimizers.Adam(0.01), case.loss(keras), **options)
            for step in range(3):
                model.train_on_batch(*case.data(ROWS, seed=step))
            if frozen:
                np.testing.assert_array_equal(model.get_weights()[0], weights[0])
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_classes_are_what_the_labels_say():
    """The zoo draws labels of every class, so that no comparison above passes for want of work."""
    assert set(ZOO["mlp"].data(ROWS)[1]) == set(range(CLASSES))
