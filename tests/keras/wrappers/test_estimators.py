"""Models as scikit-learn estimators: targets in, predictions out in their form; clones; what is said without it."""

import sys

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, KcompileError, MissingNameError

sklearn = pytest.importorskip("sklearn")
pytest.importorskip("sklearn.pipeline")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype("f")


def compiled(units, activation, loss):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])
    model.compile(keras.optimizers.Adam(0.1), loss)
    return model


def test_classifier():
    labels = np.array(["cold", "warm"])[(X[:, 0] > 0).astype(int)]
    made = compiled(2, "softmax", "categorical_crossentropy")
    before = made.get_weights()[0]
    found = keras.wrappers.SKLearnClassifier(made, fit_kwargs={"epochs": 30}).fit(X, labels)
    np.testing.assert_array_equal(made.get_weights()[0], before)  # a clone was trained
    assert list(found.classes_) == ["cold", "warm"] and found.epoch_ == 30
    assert found.score(X, labels) > 0.9
    np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1.0, rtol=1e-5)
    with pytest.raises(ArgumentError, match="3 features"):
        found.predict(X[:, :3])
    with pytest.raises(ArgumentError, match="only one class"):
        found.fit(X, np.zeros(60))
    again = sklearn.base.clone(found)
    assert not hasattr(again, "model_") and again.model.compiled


def test_regressor_of_a_function():
    def make(X, y, width):
        assert y.shape == (60, 1)
        return compiled(y.shape[1], None, "mse")

    target = X @ np.array([1.0, -2.0, 0.5, 0.0], "f")
    found = keras.wrappers.SKLearnRegressor(make, model_kwargs={"width": 3}, warm_start=True)
    first = found.fit(X, target, epochs=10).score(X, target)
    assert found.predict(X).shape == (60,)
    assert found.fit(X, target, epochs=30).score(X, target) > max(first, 0.9)
    with pytest.raises(KcompileError, match="compiled"):
        keras.wrappers.SKLearnRegressor(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])).fit(X, target)


def test_transformer_in_a_pipeline():
    step = keras.wrappers.SKLearnTransformer(compiled(4, None, "mse"))
    assert sklearn.pipeline.make_pipeline(step).fit(X, X).transform(X).shape == (60, 4)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "kcompile.keras.wrappers.estimators", raising=False)
    monkeypatch.delattr(keras.wrappers, "estimators", raising=False)
    with pytest.raises(MissingNameError, match="pip install scikit-learn"):
        keras.wrappers.SKLearnClassifier  # noqa: B018
