"""Metrics: the worked examples, and every metric against real Keras, with and without weights."""

import numpy as np
import pytest

from kcompile import keras as kc
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
    ("Precision", "binary", {"top_k": 2}),
    ("Recall", "onehot", {"top_k": 3, "class_id": 2}),
    ("Precision", "binary", {"top_k": 2, "thresholds": 0.5}),
    ("AUC", "binary", {}),
    ("AUC", "binary", {"curve": "PR"}),
    ("AUC", "binary", {"curve": "PRGAIN", "num_thresholds": 20}),
    ("AUC", "binary", {"curve": "PR", "summation_method": "majoring", "thresholds": [0.2, 0.5, 0.9]}),
    ("AUC", "binary", {"summation_method": "minoring", "label_weights": [0.1, 0.2, 0.3, 0.4]}),
    ("AUC", "binary", {"multi_label": True, "num_labels": 4, "label_weights": [0.1, 0.2, 0.3, 0.4]}),
    ("AUC", "binary", {"multi_label": True, "curve": "PR"}),
    ("AUC", "scores", {"from_logits": True}),
    ("PrecisionAtRecall", "binary", {"recall": 0.6}),
    ("RecallAtPrecision", "binary", {"precision": 0.5, "num_thresholds": 50}),
    ("SensitivityAtSpecificity", "binary", {"specificity": 0.6}),
    ("SpecificityAtSensitivity", "binary", {"sensitivity": 0.5, "class_id": 1}),
    ("F1Score", "onehot", {}),
    ("F1Score", "binary", {"threshold": 0.4, "average": "micro"}),
    ("FBetaScore", "binary", {"threshold": 0.4, "beta": 2.0, "average": "macro"}),
    ("FBetaScore", "onehot", {"beta": 0.5, "average": "weighted"}),
    ("IoU", "labels", {"num_classes": 4, "target_class_ids": [0, 2]}),
    ("IoU", "labels", {"num_classes": 4, "target_class_ids": [0, 2], "ignore_class": 1}),
    ("BinaryIoU", "binary", {"threshold": 0.3}),
    ("MeanIoU", "labels", {"num_classes": 5}),
    ("OneHotIoU", "onehot", {"num_classes": 4, "target_class_ids": [1]}),
    ("OneHotMeanIoU", "onehot", {"num_classes": 4}),
    ("R2Score", "real", {}),
    ("R2Score", "real", {"class_aggregation": "variance_weighted_average", "num_regressors": 2}),
    ("R2Score", "real", {"class_aggregation": None}),
    ("PearsonCorrelation", "real", {}),
    ("ConcordanceCorrelation", "real", {}),
]
COUNTS = ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "Precision", "Recall", "AUC")
COUNTS += ("PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity", "SpecificityAtSensitivity")
IOU = ("IoU", "BinaryIoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU")
# or covered below
NOT_IN_KERAS = {"Metric", "Mean", "Sum", "MeanMetricWrapper", "Huber", "MeanTensor", "MeanRelativeError"}
NOT_IN_KERAS |= {"BinaryFocalCrossentropy", "CategoricalFocalCrossentropy"}


