"""Names of tf.keras 2 and less known ones of Keras 3: generators, classes, pure calls, queues, K.gradients."""

import threading

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import backend as K
from kcompile.keras import layers, ops

RNG = np.random.default_rng(0)
X = RNG.standard_normal((8, 3)).astype("f")


def classifier(units, activation):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(units, activation=activation)])
    model.compile("sgd", "mse", jit=False)
    return model


def test_generators():
    def batches():
        while True:
            yield X, np.zeros((8, 2), "f")

    model = classifier(2, None)
    assert model.jit_compile is False
    with pytest.warns(DeprecationWarning, match="fit_generator.*Model.fit"):
        history = model.fit_generator(batches(), steps_per_epoch=2, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    with pytest.warns(DeprecationWarning, match="evaluate_generator"):
        found = model.evaluate_generator(batches(), steps=1)
    assert found == model.evaluate(X, np.zeros((8, 2), "f"), verbose=0)
    with pytest.warns(DeprecationWarning, match="predict_generator"):
        np.testing.assert_array_equal(model.predict_generator(batches(), steps=1), model.predict(X, verbose=0))


def test_classes():
    several, one = classifier(4, "softmax"), classifier(1, "sigmoid")
    with pytest.warns(DeprecationWarning, match="argmax"):
        np.testing.assert_array_equal(several.predict_classes(X), several.predict(X, verbose=0).argmax(-1))
        np.testing.assert_array_equal(one.predict_classes(X), (one.predict(X, verbose=0) > 0.5).astype("int32"))
        np.testing.assert_array_equal(one.predict_proba(X), one.predict(X, verbose=0))
    with pytest.warns(UserWarning, match="invalid probability"):
        classifier(2, None).predict_proba(100.0 * X)


def test_states_of_all_layers():
    model = keras.Sequential([keras.Input((2, 3), batch_size=8), layers.SimpleRNN(2, stateful=True), layers.Dense(1)])
    x = RNG.standard_normal((8, 2, 3)).astype("f")
    first = model(x).numpy()
    assert not np.allclose(model(x), first)
    model.reset_states()
    np.testing.assert_array_equal(model(x), first)


def test_nodes_masks_and_metrics():
    class Counted(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seen = keras.metrics.Mean(name="seen")

        def call(self, x):
            return x

    x = keras.Input((4,), dtype="int32")
    embedding, dense = layers.Embedding(5, 2, mask_zero=True), layers.Dense(2)
    dense(embedding(x))
    assert [len(embedding.inbound_nodes), len(embedding.outbound_nodes), len(dense.outbound_nodes)] == [1, 1, 0]
    assert embedding.get_input_mask_at(0) is None
    assert dense.get_input_mask_at(0).shape == dense.get_output_mask_at(0).shape == (None, 4)
    assert [m.name for m in Counted().metrics] == ["seen"] and dense.metrics == []
    assert Counted().add_variable((2,), "ones", name="w").shape == (2,)


def network(k):
    return k.Sequential(
        [k.Input((3,)), k.layers.BatchNormalization(), k.layers.Dense(2, activity_regularizer="l2", name="last")]
    )


def test_stateless_call(real_keras):
    ours, theirs = network(keras), network(real_keras)
    values = [RNG.uniform(0.5, 1.0, w.shape).astype("f") for w in theirs.weights]
    found = []
    for model in (ours, theirs):
        model.set_weights(values)
        trained = [2.0 * np.asarray(v) for v in model.trainable_variables]
        fixed = [np.asarray(v) for v in model.non_trainable_variables]
        found.append(model.stateless_call(trained, fixed, X, training=True, return_losses=True))
        for kept, value in zip(model.get_weights(), values, strict=True):
            np.testing.assert_array_equal(kept, value)
    for mine, other in zip(found[0], found[1], strict=True):
        for a, b in zip(keras.tree.flatten(mine), keras.tree.flatten(other), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-5)
    assert len(ours.stateless_call(ours.trainable_variables, ours.non_trainable_variables, X)) == 2
    with pytest.raises(ArgumentError, match=r"`trainable_variables`.*Received 1, expected 4"):
        ours.stateless_call([0.0], [], X)


def test_pure_calls_and_gradients_inside_a_step():
    """One step of descent on the inner weights, then the loss there: a gradient through a gradient's result."""

    class Ahead(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(1, use_bias=False, kernel_initializer="ones")

        def call(self, x):
            now = self.inner(x)
            (gradient,) = K.gradients(ops.mean(ops.square(now)), [self.inner.kernel])
            (moved, _) = self.inner.stateless_call([self.inner.kernel - 0.1 * gradient], [], x)
            return moved

    model = Ahead()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x, y = X[:4], np.zeros((4, 1), "f")
    w = np.ones((3, 1), "f")
    step = np.eye(3) - 0.2 * x.T @ x / 4  # what one step makes of the kernel
    moved = x @ step @ w
    np.testing.assert_allclose(model.predict(x, verbose=0), moved, rtol=1e-4, atol=1e-5)
    model.train_on_batch(x, y)
    expected = w - 0.5 * 2.0 * step.T @ x.T @ moved / 4
    np.testing.assert_allclose(model.inner.kernel.numpy(), expected, rtol=1e-4, atol=1e-5)
    for loss in (1.0, keras.Input((3,))):
        with pytest.raises(NotSupportedError, match="train_step"):
            K.gradients(loss, [])


def test_queues():
    class Rows(keras.utils.Sequence):
        def __len__(self):
            return 5

        def __getitem__(self, n):
            return n, threading.get_ident()

    ordered = keras.utils.OrderedEnqueuer(Rows())
    ordered.start(workers=2, max_queue_size=2)
    source = ordered.get()
    assert [next(source)[0] for _ in range(7)] == [0, 1, 2, 3, 4, 0, 1]
    assert next(source)[1] != threading.get_ident()
    ordered.stop()
    assert not ordered.is_running()

    def failing():
        yield 1
        raise ZeroDivisionError

    queue = keras.utils.GeneratorEnqueuer(failing())
    queue.start()
    source = queue.get()
    assert next(source) == 1
    with pytest.raises(ZeroDivisionError):
        next(source)
    plain = keras.utils.GeneratorEnqueuer(iter(range(20)))
    plain.start(max_queue_size=3)
    assert list(plain.get()) == list(range(20))
    plain.stop()
