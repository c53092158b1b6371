"""FeatureSpace: columns of a table, with the numbers Keras 3.15 gives for the same data."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers

FeatureSpace = keras.utils.FeatureSpace
DATA = {
    "f": [0.0, 0.5, 1.0, 3.0],
    "g": [1.0, 2.0, 3.0, 4.0],
    "s": ["a", "b", "a", "c"],
    "i": [3, 1, 3, 7],
    "h": ["x", "y", "z", "x"],
    "j": [10, 20, 30, 40],
    "d": [0.1, 0.9, 2.0, 5.0],
}
# by Keras: d in 3 bins, f normalised, g / 2 + 1, h and j hashed, i and s by vocabulary, s_X_h, s_X_i
NUMBERS = {1: [-0.98787832, 1.5], 2: [-0.54882127, 2.0], 3: [-0.10976426, 2.5], 4: [1.64646387, 3.0]}
HOT = [(0, 7, 9, 14, 16, 20, 24), (1, 7, 11, 14, 18, 22, 23), (2, 6, 9, 14, 16, 20, 24), (2, 7, 10, 13, 17, 22, 24)]


def expected():
    rows = np.zeros((4, 28), "float32")
    for row, hot, numbers in zip(rows, HOT, NUMBERS.values()):
        row[list(hot)] = 1
        row[3:5] = numbers
    return rows


def space(**more):
    return FeatureSpace(
        features={
            "f": "float_normalized",
            "g": FeatureSpace.float_rescaled(scale=0.5, offset=1.0),
            "s": "string_categorical",
            "i": FeatureSpace.integer_categorical(num_oov_indices=1),
            "h": FeatureSpace.string_hashed(num_bins=3),
            "j": FeatureSpace.integer_hashed(num_bins=3),
            "d": FeatureSpace.float_discretized(num_bins=3),
        },
        crosses=[("s", "i"), FeatureSpace.cross(("s", "h"), crossing_dim=4)],
        crossing_dim=5,
        **more,
    )


def test_one_vector_in_calls_models_and_files(tmp_path):
    ours = space()
    ours.adapt(DATA)
    np.testing.assert_allclose(ours(DATA), expected(), rtol=1e-6)
    row = ours({name: column[1] for name, column in DATA.items()})
    np.testing.assert_allclose(row, expected()[1], rtol=1e-6)

    columns = {name: np.array(column)[:, None] for name, column in DATA.items()}
    encoded = ours.get_encoded_features()
    model = keras.Model(ours.get_inputs(), encoded)
    model.compile(jit=True)
    np.testing.assert_allclose(model.predict(columns, verbose=0), expected(), rtol=1e-6)
    model = keras.Model(ours.get_inputs(), layers.Dense(1)(encoded))
    model.compile("sgd", "mse", jit=True)
    before = model.evaluate(columns, np.ones((4, 1)), verbose=0)
    model.fit(columns, np.ones((4, 1)), epochs=3, verbose=0)
    assert model.evaluate(columns, np.ones((4, 1)), verbose=0) < before

    ours.save(tmp_path / "space.keras")
    again = keras.models.load_model(tmp_path / "space.keras")
    np.testing.assert_array_equal(again(DATA), ours(DATA))


def test_adapting_to_batches_and_rows():
    rows = [{name: column[n] for name, column in DATA.items()} for n in range(4)]
    batches = [{name: np.array(column)[n : n + 2] for name, column in DATA.items()} for n in (0, 2)]
    for data in (rows, batches):
        ours = space()
        ours.adapt(data)
        np.testing.assert_allclose(ours(DATA), expected(), rtol=1e-6)


def test_features_by_name():
    ours = FeatureSpace(
        {
            "s": FeatureSpace.string_categorical(output_mode="int"),
            "i": FeatureSpace.integer_categorical(output_mode="int"),
            "f": "float",
        },
        crosses=[FeatureSpace.cross(("s", "i"), 8, output_mode="int")],
        output_mode="dict",
    )
    data = {name: DATA[name] for name in "sif"}
    ours.adapt(data)
    found = ours(data)
    assert list(found) == ["f", "i", "s", "s_X_i"]
    assert np.asarray(found["f"]).ravel().tolist() == DATA["f"]
    assert np.asarray(found["i"]).ravel().tolist() == np.asarray(found["s"]).ravel().tolist() == [1, 3, 1, 2]
    assert np.asarray(found["s_X_i"]).ravel().tolist() == [1, 1, 1, 3]


def test_a_layer_of_ones_own():
    text = layers.TextVectorization(output_mode="tf_idf")
    ours = FeatureSpace({"text": FeatureSpace.feature("string", text, "float"), "n": "float"})
    data = {"text": ["a b", "b b", "c"], "n": [1.0, 2.0, 3.0]}
    ours.adapt(data)
    assert text.get_vocabulary()[1] == "b"
    assert ours(data).shape == (3, 1 + len(text.get_vocabulary()))


WRONG = {
    "no features": (lambda: FeatureSpace({}), "cannot be None or empty"),
    "unknown kind": (lambda: FeatureSpace({"a": "words"}), "Invalid feature type: words .of feature 'a'"),
    "output_mode": (lambda: FeatureSpace({"a": "float"}, output_mode="list"), "`output_mode`. Expected one of"),
    "unknown cross": (lambda: FeatureSpace({"a": "float"}, crosses=[("a", "b")]), "unknown features: .'a', 'b'"),
    "not adapted": (lambda: FeatureSpace({"a": "string_categorical"})({"a": ["x"]}), "need to call `.adapt"),
    "no dict": (lambda: FeatureSpace({"a": "float"})([1.0]), "only be called with a dict"),
    "another column": (lambda: FeatureSpace({"a": "float"})({"b": [1.0]}), "expected the features .'a'., received"),
    "adapt to a list": (lambda: FeatureSpace({"a": "float_normalized"}).adapt([1.0]), "on a dict of arrays"),
    "adapt without": (lambda: FeatureSpace({"a": "float_normalized"}).adapt({"b": [1.0]}), "'a' is missing"),
    "not encoded": (
        lambda: FeatureSpace({"a": FeatureSpace.string_categorical(output_mode="int")}).adapt({"a": ["x"]}),
        "Cannot concatenate features because feature 'a'",
    ),
    "one-hot of floats": (
        lambda: FeatureSpace({"a": FeatureSpace.feature("float32", layers.Rescaling(1.0), "one_hot")})({"a": [1.0]}),
        "should return an integer dtype",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case):
    wrong, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        wrong()