def arrays(kind, rng):
    scores = rng.random((6, 4)).astype("float32") + 0.05
    scores /= scores.sum(-1, keepdims=True)
    labels = rng.integers(0, 4, 6).astype("int32")
    return {
        "labels": (labels, rng.integers(0, 4, 6).astype("int32")),
        "scores": (rng.integers(0, 2, (6, 4)).astype("int32"), rng.normal(size=(6, 4)).astype("float32")),
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
        if weighted and name in IOU:  # its counts are whole
            weight = rng.integers(1, 4, 6 if name != "BinaryIoU" else (6, 4)).astype("int32")
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


def test_a_result_of_one_number_per_class_is_a_number_in_the_logs_of_one_class():
    model = kc.Sequential([kc.Input((1,)), kc.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse", metrics=[kc.metrics.F1Score(threshold=0.5)], jit=False)
    x = np.array([[0.0], [1.0], [0.9], [0.1]], np.float32)
    assert model.evaluate(x, x > 0.95, verbose=0)[1] == pytest.approx(2 / 3)


def test_compiled_totals_equal_keras():
    """One native program with a metric of every kind: what `evaluate` reports is what Keras computes."""
    keras = real_keras()
    rng = np.random.default_rng(8)
    x = rng.normal(size=(20, 4)).astype("float32")
    y = np.eye(4, dtype="float32")[rng.integers(0, 4, 20)]
    wanted = {
        "auc": ("AUC", {"num_thresholds": 30}),
        "pr": ("AUC", {"curve": "PR", "multi_label": True, "num_labels": 4, "num_thresholds": 20}),
        "best": ("PrecisionAtRecall", {"recall": 0.4, "num_thresholds": 25}),
        "top": ("Precision", {"top_k": 2}),
        "f1": ("F1Score", {"average": "weighted"}),
        "iou": ("OneHotMeanIoU", {"num_classes": 4}),
        "r2": ("R2Score", {}),
        "pearson": ("PearsonCorrelation", {}),
        "rmse": ("RootMeanSquaredError", {}),
    }
    model = kc.Sequential([kc.Input((4,)), kc.layers.Activation("softmax")])
    model.compile("sgd", "categorical_crossentropy", [getattr(metrics, n)(name=k, **o) for k, (n, o) in wanted.items()])
    found = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    e = np.exp(x)
    for label, (name, options) in wanted.items():
        theirs = getattr(keras.metrics, name)(**options)
        theirs.update_state(y, e / e.sum(-1, keepdims=True))
        assert found[label] == pytest.approx(float(theirs.result()), rel=1e-4, abs=1e-6), label


def test_metrics_of_keras_2():
    mean = metrics.MeanTensor()
    mean.update_state([0.0, 2.0])
    mean.update_state([4.0, 4.0], sample_weight=[1.0, 3.0])
    np.testing.assert_allclose(mean.result().numpy(), [2.0, 3.5])
    relative = metrics.MeanRelativeError(normalizer=[1, 3, 2, 3])
    relative.update_state([1, 3, 2, 3], [2, 4, 6, 8])  # the documentation's example: 1, 1/3, 2, 5/3
    assert float(relative.result()) == pytest.approx(1.25)


def test_focal_metrics_are_the_means_of_the_losses():
    y, p = arrays("onehot", np.random.default_rng(2))
    for name in ("binary_focal_crossentropy", "categorical_focal_crossentropy"):
        metric = metrics.get(name)
        metric.update_state(y, p)
        assert float(metric.result()) == pytest.approx(float(np.mean(getattr(metrics, name)(y, p).numpy())), rel=1e-5)


@pytest.mark.parametrize("name", ["AUC", "PrecisionAtRecall", "F1Score", "FBetaScore", "IoU", "BinaryIoU", "MeanIoU"])
def test_configs_round_trip(name):
    given = {
        "AUC": {"curve": "PR", "thresholds": [0.3, 0.6], "label_weights": [1.0, 2.0]},
        "PrecisionAtRecall": {"recall": 0.3, "num_thresholds": 7, "class_id": 2},
        "F1Score": {"average": "micro", "threshold": 0.3},
        "FBetaScore": {"beta": 2.0},
        "IoU": {"num_classes": 3, "target_class_ids": [1], "ignore_class": 0},
        "BinaryIoU": {"threshold": 0.7},
        "MeanIoU": {"num_classes": 3, "sparse_y_pred": False},
    }[name]
    config = metrics.serialize(getattr(metrics, name)(**given))
    again = metrics.deserialize(config)
    assert again.get_config() == config["config"]
    assert {k: config["config"][k] for k in given} == given


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
