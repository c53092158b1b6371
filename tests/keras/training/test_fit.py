"""fit, evaluate, predict: the worked examples D-12, D-13, W-10, W-14, and every form of arguments."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers, ops


def constant_model(value=0.0, outputs=1):
    return keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(outputs, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(value)),
        ]
    )


# D-12 ------------------------------------------------------------------------------------------------


def test_d12_sgd(jit):
    x, y = np.zeros((100, 1)), np.ones((100, 1))
    model = keras.Sequential([layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"], jit=jit)
    history = model.fit(x, y, batch_size=5, epochs=2, validation_split=0.2, verbose=0).history
    np.testing.assert_allclose(history["loss"], [0.7514471, 0.3936705], atol=1e-5)
    np.testing.assert_allclose(history["mae"], [0.8631322, 0.6247332], atol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [0.5238832, 0.2744536], atol=1e-5)
    np.testing.assert_allclose(history["val_mae"], [0.7237977, 0.5238832], atol=1e-5)
    assert float(model.layers[-1].bias[0]) == pytest.approx(1 - 0.98**32, abs=1e-5)


def test_d12_adam(jit):
    x, y = np.zeros((100, 1)), np.ones((100, 1))
    model = keras.Sequential([layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], jit=jit)
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], [0.8233883, 0.5127485], atol=1e-5)
    np.testing.assert_allclose(history["mae"], [0.9056140, 0.7141058], atol=1e-5)
    assert float(model.layers[-1].bias[0]) == pytest.approx(0.3802436, abs=1e-5)


# D-13 ------------------------------------------------------------------------------------------------


def test_d13_sample_weights(jit):
    model = constant_model()
    model.compile("sgd", "mse", metrics=["mae"], jit=jit)
    loss, mae = model.evaluate(np.zeros((4, 2)), np.ones((4, 1)), sample_weight=np.array([1, 2, 3, 4]), verbose=0)
    assert (loss, mae) == pytest.approx((2.5, 1.0), abs=1e-5)


def test_d13_class_weights(jit):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, kernel_initializer="zeros", activation="softmax")])
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
        jit=jit,
    )
    history = model.fit(np.zeros((4, 2)), np.array([0, 0, 0, 1]), class_weight={0: 1, 1: 3}, verbose=0).history
    assert history["loss"][0] == pytest.approx(1.0397208, abs=1e-5)
    assert history["accuracy"][0] == pytest.approx(0.75)
    assert history["weighted_accuracy"][0] == pytest.approx(0.5)


def test_d13_loss_weights(jit):
    x = keras.Input((2,))
    far = layers.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(2.0), name="far")
    near = layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones", name="near")
    model = keras.Model(x, [far(x), near(x)])
    model.compile("sgd", ["mse", "mae"], loss_weights=[1, 0.5], jit=jit)
    found = model.evaluate(np.zeros((3, 2)), [np.zeros((3, 1))] * 2, verbose=0, return_dict=True)
    assert found == pytest.approx({"loss": 4.5, "far_loss": 4.0, "near_loss": 1.0}, abs=1e-5)


def test_d13_odd_last_batch(jit):
    model = constant_model()
    model.compile("sgd", "mse", metrics=["mae"], jit=jit)
    found = model.evaluate(np.zeros((5, 2)), np.arange(5.0).reshape(5, 1), batch_size=2, verbose=0)
    assert found == pytest.approx([6.0, 2.0], abs=1e-5)


def test_d13_regularizer(jit):
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, kernel_initializer="ones", kernel_regularizer=keras.regularizers.L2(0.1))]
    )
    model.compile("sgd", "mse", jit=jit)
    assert model.evaluate(np.zeros((4, 2)), np.zeros((4, 1)), verbose=0) == pytest.approx(0.2, abs=1e-6)


# whole scripts -----------------------------------------------------------------------------------------


def test_w10_regularized_layers_train(jit):
    l2, l1_l2 = keras.regularizers.l2(0.001), keras.regularizers.l1_l2(l1=0.001, l2=0.001)
    model = keras.Sequential(
        [
            keras.Input((50,)),
            layers.Dense(16, activation="relu", kernel_regularizer=l2),
            layers.Dense(16, activation="relu", kernel_regularizer=l1_l2),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("rmsprop", "binary_crossentropy", metrics=["acc"], jit=jit)
    x, y = np.random.default_rng(0).random((20, 50)), np.random.default_rng(1).integers(0, 2, 20)
    history = model.fit(x, y, epochs=2, verbose=0).history
    bare = keras.losses.binary_crossentropy(y.reshape(-1, 1).astype("float32"), model.predict(x))
    assert model.evaluate(x, y, verbose=0)[0] > float(ops.mean(bare))  # the penalty is part of the loss
    assert set(history) == {"loss", "acc"}


def test_w14_digits_script(jit):
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 28, 28)), rng.integers(0, 10, 40)
    model = keras.Sequential(
        [layers.Flatten(input_shape=(28, 28)), layers.Dense(128, activation="relu"), layers.Dense(10, "softmax")]
    )
    assert model.count_params() == 101_770
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit=jit)
    history = model.fit(x, y, epochs=10, batch_size=32, validation_split=0.2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert model.predict(x[:3]).shape == (3, 10)


def test_w14_subclassed_model(jit):
    class MLP(keras.Model):
        def __init__(self, use_bn=False, use_dp=False, num_classes=3):
            super().__init__(name="mlp")
            self.dense1 = layers.Dense(8, activation="relu")
            self.dense2 = layers.Dense(num_classes, activation="softmax")
            self.dp = layers.Dropout(0.5) if use_dp else None
            self.bn = layers.BatchNormalization(axis=-1) if use_bn else None

        def call(self, inputs):
            x = self.dense1(inputs)
            x = self.dp(x) if self.dp else x
            x = self.bn(x) if self.bn else x
            return self.dense2(x)

    model = MLP(use_bn=True, use_dp=True)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit=jit)
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 5)), np.eye(3)[rng.integers(0, 3, 30)]
    history = model.fit(x, y, epochs=2, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.bn.moving_mean.numpy().any()


def test_w14_dense_activation_chain(jit):
    model = keras.Sequential()
    model.add(layers.Dense(4, input_dim=3))
    model.add(layers.Activation("relu"))
    model.add(layers.Dense(1))
    model.add(layers.Activation("sigmoid"))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"], jit=jit)
    x, y = np.random.default_rng(0).random((10, 3)), np.array([0, 1] * 5)
    model.fit(x, y, verbose=0)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss > 0 and 0 <= accuracy <= 1


# forms of arguments --------------------------------------------------------------------------------------


def two_outputs(**options):
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    both = layers.Concatenate()([a, b])
    p, q = layers.Dense(1, name="p")(both), layers.Dense(2, activation="softmax", name="q")(both)
    model = keras.Model([a, b], [p, q])
    model.compile("sgd", **options, jit=False)
    return model


X = [np.ones((5, 2), "float32"), np.ones((5, 3), "float32")]
Y = [np.ones((5, 1), "float32"), np.eye(2, dtype="float32")[[0, 1, 0, 1, 0]]]


@pytest.mark.parametrize(
    "metrics, expected",
    [
        ({"p": "mae", "q": ["accuracy", "mse"]}, ["p_mae", "q_accuracy", "q_mse"]),
        ([["mae"], ["accuracy", "mse"]], ["p_mae", "q_accuracy", "q_mse"]),
        (["mae", ["accuracy", "mse"]], ["p_mae", "q_accuracy", "q_mse"]),
        ([None, "accuracy"], ["q_accuracy"]),
        ({"q": "accuracy"}, ["q_accuracy"]),
        (["mse"], ["p_mse", "q_mse"]),
    ],
)
def test_metric_forms(metrics, expected):
    model = two_outputs(loss=["mse", "categorical_crossentropy"], metrics=metrics)
    model.fit(X, Y, verbose=0)
    assert model.metrics_names == ["loss", "p_loss", "q_loss", *expected]
    assert len(model.evaluate(X, Y, verbose=0)) == 3 + len(expected)


@pytest.mark.parametrize(
    "loss, weights",
    [
        (["mse", "categorical_crossentropy"], [1.0, 0.5]),
        ({"p": "mse", "q": "categorical_crossentropy"}, {"p": 1.0, "q": 0.5}),
        ({"q": keras.losses.CategoricalCrossentropy(), "p": keras.losses.mse}, [1.0, 0.5]),
    ],
)
@pytest.mark.parametrize("as_dict", [False, True])
def test_loss_and_data_forms(loss, weights, as_dict):
    keras.utils.set_random_seed(3)
    model = two_outputs(loss=loss, loss_weights=weights)
    x = {"b": X[1], "a": X[0]} if as_dict else X
    y = {"q": Y[1], "p": Y[0]} if as_dict else tuple(Y)
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(found["p_loss"] + 0.5 * found["q_loss"], rel=1e-5)
    predicted = model.predict(x)
    assert [p.shape for p in predicted] == [(5, 1), (5, 2)]
    assert found["p_loss"] == pytest.approx(float(np.mean((predicted[0] - Y[0]) ** 2)), rel=1e-5)


def test_loss_of_one_output_only():
    model = two_outputs(loss=["mse", None])
    for y in (Y[0], [Y[0]], {"p": Y[0]}):
        model.fit(X, y, verbose=0)
    assert model.metrics_names == ["loss"]


def test_third_positional_argument_of_compile():
    weights = two_outputs(loss="mse")
    weights.compile("sgd", ["mse", "mse"], [1.0, 0.25], jit=False)
    found = weights.evaluate(X, Y, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(found["p_loss"] + 0.25 * found["q_loss"], rel=1e-5)
    model = constant_model()
    model.compile("sgd", "mse", ["mae"], jit=False)
    assert set(model.evaluate(X[0], Y[0], verbose=0, return_dict=True)) == {"loss", "mae"}


def test_generators_sequences_and_iterables():
    model = constant_model()
    model.compile("sgd", "mse", metrics=["mae"], jit=False)
    x, y = np.zeros((6, 2), "float32"), np.arange(6, dtype="float32")[:, None]
    expected = model.evaluate(x, y, batch_size=2, verbose=0)

    class Batches(keras.utils.Sequence):
        passes = 0

        def __len__(self):
            return 3

        def __getitem__(self, i):
            return x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2]

        def on_epoch_end(self):
            self.passes += 1

    batches = Batches()
    assert model.evaluate(batches, verbose=0) == pytest.approx(expected)
    assert model.evaluate([batches[i] for i in range(3)].__iter__(), verbose=0, steps=3) == pytest.approx(expected)
    model.fit(batches, epochs=2, verbose=0, workers=2, max_queue_size=3, use_multiprocessing=False)
    assert batches.passes == 3
    np.testing.assert_array_equal(model.predict(batches), model.predict(x))

    def endless():
        while True:
            yield x[:2], y[:2], np.ones(2, "float32")

    options = {"validation_data": endless(), "validation_steps": 2, "verbose": 0}
    history = model.fit(endless(), steps_per_epoch=4, epochs=2, **options)
    assert set(history.history) == {"loss", "mae", "val_loss", "val_mae"}
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(((x, y) for _ in range(3)), steps_per_epoch=2, epochs=2, verbose=0)


def test_validation_frequency():
    model = constant_model()
    model.compile("sgd", "mse", jit=False)
    x, y = np.zeros((4, 2)), np.ones(4)
    options = {"validation_data": (x, y), "epochs": 5, "verbose": 0}
    assert len(model.fit(x, y, validation_freq=2, **options).history["val_loss"]) == 2
    assert len(model.fit(x, y, validation_freq=[1, 2, 10], **options).history["val_loss"]) == 2


def test_shuffling_is_seeded_and_covers_all_rows():
    from kcompile.keras.training.data import ArrayData

    data = ArrayData(np.arange(10)[:, None], batch_size=3, shuffle=True)
    first = data.order(np.random.default_rng(0))
    np.testing.assert_array_equal(first, data.order(np.random.default_rng(0)))
    assert sorted(first) == list(range(10)) and list(first) != list(range(10))
    data.shuffle = "batch"
    chunks = data.order(np.random.default_rng(1))
    assert {tuple(chunks[i : i + 3]) for i in (0, 3, 6)} == {(0, 1, 2), (3, 4, 5), (6, 7, 8)}
    assert chunks[9] == 9


def test_train_on_batch_resets_or_accumulates(jit):
    model = constant_model(1.0)
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"], jit=jit)
    x = np.zeros((2, 2), "float32")
    zeros, threes = np.zeros((2, 1), "float32"), np.full((2, 1), 3, "float32")
    assert model.train_on_batch(x, zeros) == pytest.approx([1.0, 1.0])
    assert model.train_on_batch(x, threes) == pytest.approx([4.0, 2.0])
    assert model.train_on_batch(x, zeros, reset_metrics=False) == pytest.approx([2.5, 1.5])
    assert model.test_on_batch(x, threes, return_dict=True) == pytest.approx({"loss": 4.0, "mae": 2.0})
    assert model.train_on_batch(x.tolist(), [[0], [3]], sample_weight=[2, 0]) == pytest.approx([1.0, 1.5])
    np.testing.assert_array_equal(model.predict_on_batch(x), np.ones((2, 1)))


class Doubled(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * ops.mean(ops.square(y - y_pred))


class DoubledAsBefore(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 2.0 * ops.mean(ops.square(y - y_pred))


class DoubledByName(keras.Model):
    def compute_loss(self, y, y_pred, **others):
        return 2.0 * ops.mean(ops.square(y - y_pred))


@pytest.mark.parametrize("kind", [Doubled, DoubledAsBefore, DoubledByName])
def test_custom_loss_metric_and_compute_loss(kind):
    inputs = keras.Input((2,))
    model = kind(inputs, layers.Dense(1, kernel_initializer="zeros")(inputs))

    def largest(y_true, y_pred):
        return ops.max(ops.abs(y_true - y_pred), axis=-1)

    model.compile("sgd", metrics=[largest], jit=False)
    found = model.evaluate(np.zeros((3, 2)), np.ones((3, 1)), verbose=0, return_dict=True)
    assert found == pytest.approx({"loss": 2.0, "largest": 1.0})


def test_frozen_layers_stay(jit):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile("adam", "mse", jit=jit)
    before = model.get_weights()
    x, y = np.ones((4, 2)), np.ones((4, 1))
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[2] != after[2]).any()
    model.layers[0].trainable = True
    model.compile("adam", "mse", jit=jit)
    model.fit(x, y, verbose=0)
    assert (model.get_weights()[0] != after[0]).any()
    model.predict(x)


def test_models_that_share_layers_see_each_others_updates(jit):
    inputs = keras.Input((2,))
    shared = layers.Dense(3, name="shared")
    first = keras.Model(inputs, layers.Dense(1)(shared(inputs)))
    second = keras.Model(inputs, layers.Dense(2)(shared(inputs)))
    encoder = keras.Model(inputs, shared(inputs))
    x = np.ones((4, 2), "float32")
    first.compile("adam", "mse", jit=jit)
    second.compile("adam", "mse", jit=jit)
    encoder.compile(jit=jit)
    seen = [encoder.predict(x)]
    for model, width in ((first, 1), (second, 2), (first, 1)):
        model.fit(x, np.zeros((4, width)), verbose=0)
        seen.append(encoder.predict(x))
        np.testing.assert_allclose(seen[-1], x @ shared.kernel.numpy() + shared.bias.numpy(), rtol=1e-5)
        assert (seen[-1] != seen[-2]).any()


def test_any_memory_layout_of_the_same_numbers(jit):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse", jit=jit)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = model.predict(x, verbose=0)
    others = [np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f4"), x.astype("f8"), x.astype("i2")]
    for other in [*others, x.tolist(), x.astype(">i8"), x[::-1][::-1]]:
        np.testing.assert_array_equal(model.predict(other, verbose=0), expected)
        np.testing.assert_array_equal(model.predict_on_batch(other), expected)


def test_rows_stay_in_order_if_steps_are_given():
    seen = []

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile("sgd", "mae")
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    x = np.zeros((8, 1), np.float32)
    y = np.arange(8, dtype=np.float32)[:, None]
    model.fit(x, y, batch_size=2, steps_per_epoch=4, verbose=0, callbacks=[watch])
    np.testing.assert_allclose(seen, [0.5, 1.5, 2.5, 3.5])  # running means
    model.fit(x, y, batch_size=2, steps_per_epoch=2, epochs=2, verbose=0, callbacks=[watch])
    np.testing.assert_allclose(seen[4:], [0.5, 1.5, 4.5, 5.5])


def test_epochs_are_limited_by_the_setting():
    model = constant_model()
    model.compile("sgd", "mse")
    keras.config.set_max_epochs(2)
    try:
        assert len(model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=5, verbose=0).history["loss"]) == 2
    finally:
        keras.config.set_max_epochs(None)


class TrainsDifferently(keras.callbacks.Callback):
    """In the middle of an epoch it freezes a layer, compiles again and makes a step, which moves the weights."""

    def __init__(self, x, y):
        super().__init__()
        self.data, self.seen = (x, y), []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights())
        if batch == 2:
            self.model.layers[0].trainable = False
            self.model.compile("sgd", "mse")
            self.model.train_on_batch(*self.data)


def test_a_callback_may_compile_and_train_in_the_middle_of_an_epoch(jit):
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 3)).astype("float32"), rng.random((24, 2)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)])
    model.compile("adam", "mse", jit=jit)
    watch = TrainsDifferently(x[:4], y[:4])
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[watch])
    moved = [[not np.array_equal(a, b) for a, b in zip(*pair)] for pair in zip(watch.seen, watch.seen[1:])]
    assert moved == 2 * [[True] * 4] + 3 * [[False, False, True, True]]
