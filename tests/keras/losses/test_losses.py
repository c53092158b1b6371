"""Losses: the worked examples, and every loss against real Keras."""

import numpy as np
import pytest

from kcompile import keras as kc
from kcompile import plugins
from kcompile.errors import ArgumentError, ShapeError, UnknownNameError
from kcompile.keras import losses, ops
from tests.keras.real import real_keras

TRUE, PRED = [[0, 1], [0, 0]], [[0.6, 0.4], [0.4, 0.6]]
ONE_HOT, PROBS = [[0, 1, 0], [0, 0, 1]], [[0.05, 0.95, 0], [0.1, 0.8, 0.1]]


@pytest.mark.parametrize(
    "loss, y_true, y_pred, expected",
    [
        (losses.BinaryCrossentropy(from_logits=True), [0, 1, 0, 0], [-18.6, 0.51, 2.94, -12.8], 0.865458),
        (losses.CategoricalCrossentropy(), ONE_HOT, PROBS, 1.1769392),
        (losses.SparseCategoricalCrossentropy(), [1, 2], PROBS, 1.1769392),
        (losses.CosineSimilarity(), [1.0, 1.0], [2.0, 2.0], -0.99999994),
        (losses.CosineSimilarity(), [1.0, 1.0], [2.0, -2.0], 0.0),
        (losses.MeanAbsoluteError(), [0.0, 1.0], [0.1, 0.8], 0.14999999),
        (losses.MeanSquaredError(), [0.0, 1.0], [0.1, 0.8], 0.024999999),
    ],
)
def test_w1_worked_examples(loss, y_true, y_pred, expected):
    assert float(loss(y_true, y_pred).numpy()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Hinge", 1.3),
        ("SquaredHinge", 1.86),
        ("CategoricalHinge", 1.4),
        ("Poisson", 0.7290726),
        ("KLDivergence", 0.4581431),
        ("LogCosh", 0.1470898),
        ("Huber", 0.155),
        ("BinaryCrossentropy", 0.8149245),
        ("MeanSquaredError", 0.31),
        ("MeanAbsoluteError", 0.55),
        ("MeanSquaredLogarithmicError", 0.1705593),
    ],
)
def test_d1_values(name, expected):
    assert float(getattr(losses, name)()(TRUE, PRED)) == pytest.approx(expected, abs=1e-5)


def test_d1_signed_labels_weights_and_reductions():
    assert float(losses.Hinge()([[1, -1]], [[0.5, 0.3]])) == pytest.approx(0.9, abs=1e-5)
    assert float(losses.SquaredHinge()([[1, -1]], [[0.5, 0.3]])) == pytest.approx(0.97, abs=1e-5)
    assert float(losses.MeanAbsolutePercentageError()([[2, 4]], [[1, 5]])) == pytest.approx(37.5, abs=1e-4)
    assert float(losses.MeanSquaredLogarithmicError()([[2, 4]], [[1, 5]])) == pytest.approx(0.0988216, abs=1e-5)
    assert float(losses.MeanSquaredError()(TRUE, PRED, sample_weight=[0.7, 0.3])) == pytest.approx(0.165, abs=1e-5)
    none = losses.MeanSquaredError(reduction="none")(TRUE, PRED)
    np.testing.assert_allclose(none.numpy(), [0.36, 0.26], atol=1e-6)
    assert float(losses.MeanSquaredError(reduction=losses.Reduction.SUM)(TRUE, PRED)) == pytest.approx(0.62, abs=1e-5)


NUMBERS = ("real", {})
CASES = [
    ("MeanSquaredError", *NUMBERS),
    ("MeanAbsoluteError", *NUMBERS),
    ("MeanAbsolutePercentageError", *NUMBERS),
    ("MeanSquaredLogarithmicError", "positive", {}),
    ("Huber", "real", {"delta": 0.4}),
    ("LogCosh", *NUMBERS),
    ("CosineSimilarity", *NUMBERS),
    ("CosineSimilarity", "real", {"axis": 0}),
    ("Hinge", "binary", {}),
    ("SquaredHinge", "binary", {}),
    ("CategoricalHinge", "onehot", {}),
    ("Poisson", "positive", {}),
    ("KLDivergence", "onehot", {}),
    ("BinaryCrossentropy", "binary", {}),
    ("BinaryCrossentropy", "logits", {"from_logits": True, "label_smoothing": 0.2}),
    ("BinaryFocalCrossentropy", "binary", {"apply_class_balancing": True}),
    ("BinaryFocalCrossentropy", "logits", {"from_logits": True}),
    ("CategoricalCrossentropy", "onehot", {"label_smoothing": 0.1}),
    ("CategoricalCrossentropy", "onehot_logits", {"from_logits": True}),
    ("CategoricalFocalCrossentropy", "onehot", {}),
    ("SparseCategoricalCrossentropy", "sparse", {}),
    ("SparseCategoricalCrossentropy", "sparse_logits", {"from_logits": True}),
    ("SparseCategoricalCrossentropy", "sparse", {"ignore_class": 1}),
    ("Dice", "masks", {"axis": (1, 2)}),
    ("Tversky", "masks", {"axis": (1, 2), "alpha": 0.3, "beta": 0.6}),
    ("CategoricalGeneralizedCrossEntropy", "sparse", {}),
    ("CategoricalGeneralizedCrossEntropy", "sparse", {"q": 0.9}),
    ("CTC", "frames", {}),
    ("Circle", "embeddings", {}),
    ("Circle", "embeddings", {"remove_diagonal": False, "gamma": 20.0, "margin": 0.2}),
]


