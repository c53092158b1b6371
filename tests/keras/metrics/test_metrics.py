"""Metrics: the worked examples, and every metric against real Keras, with and without weights."""

import numpy as np
import pytest

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras import metrics, ops
from tests.keras.real import real_keras

ONE_HOT = [[0, 0, 1], [0, 1, 0], [0, 1, 0]]
SCORES = [[0.1, 0.1, 0.8], [0.05, 0.95, 0], [0.3, 0.3, 0.4]]


@pytest.mark.parametrize(
    "metric, arguments, expected",
    [
        (metrics.Accuracy(), ([1, 2, 3, 4], [0, 2, 3, 4]), 0.75),
        (metrics.CategoricalAccuracy(), (ONE_HOT, SCORES), 0.6666667),
        (metrics.Mean(), ([1, 3, 5, 7],), 4.0),
        (metrics.Sum(), ([1, 2, 3, 4],), 10.0),
        (metrics.TruePositives(), ([0, 1, 1, 1], [1, 0, 1, 1]), 2.0),
        (metrics.FalsePositives(), ([0, 1, 1, 1], [1, 0, 1, 1]), 1.0),
        (metrics.FalseNegatives(), ([0, 1, 1, 1], [1, 0, 1, 1]), 1.0),
        (metrics.TrueNegatives(), ([0, 1, 1, 1], [1, 0, 1, 1]), 0.0),
        (metrics.Precision(), ([0, 1, 1, 1], [1, 0, 1, 1]), 2 / 3),
        (metrics.Recall(), ([0, 1, 1, 1], [1, 0, 1, 1]), 2 / 3),
        (metrics.BinaryAccuracy(), ([0, 1, 1, 1], [1, 0, 1, 1]), 0.5),
        (metrics.BinaryAccuracy(), ([[1], [1], [0], [0]], [[0.98], [1], [0], [0.6]]), 0.75),
        (metrics.TopKCategoricalAccuracy(k=1), ([[0, 0, 1], [0, 1, 0]], [[0.1, 0.9, 0.8], [0.05, 0.95, 0]]), 0.5),
        (metrics.KLDivergence(), ([[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]]), 0.4581431),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_w2_d7_worked_examples(metric, arguments, expected):
    metric.update_state(*arguments)
    result = metric.result()
    assert result.numpy() == pytest.approx(expected, abs=1e-6)
    assert float(result) == pytest.approx(expected, abs=1e-6)
    assert metric.log_value() == pytest.approx(expected, abs=1e-6)


CASES = [
    ("Accuracy", "labels", {}),
    ("BinaryAccuracy", "binary", {"threshold": 0.4}),
    ("CategoricalAccuracy", "onehot", {}),
    ("SparseCategoricalAccuracy", "sparse", {}),
    ("TopKCategoricalAccuracy", "onehot", {"k": 2}),
    ("SparseTopKCategoricalAccuracy", "sparse", {"k": 2}),
    ("MeanSquaredError", "real", {}),
    ("MeanAbsoluteError", "real", {}),
    ("MeanAbsolutePercentageError", "real", {}),
    ("MeanSquaredLogarithmicError", "positive", {}),
    ("RootMeanSquaredError", "real", {}),
    ("LogCoshError", "real", {}),
    ("CosineSimilarity", "real", {}),
    ("BinaryCrossentropy", "binary", {"label_smoothing": 0.1}),
    ("CategoricalCrossentropy", "onehot", {}),
    ("SparseCategoricalCrossentropy", "sparse", {}),
    ("KLDivergence", "onehot", {}),
    ("Poisson", "positive", {}),
    ("Hinge", "binary", {}),
    ("SquaredHinge", "binary", {}),
    ("CategoricalHinge", "onehot", {}),
    ("TruePositives", "binary", {"thresholds": [0.2, 0.7]}),
    ("FalsePositives", "binary", {}),
    ("TrueNegatives", "binary", {}),
    ("FalseNegatives", "binary", {}),
    ("Precision", "binary", {"thresholds": [0.2, 0.7]}),
    ("Recall", "binary", {"class_id": 1}),
]
COUNTS = ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "Precision", "Recall")
NOT_IN_KERAS = {"Metric", "Mean", "Sum", "MeanMetricWrapper", "Huber"}  # or covered above


def arrays(kind, rng):
    scores = rng.random((6, 4)).astype("float32") + 0.05
    scores /= scores.sum(-1, keepdims=True)
    labels = rng.integers(0, 4, 6).astype("int32")
    return {
        "labels": (labels, rng.integers(0, 4, 6).astype("int32")),
        "real": (rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 4)).astype("float32")),
        "positive": (rng.random((6, 4)).astype("float32"), scores),
        "binary": (rng.integers(0, 2, (6, 4)).astype("int32"), rng.random((6, 4)).astype("float32")),
        "onehot": (np.eye(4, dtype="float32")[labels], scores),
        "sparse": (labels, scores),
    }[kind]


