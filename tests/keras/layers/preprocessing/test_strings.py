"""Layers on strings: results against real Keras, and models that begin with them."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, KcompileError, NotSupportedError
from kcompile.keras import layers
from kcompile.keras.models.checking import check

WORDS = np.array([["b", "a", "q"], ["c", "", "a"]])
TEXTS = ["The cat sat, on the mat!", "a dog", "CAT and dog and Émile", ""]
ADAPT = ["the cat the dog", "dog cat bird", "a bird; the end"]

CASES = [
    ("Hashing", {"num_bins": 7}, WORDS),
    ("Hashing", {"num_bins": 7, "salt": 133}, WORDS),
    ("Hashing", {"num_bins": 5, "salt": [13, 37], "mask_value": ""}, WORDS),
    ("Hashing", {"num_bins": 4, "output_mode": "one_hot"}, WORDS[:, :1]),
    ("Hashing", {"num_bins": 4, "output_mode": "multi_hot"}, WORDS),
    ("Hashing", {"num_bins": 4, "output_mode": "count"}, WORDS),
    ("Hashing", {"num_bins": 9}, np.array([[1, -5, 10**6]])),
    ("HashedCrossing", {"num_bins": 11}, (WORDS[0], np.array([101, -7, 10**9]))),
    ("HashedCrossing", {"num_bins": 5, "output_mode": "one_hot"}, (WORDS[:, :1], WORDS[:, 1:2], WORDS[:, 2:])),
    ("StringLookup", {"vocabulary": ["a", "b"]}, WORDS),
    ("StringLookup", {"vocabulary": ["a", "b"], "num_oov_indices": 3}, WORDS),
    ("StringLookup", {"vocabulary": ["a", "b"], "mask_token": "", "num_oov_indices": 2}, WORDS),
    ("StringLookup", {"vocabulary": ["a", "b", "q", "c"], "output_mode": "one_hot"}, WORDS[:, :1]),
    ("StringLookup", {"vocabulary": ["a", "b"], "output_mode": "multi_hot", "mask_token": ""}, WORDS),
    ("StringLookup", {"vocabulary": ["a", "b"], "output_mode": "count"}, WORDS),
    (
        "StringLookup",
        {"vocabulary": ["a", "b"], "output_mode": "tf_idf", "idf_weights": [0.5, 2.0], "max_tokens": 6,
         "pad_to_max_tokens": True},
        WORDS,
    ),
    ("IntegerLookup", {"vocabulary": [7, 3, 100]}, np.array([[3, 7, 5], [100, 3, -2]])),
    ("IntegerLookup", {"vocabulary": [7, 3, 100], "num_oov_indices": 2, "mask_token": 0}, np.array([[0, 7, 5]])),
    ("IntegerLookup", {"vocabulary": [7, 3], "output_mode": "multi_hot"}, np.array([[3, 7, 5], [3, 3, -2]])),
    ("IntegerLookup", {"vocabulary": [7, 3], "invert": True}, np.array([[1, 2, 0]])),
    ("TextVectorization", {"vocabulary": ["cat", "dog", "the"]}, TEXTS),
    ("TextVectorization", {"vocabulary": ["cat", "dog", "the"], "output_sequence_length": 3}, TEXTS),
    ("TextVectorization", {"vocabulary": ["cat", "the cat", "on"], "ngrams": 2, "output_mode": "count"}, TEXTS),
    ("TextVectorization", {"vocabulary": ["cat", "The"], "standardize": None, "output_mode": "multi_hot"}, TEXTS),
    ("TextVectorization", {"vocabulary": ["c", "a", "é"], "split": "character"}, TEXTS),
]  # fmt: skip


@pytest.mark.parametrize("name, init, data", [c for c in CASES if c[0] == "IntegerLookup"])
def test_integers_in_a_compiled_model(name, init, data):
    layer = layers.IntegerLookup(**init)
    x = keras.Input((data.shape[1],), dtype="int64")
    model = keras.Model(x, layer(x))
    model.compile(jit=True)
    np.testing.assert_array_equal(model.predict(data, verbose=0), layer(data))


def test_compiled_layers_before_one_on_the_host():
    """The bins of crossed vocabularies: the lookups run in Python for the cross, and compiled for the rest."""
    a, b = keras.Input((1,), dtype="int64", name="a"), keras.Input((1,), dtype="string", name="b")
    found = [layers.IntegerLookup(vocabulary=[7, 3])(a), layers.StringLookup(vocabulary=["x", "y"])(b)]
    model = keras.Model([a, b], [layers.HashedCrossing(50)(found), found[0] + 10])
    model.compile(jit=True)
    data = [np.array([[3], [7], [5]]), np.array([["x"], ["y"], ["x"]])]
    crossed, index = model.predict(data, verbose=0)
    np.testing.assert_array_equal(index, [[12], [11], [10]])
    expected = layers.HashedCrossing(50)([np.array([[2], [1], [0]]), np.array([[1], [2], [1]])])
    np.testing.assert_array_equal(crossed, expected)


@pytest.mark.parametrize("name, init, data", CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)])
def test_against_keras(name, init, data, real_keras):
    pytest.importorskip("tensorflow")
    ours, theirs = (getattr(k.layers, name)(**init, name="it") for k in (keras, real_keras))
    found, expected = ours(data), np.asarray(theirs(data))
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(np.asarray(found, np.float64), expected.astype(np.float64), rtol=1e-6)
    again = type(ours).from_config(ours.get_config())
    np.testing.assert_array_equal(again(data), found)
    np.testing.assert_array_equal(type(ours).from_config(theirs.get_config())(data), found)


@pytest.mark.parametrize("mode", ["int", "tf_idf"])
@pytest.mark.parametrize("name", ["TextVectorization", "StringLookup", "IntegerLookup"])
def test_adapt_against_keras(name, mode, real_keras):
    pytest.importorskip("tensorflow")
    data = {
        "TextVectorization": ADAPT,
        "StringLookup": np.array([["b", "a", "b"], ["c", "a", "b"], ["d", "d", "q"]]),
        "IntegerLookup": np.array([[5, 3, 5], [9, 3, 5], [1, 1, 7]]),
    }[name]
    ours, theirs = (getattr(k.layers, name)(output_mode=mode, max_tokens=5) for k in (keras, real_keras))
    for layer in (ours, theirs):
        layer.adapt(data)
    assert ours.get_vocabulary() == list(theirs.get_vocabulary())
    assert ours.vocabulary_size() == theirs.vocabulary_size()
    np.testing.assert_allclose(np.asarray(ours(data), "f"), np.asarray(theirs(data), "f"), rtol=1e-5)


def test_the_string_of_an_index():
    layer = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    assert np.asarray(layer(np.array([[1, 2, 0, 9]]))).tolist() == [["a", "b", "[UNK]", "[UNK]"]]


def texts_and_labels():
    texts = np.array(["good film", "bad film", "very good", "very bad", "good good", "bad bad bad"] * 6, object)
    return texts, np.array([1, 0, 1, 0, 1, 0] * 6)


@pytest.mark.parametrize("with_input", [True, False])
def test_a_model_that_reads_texts(with_input, tmp_path):
    texts, labels = texts_and_labels()
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(texts)
    head = [keras.Input((1,), dtype="string")] if with_input else []
    body = [layers.Embedding(10, 4), layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([*head, vectorize, *body])
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy", metrics=["accuracy"])
    model.fit(texts[:, None] if with_input else texts, labels, epochs=15, verbose=0, validation_split=0.2)
    found = model.predict(texts, verbose=0)
    assert ((found[:, 0] > 0.5) == labels).all()
    np.testing.assert_allclose(found, model(texts), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, model(list(texts)), rtol=1e-5, atol=1e-6)
    assert model.evaluate(texts, labels, verbose=0)[1] == 1.0
    assert model.train_on_batch(texts[:4], labels[:4]) is not None
    np.testing.assert_allclose(model.predict_on_batch(texts[:3]).shape, (3, 1))
    batches = ((texts[i : i + 6], labels[i : i + 6]) for i in range(0, 36, 6))
    model.fit(batches, epochs=1, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(again.predict(texts, verbose=0), model.predict(texts, verbose=0))


def test_crossed_features():
    word, place = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="int64")
    hot = layers.HashedCrossing(4, output_mode="one_hot")([word, place])
    model = keras.Model([word, place], layers.Dense(2)(hot))
    data = [np.array([["a"], ["b"], ["a"]], object), np.array([[1], [1], [2]])]
    agree(model, data, np.zeros((3, 2), "float32"))


def test_strings_beside_numbers():
    words, numbers = keras.Input((1,), dtype="string", name="word"), keras.Input((2,), name="number")
    hot = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(words)
    y = layers.Dense(1)(layers.Concatenate()([layers.Lambda(lambda x: keras.ops.cast(x, "float32"))(hot), numbers]))
    model = keras.Model([words, numbers], y)
    model.compile("sgd", "mse")
    data = {"word": np.array([["a"], ["z"], ["b"]], object), "number": np.ones((3, 2), "f")}
    np.testing.assert_allclose(model.predict(data, verbose=0), model(data), rtol=1e-6)
    model.fit(data, np.zeros((3, 1), "f"), verbose=0)
    assert [t.dtype for t in model.program_inputs] == ["float32", "int64"]


def agree(model, data, labels):
    """Compiled, interpreted eagerly, and in a training step."""
    expected = np.asarray(model(data))
    np.testing.assert_allclose(model.predict(data, verbose=0), expected, rtol=1e-5, atol=1e-6)
    model.compile("sgd", "mse")
    loss = model.evaluate(data, labels, verbose=0)
    np.testing.assert_allclose(loss, ((expected - labels) ** 2).mean(), rtol=1e-5)
    model.fit(data, labels, batch_size=2, verbose=0)


def test_layers_on_strings_in_nested_models(tmp_path):
    words = np.array([["a"], ["z"], ["b"]], object)
    numbers = np.ones((3, 2), np.float32)
    labels = np.zeros((3, 1), np.float32)
    first = keras.Sequential(
        [keras.Input((1,), dtype="string"), layers.StringLookup(vocabulary=["a", "b"]), layers.Embedding(3, 2)]
    )
    first = keras.Sequential([first, layers.Flatten()])  # twice nested, and all of it first
    agree(keras.Sequential([first, layers.Dense(1)]), words, labels)

    word, number = keras.Input((1,), dtype="string"), keras.Input((2,))
    hashed = layers.Hashing(5, output_mode="one_hot")(word)
    looked_up = layers.StringLookup(vocabulary=["a", "b"])
    inner = keras.Model(
        [word, number], [layers.Concatenate()([hashed, number]), layers.Embedding(4, 2)(looked_up(word))]
    )
    word, other, number = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="string"), keras.Input((2,))
    hidden = layers.Dense(2)(number)  # the nested model reads what is compiled beside what is not
    (a, b), (c, d) = inner([word, hidden]), inner([other, number])
    y = layers.Dense(1)(layers.Concatenate()([a, layers.Flatten()(b), c, layers.Flatten()(d)]))
    model = keras.Model([word, other, number], y)
    agree(model, [words, words[::-1], numbers], labels)
    assert len(model.program_inputs) == 5 and all(t.dtype != "string" for t in model.program_inputs)
    path = str(tmp_path / "model.keras")
    model.save(path)
    data = [words, words[::-1], numbers]
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))


class Texts(keras.Model):
    """Strings, whole and in part, integers that are cast first, and numbers, in one `call`."""

    def __init__(self):
        super().__init__()
        self.look = layers.StringLookup(vocabulary=["a", "b"])
        self.vectorize = keras.Sequential([layers.TextVectorization(vocabulary=["good"], output_sequence_length=3)])
        self.hashing = layers.Hashing(7, output_mode="one_hot")
        self.words, self.texts, self.dense = layers.Embedding(5, 3), layers.Embedding(6, 3), layers.Dense(1)

    def call(self, x):
        word = self.words(self.look(x["word"][:, 0]))
        text = keras.ops.mean(self.texts(self.vectorize(x["text"])), axis=1)
        place = keras.ops.cast(self.hashing(keras.ops.cast(x["place"], "int64")), "float32")
        return self.dense(keras.ops.concatenate([word, text, place, x["number"]], axis=-1))


class WithStep(Texts):
    def train_step(self, data):
        x, y = data
        with keras.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables))
        return {"loss": loss}


def texts_and_numbers(rows=6):
    data = {
        "word": np.array([["a"], ["z"]] * (rows // 2), object),
        "text": np.array(["good film", "bad"] * (rows // 2)),
        "place": np.arange(rows)[:, None],
        "number": np.linspace(0, 1, rows * 2).reshape(rows, 2),
    }
    return data, np.ones((rows, 1), np.float32)


def test_strings_inside_subclassed_models(tmp_path):
    data, labels = texts_and_numbers()
    model = Texts()
    model.compile("sgd", "mse")
    assert np.isfinite(model.predict(data, verbose=0)).all()  # before anything is built
    agree(model, data, labels)
    first = {k: v[:2] for k, v in data.items()}
    for _ in range(2):  # the prepared step is not for what users give
        np.testing.assert_allclose(model.predict_on_batch(first), model(first), rtol=1e-5, atol=1e-6)
    batches = (({k: v[i : i + 2] for k, v in data.items()}, labels[i : i + 2]) for i in (0, 2, 4))
    model.fit(batches, verbose=0, validation_data=(data, labels))
    assert check(model).ok and "before the program" in str(check(model))
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path, custom_objects={"Texts": Texts})
    assert check(again).ok
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))
    again.compile("sgd", "mse")
    own = WithStep()
    own.compile("sgd", "mse")
    own(data)
    own.set_weights(model.get_weights())
    again.fit(data, labels, batch_size=3, shuffle=False, verbose=0)
    own.fit(data, labels, batch_size=3, shuffle=False, verbose=0)
    for ours, other in zip(own.get_weights(), again.get_weights()):
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6)


def test_a_subclassed_model_with_strings_in_a_functional_one(tmp_path):
    data, labels = texts_and_numbers()
    inputs = {
        "word": keras.Input((1,), dtype="string", name="word"),
        "text": keras.Input((), dtype="string", name="text"),
        "place": keras.Input((1,), dtype="int64", name="place"),
        "number": keras.Input((2,), name="number"),
    }
    model = keras.Model(inputs, layers.Dense(1)(Texts()(inputs)))
    assert check(model).ok
    agree(model, data, labels)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path, custom_objects={"Texts": Texts})
    np.testing.assert_array_equal(again.predict(data, verbose=0), model.predict(data, verbose=0))


class On(keras.Model):
    """A function of a Hashing layer as a model."""

    def __init__(self, function):
        super().__init__()
        self.hashing, self.dense, self.function = layers.Hashing(3, name="bins"), layers.Dense(1), function

    def call(self, x, training=False):
        return self.function(self, x, training)


def test_strings_where_they_cannot_be_are_refused_by_name():
    numbers = np.array([[1], [2]], np.int32)
    np.testing.assert_array_equal(
        On(lambda m, x, _: m.hashing(x)).predict(numbers, verbose=0), layers.Hashing(3)(numbers)
    )
    late = On(lambda m, x, _: m.hashing(keras.ops.cast(m.dense(x), "int32")))
    with pytest.raises(NotSupportedError, match=r"'bins' \(Hashing\) runs in Python.*reads the result of 'add'"):
        late.predict(numbers, verbose=0)
    more = On(lambda m, x, training: keras.ops.cast(m.hashing(m.hashing(x)) if training else m.hashing(x), "float32"))
    more.compile("sgd", "mse")
    with pytest.raises(NotSupportedError, match=r"'bins'.*called more often"):
        more.fit(numbers, numbers, verbose=0)
    words = np.array([["a"]], object)
    with pytest.raises(NotSupportedError, match=r"output .* is strings"):
        On(lambda m, x, _: (x, m.hashing(x))).predict(words, verbose=0)
    with pytest.raises(KcompileError, match=r"(?s)holds no strings.*'on"):
        On(lambda m, x, _: keras.ops.exp(x)).predict(words, verbose=0)
    with pytest.raises(KcompileError, match=r"(?s)holds no strings.*time_distributed"):
        layers.TimeDistributed(layers.StringLookup(vocabulary=["a"]))(keras.Input((4, 1), dtype="string"))
    with pytest.raises(KcompileError, match=r"(?s)holds no strings.*dense"):
        layers.Dense(2)(keras.Input((1,), dtype="string"))


def test_what_is_wrong_is_said():
    with pytest.raises(KcompileError, match="vocabulary of layer"):
        layers.StringLookup()(["a"])
    with pytest.raises(ArgumentError, match="repeated"):
        layers.StringLookup(vocabulary=["a", "a"])
    with pytest.raises(ArgumentError, match="OOV values 'z'"):
        layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["z"])
    with pytest.raises(KcompileError, match="Cannot adapt"):
        layers.TextVectorization(vocabulary=["a"]).adapt(["b"])
    with pytest.raises(ArgumentError, match="equal shape"):
        layers.HashedCrossing(3)((np.array(["a"]), np.array(["a", "b"])))
    with pytest.raises(NotSupportedError, match="ragged"):
        layers.TextVectorization(ragged=True)


def test_layers_with_weights_do_not_run_on_the_host():
    """A network that words come out of would run there layer by layer; frozen or not, that is refused."""
    x = keras.Input((3,))
    dense = layers.Dense(2)
    dense.trainable = False
    words = layers.StringLookup(vocabulary=["no", "yes"], invert=True, num_oov_indices=0)
    with pytest.raises(NotSupportedError, match="runs in Python, before the compiled program"):
        model = keras.Model(x, words(keras.ops.argmax(dense(x), axis=-1)))
        model.predict(np.ones((2, 3), "float32"), verbose=0)