def arrays(kind, rng):
    probabilities = rng.random((6, 4)).astype("float32") + 0.05
    probabilities /= probabilities.sum(-1, keepdims=True)
    logits = rng.normal(size=(6, 4)).astype("float32") * 3
    labels = rng.integers(0, 4, 6)
    one_hot = np.eye(4, dtype="float32")[labels]
    return {
        "masks": (rng.integers(0, 2, (6, 3, 4)), rng.random((6, 3, 4))),
        "frames": (
            np.array([[1, 2, 2], [3, 0, 0], [1, 1, 1], [0, 0, 0], [2, 1, 2], [3, 3, 0]]),
            rng.normal(size=(6, 7, 4)),
        ),
        "embeddings": (np.array([0, 1, 0, 2, 1, 0]), logits / np.linalg.norm(logits, axis=-1, keepdims=True)),
        "real": (rng.normal(size=(6, 4)), logits),
        "positive": (rng.random((6, 4)), rng.random((6, 4)) + 0.1),
        "binary": (rng.integers(0, 2, (6, 4)), rng.random((6, 4))),
        "logits": (rng.integers(0, 2, (6, 4)), logits),
        "onehot": (one_hot, probabilities),
        "onehot_logits": (one_hot, logits),
        "sparse": (labels, probabilities),
        "sparse_logits": (labels, logits),
    }[kind]


@pytest.mark.parametrize("name, kind, options", CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_every_loss_equals_keras(name, kind, options, reduction):
    keras = real_keras()
    rng = np.random.default_rng(3)
    y_true, y_pred = (np.asarray(a, "float32" if a.dtype.kind == "f" else "int32") for a in arrays(kind, rng))
    weights = None if "axis" in options else rng.random(6).astype("float32")
    ours = getattr(losses, name)(reduction=reduction, **options)
    theirs = getattr(keras.losses, name)(reduction=reduction, **options)
    for weight in (None, weights):
        expected = np.asarray(theirs(y_true, y_pred, sample_weight=weight))
        np.testing.assert_allclose(ours(y_true, y_pred, sample_weight=weight).numpy(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, options, units, target",
    [
        ("Dice", {}, 4, "masks"),
        ("Tversky", {"alpha": 0.3, "axis": (1, 2)}, 4, "masks"),
        ("CTC", {}, 4, "frames"),
        ("Circle", {"gamma": 2.0}, 4, "embeddings"),
        ("CategoricalFocalCrossentropy", {"from_logits": True}, 4, "onehot"),
        ("BinaryFocalCrossentropy", {"from_logits": True}, 4, "logits"),
    ],
    ids=lambda v: str(v),
)
def test_compiled_training_equals_keras(name, options, units, target):
    """Forward and backward as native code: three steps of a Dense layer."""
    real = real_keras()
    rng = np.random.default_rng(4)
    y_true, y_pred = arrays(target, rng)
    x = rng.normal(size=(*y_pred.shape[:-1], 3)).astype("float32")
    y_true = y_true.astype("int32" if target in ("frames", "embeddings") else "float32")
    kernel = rng.normal(size=(3, units)).astype("float32")
    found = []
    for keras in (kc, real):
        activation = "sigmoid" if target == "masks" else None
        model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(units, activation=activation)])
        model.set_weights([kernel, np.zeros(units, "float32")])
        model.compile(keras.optimizers.SGD(0.1), getattr(keras.losses, name)(**options))
        steps = [float(model.train_on_batch(x, y_true)) for _ in range(3)]
        found.append((steps, model.get_weights()))
    (ours, weights), (theirs, expected) = found
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    for a, b in zip(weights, expected):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_dice_of_everything_is_one_number():
    y, p = np.array([[1, 0], [1, 1]], "float32"), np.array([[0.5, 0.5], [1.0, 0.0]], "float32")
    assert float(losses.Dice()(y, p)) == pytest.approx(1 - 2 * 1.5 / 5, abs=1e-6)
    assert float(losses.Tversky()(y, p)) == pytest.approx(1 - 1.5 / 2.5, abs=1e-6)


def test_ctc_counts_alignments():
    """Two frames, uniform over {blank, a}: 3 of the 4 paths spell "a"."""
    value = losses.ctc(np.array([[1]]), np.zeros((1, 2, 2), "float32"))
    assert float(value[0]) == pytest.approx(-np.log(0.75), abs=1e-6)
    with pytest.raises(ShapeError, match="frames"):
        losses.ctc(np.array([[1]]), np.zeros((1, 2), "float32"))