@pytest.mark.parametrize("name, kind, options", CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("weighted", [False, True])
def test_every_metric_equals_keras(name, kind, options, weighted):
    keras = real_keras()
    rng = np.random.default_rng(5)
    ours, theirs = getattr(metrics, name)(**options), getattr(keras.metrics, name)(**options)
    for _ in range(3):
        y_true, y_pred = arrays(kind, rng)
        weight = rng.random(6).astype("float32") if weighted else None
        if weighted and name in COUNTS:  # Keras wants weights of the predictions' rank there
            weight = weight[:, None] if "class_id" in options else np.broadcast_to(weight[:, None], y_true.shape)
        ours.update_state(y_true, y_pred, sample_weight=weight)
        theirs.update_state(y_true, y_pred, sample_weight=weight)
    np.testing.assert_allclose(ours.result().numpy(), np.asarray(theirs.result()), rtol=2e-5, atol=1e-6)
    assert [v.shape for v in ours.variables] == [tuple(v.shape) for v in theirs.variables]
    ours.reset_state()
    assert all(not v.numpy().any() for v in ours.variables)


def test_every_registered_metric_class_is_compared():
    names = plugins.names("metrics", aliases=False)
    builtin = {n for n in names if plugins.get("metrics", n).__module__.startswith("kcompile.")}
    assert builtin - NOT_IN_KERAS == {name for name, _, _ in CASES}


def test_weighted_mean_and_sum():
    mean, total = metrics.Mean(), metrics.Sum()
    mean.update_state([1, 3, 5, 7], sample_weight=[1, 1, 0, 0])
    total.update_state([1, 2, 3, 4], sample_weight=[1, 0, 0, 1])
    assert float(mean.result()) == 2.0
    assert float(total.result()) == 5.0
    assert float(metrics.Mean().result()) == 0.0  # nothing seen yet


def test_names_configs_and_functions():
    assert metrics.get("mse").name == "mean_squared_error"
    assert isinstance(metrics.get("acc"), metrics.Accuracy)
    restored = metrics.deserialize(metrics.serialize(metrics.TopKCategoricalAccuracy(k=3)))
    assert restored.k == 3
    assert float(metrics.mean_squared_error([1.0, 2.0], [1.0, 4.0])) == 2.0
    assert metrics.get(lambda a, b: a) is not None


def test_custom_metric_and_stateless_use():
    class Positives(metrics.Metric):
        def __init__(self, name="positives", **kwargs):
            super().__init__(name=name, **kwargs)
            self.seen = self.add_weight(name="seen", initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.seen.assign_add(ops.sum(ops.cast(ops.convert_to_tensor(y_pred) > 0.5, "float32")))

        def result(self):
            return self.seen

    metric = Positives()
    assert float(metric([0, 1], [0.9, 0.8])) == 2.0
    (after,) = metric.stateless_update_state(metric.stateless_reset_state(), [0], [0.7])
    assert float(after) == 1.0
    assert float(metric.result()) == 2.0  # its own total is untouched


def test_errors():
    with pytest.raises(ArgumentError, match="Threshold"):
        metrics.Precision(thresholds=[1.5])
