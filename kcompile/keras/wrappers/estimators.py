"""Estimators of scikit-learn around a compiled model, or around a function that makes one.

A model is cloned for every `fit`; its compile arguments go with it. Targets are arrays of two axes for the model
(one-hot columns for a classifier), and predictions take the form of the targets that `fit` was given.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras.models import Model, clone_model


class _Estimator(BaseEstimator):
    """What the three share.

    Args:
        model: a compiled model, or a function of `X`, `y` and `model_kwargs` that returns one.
        warm_start: `fit` goes on with the model of the last `fit`.
        fit_kwargs: arguments of `Model.fit`; those given to `fit` come first.
    """

    def __init__(self, model, warm_start=False, model_kwargs=None, fit_kwargs=None):
        self.model, self.warm_start = model, warm_start
        self.model_kwargs, self.fit_kwargs = model_kwargs, fit_kwargs

    def __sklearn_clone__(self):
        model = clone_compiled(self.model) if isinstance(self.model, Model) else copy.copy(self.model)
        return type(self)(model, self.warm_start, self.model_kwargs, self.fit_kwargs)

    def fit(self, X, y, **kwargs):
        """Train on X [rows, features] and y [rows] or [rows, outputs]."""
        X, y = check_X_y(X, y, multi_output=True)
        self.n_features_in_ = X.shape[1]
        self._set_targets(y)
        target = self._to_model(y)
        model = self._model_for(X, target)
        if not model.compiled or model.optimizer is None:
            raise KcompileError(f"{type(self).__name__}: the model needs to be compiled, with a loss and an optimizer.")
        self.history_ = model.fit(X, target, **{"verbose": 0, **(self.fit_kwargs or {}), **kwargs})
        self.model_ = model
        return self

    @property
    def epoch_(self) -> int:
        """How many epochs `fit` has run."""
        return len(self.history_.epoch)

    def _model_for(self, X, y) -> Model:
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if not isinstance(self.model, Model):
            return self.model(X=X, y=y, **(self.model_kwargs or {}))
        return self.model if self.warm_start else clone_compiled(self.model)

    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self, "model_")
        X = check_array(X)
        if X.shape[1] != self.n_features_in_:
            raise ArgumentError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        return self.model_.predict(X, verbose=0)

    # classifiers differ here

    def _set_targets(self, y: np.ndarray) -> None:
        self._flat = y.ndim == 1

    def _to_model(self, y: np.ndarray) -> np.ndarray:
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def _from_model(self, y: np.ndarray) -> np.ndarray:
        return y[:, 0] if self._flat and y.ndim == 2 and y.shape[1] == 1 else y


def clone_compiled(model: Model) -> Model:
    """Return a model with fresh weights, compiled like this one."""
    clone = clone_model(model)
    if model.compiled and not clone.compiled:
        clone.compile_from_config(model.get_compile_config())
    return clone


class SKLearnClassifier(ClassifierMixin, _Estimator):
    """A classifier: the model has one output column per class and sees one-hot targets."""

    def predict(self, X) -> np.ndarray:
        """The most likely class of each row."""
        return self.classes_[self._outputs(X).argmax(axis=-1)]

    def predict_proba(self, X) -> np.ndarray:
        """What the model says of each class."""
        return self._outputs(X)

    def decision_function(self, X) -> np.ndarray:
        """The model's outputs as they are."""
        return self._outputs(X)

    def _set_targets(self, y: Any) -> None:
        kind = type_of_target(y, raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ArgumentError(f"Only binary and multiclass target types are supported. Target type: {kind}")
        self.classes_ = np.unique(y)
        if len(self.classes_) == 1:
            raise ArgumentError("Classifier can't train when only one class is present.")

    def _to_model(self, y: np.ndarray) -> np.ndarray:
        return (np.reshape(y, (-1, 1)) == self.classes_).astype("float32")


class SKLearnRegressor(RegressorMixin, _Estimator):
    """A regressor: predictions have the form of the targets."""

    def predict(self, X) -> np.ndarray:
        """The model's outputs."""
        return self._from_model(self._outputs(X))


class SKLearnTransformer(TransformerMixin, _Estimator):
    """A transformer: what the model returns for X."""

    def transform(self, X) -> np.ndarray:
        """The model's outputs."""
        return self._from_model(self._outputs(X))