def test_keras_2_functions_of_ctc():
    """Probabilities, the last class is the blank."""
    backend = kc.backend
    probabilities = np.full((1, 3, 3), 0.1, np.float32)
    probabilities[0, range(3), [0, 2, 0]] = 0.8
    found, scores = backend.ctc_decode(probabilities, [3])
    assert np.asarray(found[0]).tolist() == [[0, 0, -1]]
    np.testing.assert_allclose(scores, [[-3 * np.log(0.8)]], rtol=1e-4)
    found, scores = backend.ctc_decode(probabilities, [3], greedy=False, beam_width=5, top_paths=2)
    assert np.asarray(found[0]).tolist() == [[0, 0, -1]]
    np.testing.assert_allclose(scores[0, 0], np.log(0.8**3), rtol=1e-4)  # the only alignment of two equal labels
    cost = backend.ctc_batch_cost(np.array([[0, 0]]), probabilities, [[3]], [[2]])
    np.testing.assert_allclose(cost, [[-np.log(0.8**3)]], rtol=1e-4)
    with pytest.raises(ArgumentError, match="Invalid strategy"):
        ops.ctc_decode(probabilities, [3], strategy="best")
    with pytest.raises(ArgumentError, match="top_paths"):
        ops.ctc_decode(probabilities, [3], "beam_search", beam_width=1, top_paths=2)


def test_decoding_in_a_compiled_program():
    frames, lengths = kc.Input((5, 3)), kc.Input((), dtype="int32")
    model = kc.Model([frames, lengths], list(ops.ctc_decode(frames, lengths, "beam_search", 4, 2)))
    x = 2 * np.random.default_rng(1).normal(size=(3, 5, 3)).astype("float32")
    sizes = np.array([5, 1, 3], np.int32)
    # paths come first, so there is no batch axis to join: one batch
    for found, expected in zip(model.predict_on_batch([x, sizes]), ops.ctc_decode(x, sizes, "beam_search", 4, 2)):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_ctc_of_any_length():
    """One program for any number of frames and of labels; the loss is the eager one."""
    from kcompile import keras

    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.CTC())
    rng = np.random.default_rng(0)
    for frames, labels in ((9, 2), (150, 2), (1, 2)):
        x = rng.standard_normal((5, frames, 3)).astype("float32")
        y = rng.integers(0, 4, (5, labels)).astype("int32")
        expected = float(np.mean(losses.ctc(y, model(x))))
        assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(model.get_weights()[0]).all()


def test_every_registered_loss_class_is_compared():
    registered = {n for n in plugins.names("losses", aliases=False) if isinstance(plugins.get("losses", n), type)}
    builtin = {n for n in registered if plugins.get("losses", n).__module__.startswith("kcompile.")}
    assert builtin - {"Loss"} == {name for name, _, _ in CASES}


@pytest.mark.parametrize(
    "name, function",
    [
        ("mse", "mean_squared_error"),
        ("MAE", "mean_absolute_error"),
        ("kullback_leibler_divergence", "kl_divergence"),
        ("cosine_proximity", "cosine_similarity"),
        ("logcosh", "log_cosh"),
        ("bce", "binary_crossentropy"),
        ("logloss", "binary_crossentropy"),
    ],
)
def test_older_names(name, function):
    assert losses.get(name) is getattr(losses, function)


def test_get_takes_names_functions_classes_and_configs():
    assert losses.get(None) is None
    assert isinstance(losses.get("Huber"), losses.Huber)
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    assert losses.get(losses.mse) is losses.mean_squared_error
    restored = losses.deserialize(losses.serialize(losses.Huber(delta=0.3, name="h")))
    assert (restored.delta, restored.name) == (0.3, "h")
    with pytest.raises(UnknownNameError, match="mean_squared_error"):
        losses.get("mean_squared_eror")


def test_custom_loss_class():
    class Cubed(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.mean(ops.abs(y_pred - y_true) ** 3, axis=-1)

    assert float(Cubed()([[1.0, 2.0]], [[2.0, 4.0]])) == pytest.approx(4.5)
    assert Cubed(reduction="sum").get_config() == {"name": "cubed_1", "reduction": "sum"}


def test_errors():
    with pytest.raises(ArgumentError, match="reduction"):
        losses.Hinge(reduction="average")
    with pytest.raises(ShapeError, match="one-hot"):
        losses.SparseCategoricalCrossentropy()(ONE_HOT, PROBS)
    with pytest.raises(ShapeError, match="sparse_categorical_crossentropy"):
        losses.CategoricalCrossentropy()([1, 2], PROBS)


def test_one_number_for_the_whole_batch_is_weighted_by_every_row():
    y_true, y_pred, weight = np.ones((3, 2), "f4"), np.zeros((3, 2), "f4"), np.array([1.0, 2.0, 6.0], "f4")
    total = losses.LossFunctionWrapper(lambda y, p: ops.mean(ops.square(y - p)))
    assert float(total(y_true, y_pred, sample_weight=weight)) == pytest.approx(3.0)
