"""Models that write their own steps: gradients by tape, several optimizers, logs, and what is refused."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import layers, ops

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(24, 5)).astype("float32"), rng.normal(size=(24, 1)).astype("float32")


def net(cls=keras.Model):
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1))(inputs)
    last = layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(2), name="last")
    return cls(inputs, last(hidden))


class ByTape(keras.Model):
    def train_step(self, data):
        x, y = data
        with keras.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.shape(x)[0])
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("jit", [True, False])
def test_a_step_by_tape_is_the_built_in_step(optimizer, jit):
    plain, own = net(), net(ByTape)
    for model in (plain, own):
        model.compile(optimizer, "mse", metrics=["mae"], jit=jit)
    first = plain.fit(X, Y, batch_size=7, epochs=2, verbose=0, shuffle=False).history
    second = own.fit(X, Y, batch_size=7, epochs=2, verbose=0, shuffle=False).history
    assert list(first) == list(second) == ["loss", "mae"]
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6)
    for a, b in zip(plain.get_weights(), own.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(plain.train_on_batch(X, Y), own.train_on_batch(X, Y), rtol=1e-5)


def test_an_own_step_with_one_optimizer_moves_the_whole_arena_at_once():
    model = net(ByTape)
    model.compile("adam", "mse")
    model.train_on_batch(X, Y)
    (program,) = model._training.programs._found.values()
    assert "params" in program.traced.graph.sources


def test_a_step_may_call_the_built_in_one_and_return_more():
    class More(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "rows": ops.shape(data[0])[0], "twice": 2.0 * logs["loss"]}

        def test_step(self, data):
            return {"largest": ops.max(ops.abs(data[1] - self(data[0], training=False)))}

        def predict_step(self, data):
            return 3.0 * super().predict_step(data)

    model = net(More)
    model.compile("sgd", "mse")
    history = model.fit(
        X, Y, batch_size=8, epochs=2, verbose=0, validation_data=(X, Y), callbacks=[seen := Logs()]
    ).history
    assert list(history) == ["loss", "rows", "twice", "val_largest"]
    assert history["rows"] == [8.0, 8.0]
    np.testing.assert_allclose(history["twice"], 2 * np.array(history["loss"]), rtol=1e-6)
    assert seen.names == ["loss", "rows", "twice"]
    outputs = model(X)
    assert model.evaluate(X, Y, verbose=0, batch_size=24) == pytest.approx(float(np.abs(Y - outputs).max()), rel=1e-5)
    np.testing.assert_allclose(model.predict(X), 3.0 * np.asarray(outputs), rtol=1e-5)


class Denoiser(keras.Model):
    """Makes its targets itself, and uses the compiled loss for them; its labels, if any, are of another kind."""

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with keras.GradientTape() as tape:
            loss = self.loss(ops.zeros((ops.shape(x)[0],), "int32"), self(x, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables))
        return {"own": loss}

    def test_step(self, data):
        return {"own": self.loss(ops.zeros((ops.shape(data)[0],), "int32"), self(data, training=False))}


def test_steps_of_ones_own_need_no_targets():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    model = Denoiser(model.inputs, model.outputs)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(X, batch_size=24, epochs=2, validation_data=X, verbose=0).history
    assert list(history) == ["own", "val_own"] and history["own"][1] < history["own"][0]
    assert np.isfinite(model.evaluate(X, verbose=0))
    model.fit(X, np.full(len(X), 9), verbose=0)  # no class of the loss: it is the step that knows what they mean
    plain = net()
    plain.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="no targets"):
        plain.fit(X, verbose=0)


class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y_pred))


def test_a_loss_of_ones_own_needs_no_targets():
    model = net(OwnLoss)
    model.compile("sgd", "mse")
    history = model.fit(X, batch_size=8, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


class Logs(keras.callbacks.Callback):
    names = None

    def on_train_batch_end(self, batch, logs=None):
        self.names = list(logs)


def test_two_optimizers_take_turns():
    class Gan(keras.Model):
        """The classic: a discriminator on real and made rows, then a generator against it."""

        def __init__(self, discriminator, generator):
            super().__init__()
            self.discriminator, self.generator = discriminator, generator
            self.noise = keras.random.SeedGenerator(7)
            self.d_total, self.g_total = keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn

        @property
        def metrics(self):
            return [self.d_total, self.g_total]

        def train_step(self, real):
            rows = ops.shape(real)[0]
            made = self.generator(keras.random.normal((rows, 2), seed=self.noise))
            both = ops.concatenate([made, real], axis=0)
            labels = ops.concatenate([ops.ones((rows, 1)), ops.zeros((rows, 1))], axis=0)
            with keras.GradientTape() as tape:
                d_loss = self.loss_fn(labels, self.discriminator(both))
            gradients = tape.gradient(d_loss, self.discriminator.trainable_weights)
            self.d_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_weights))
            with keras.GradientTape() as tape:
                made = self.generator(keras.random.normal((rows, 2), seed=self.noise))
                g_loss = self.loss_fn(ops.zeros((rows, 1)), self.discriminator(made))
            gradients = tape.gradient(g_loss, self.generator.trainable_weights)
            self.g_optimizer.apply_gradients(zip(gradients, self.generator.trainable_weights))
            self.d_total.update_state(d_loss)
            self.g_total.update_state(g_loss)
            return {"d_loss": self.d_total.result(), "g_loss": self.g_total.result()}

    discriminator = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.LeakyReLU(), layers.Dense(1)])
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4, activation="relu"), layers.Dense(5)])
    gan = Gan(discriminator, generator)
    gan.compile(
        keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    before = [w.copy() for w in gan.get_weights()]
    history = gan.fit(X, batch_size=8, epochs=3, verbose=0).history
    assert list(history) == ["d_loss", "g_loss"] and np.isfinite(list(history.values())).all()
    assert not any(np.array_equal(a, b) for a, b in zip(before, gan.get_weights()))
    sources = next(iter(gan._training.programs._found.values())).traced.graph.sources
    assert sum(name.startswith("params") for name in sources) == 2  # an arena for each optimizer


def test_gradients_of_gradients_are_those_of_finite_differences():
    class Penalty(keras.Model):
        def train_step(self, data):
            with keras.GradientTape() as outer:
                with keras.GradientTape() as tape:
                    y_pred = self(data[0], training=True)
                slope = tape.gradient(y_pred, data[0])
                penalty = ops.mean(ops.square(slope))
            gradients = outer.gradient(penalty, self.trainable_variables, unconnected_gradients="zero")
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"penalty": penalty}

    model = net(Penalty)
    model.compile(keras.optimizers.SGD(1.0))
    kernel = model.layers[1].kernel
    start, last = kernel.numpy(), model.get_layer("last").kernel.numpy()

    def penalty_at(change):
        model.set_weights([start + change, np.zeros(4), last, np.zeros(1)])
        return model.train_on_batch(X, Y)

    penalty_at(0.0)
    gradient = start - kernel.numpy()
    for place in ((0, 0), (3, 2)):
        step = np.zeros_like(start)
        step[place] = 1e-2
        slope = (penalty_at(step) - penalty_at(-step)) / 2e-2
        assert gradient[place] == pytest.approx(slope, rel=2e-2, abs=1e-4)


def test_what_was_computed_before_the_block_is_constant():
    found = {}

    class Outside(keras.Model):
        def train_step(self, data):
            target = self(data[0])
            with keras.GradientTape() as tape:
                loss = ops.mean(self(data[0]) * target)
            kernel = self.get_layer("last").kernel
            found["inside"], found["none"] = tape.gradient(loss, [kernel, self.optimizer.iterations])
            return {"sum": ops.sum(found["inside"]), "expected": ops.sum(ops.mean(self.hidden(data[0]) * target, 0))}

    model = net(Outside)
    model.hidden = keras.Model(model.inputs, model.layers[1].output)
    model.compile("sgd")
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert found["none"] is None
    assert logs["sum"] == pytest.approx(logs["expected"], rel=1e-5)


def test_own_metrics_alone():
    class Counting(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "first": y_pred[0, 0]}

    model = net(Counting)
    model.compile("sgd", "mse", metrics=["mae"])
    first = float(model(X)[0, 0])
    history = model.fit(X, Y, batch_size=24, shuffle=False, verbose=0).history
    assert list(history) == ["loss", "mae", "first"]
    assert history["first"][0] == pytest.approx(first, rel=1e-5)
    assert set(model.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "mae", "first"}


def test_refusals():
    class WithState(keras.Model):
        def train_step(self, state, data):
            return {}

    class NoLogs(keras.Model):
        def train_step(self, data):
            return None

    class Rows(keras.Model):
        def train_step(self, data):
            return {"rows": data[1]}

    for cls, error, text in (
        (WithState, NotSupportedError, r"train_step\(self, data\)"),
        (NoLogs, ArgumentError, "dict of logs"),
        (Rows, ArgumentError, "must be one number"),
    ):
        model = net(cls)
        model.compile("sgd", "mse")
        with pytest.raises(error, match=text):
            model.fit(X, Y, verbose=0)
