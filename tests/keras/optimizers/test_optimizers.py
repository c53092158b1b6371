"""Optimizers: D-8, every optimizer against real Keras step by step, state, schedules, users' own."""

import numpy as np
import pytest

from kcompile import keras as kc
from kcompile import plugins
from kcompile.errors import ArgumentError, NotSupportedError, UnknownNameError
from kcompile.keras import ops, optimizers
from kcompile.keras.optimizers import Optimizer, Slots, schedules
from kcompile.keras.tracing import Variable
from tests.keras.real import real_keras


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("SGD", {}, (0.9, 0.81, 0.729)),
        ("SGD", {"momentum": 0.9}, (0.9, 0.72, 0.486)),
        ("SGD", {"momentum": 0.9, "nesterov": True}, (0.81, 0.5751, 0.327321)),
        ("RMSprop", {}, (0.6837724, 0.4988708, 0.3691807)),
        ("Adagrad", {}, (0.9046537, 0.8393387, 0.7875128)),
        ("Adadelta", {"learning_rate": 1.0}, (0.9985858, 0.9971545, 0.9957125)),
        ("Adam", {}, (0.9000010, 0.8004144, 0.7015890)),
        ("Adamax", {}, (0.9, 0.8051684, 0.7154996)),
        ("Nadam", {}, (0.8937212, 0.8202453, 0.7546743)),
    ],
)
def test_d8_three_steps(name, options, expected):
    w = Variable(1.0, name="w", dtype="float32")
    optimizer = getattr(optimizers, name)(**{"learning_rate": 0.1, **options})
    for value in expected:
        optimizer.minimize(lambda: w.value * w.value / 2, [w])
        assert float(w) == pytest.approx(value, abs=1e-6)
    assert int(optimizer.iterations) == 3


CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "clipnorm": 0.5}),
    ("SGD", {"momentum": 0.5, "weight_decay": 0.01, "clipvalue": 0.2}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adam", {"global_clipnorm": 0.7}),
    ("Adam", {"amsgrad": True, "use_ema": True, "ema_overwrite_frequency": 2}),
    ("AdamW", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adamax", {}),
    ("Nadam", {"loss_scale_factor": 2.0}),
    ("Ftrl", {}),
    (
        "Ftrl",
        {
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
            "l2_shrinkage_regularization_strength": 0.03,
            "beta": 0.1,
            "learning_rate_power": -0.4,
        },
    ),
    ("Lion", {"weight_decay": 0.01}),
    ("Lamb", {}),
    ("Adafactor", {}),
    ("Adafactor", {"relative_step": False, "clip_threshold": 0.5, "weight_decay": 0.01}),
    ("Muon", {}),
    ("Muon", {"nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5, "exclude_layers": ["w1"]}),
    ("Adam", {"gradient_accumulation_steps": 2, "clipnorm": 0.5, "use_ema": True}),
    ("Nadam", {"gradient_accumulation_steps": 3, "weight_decay": 0.02}),
    ("ScheduleFreeAdamW", {"warmup_steps": 3, "weight_decay": 0.01}),
]
WRAPPERS = {"LossScaleOptimizer", "TFOptimizer", "MultiOptimizer"}


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_every_optimizer_equals_keras(name, options):
    keras = real_keras()
    rng = np.random.default_rng(1)
    start = [rng.normal(size=s).astype("float32") for s in ((3, 2), (2,), (4,))]
    ours = [Variable(a, name=f"w{i}") for i, a in enumerate(start)]
    theirs = [keras.Variable(a, name=f"w{i}") for i, a in enumerate(start)]
    mine = getattr(optimizers, name)(learning_rate=0.05, **options)
    real = getattr(keras.optimizers, name)(learning_rate=0.05, **options)
    for _ in range(5):
        grads = [rng.normal(size=a.shape).astype("float32") for a in start]
        mine.apply_gradients(zip(grads, ours))
        real.apply_gradients(zip(grads, theirs))
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.numpy(), np.asarray(b.value), rtol=2e-5, atol=1e-6)
    assert len(mine.variables) == len(real.variables)
    for a, b in zip(mine.variables, real.variables):  # the same order, so that files exchange
        np.testing.assert_allclose(a.numpy(), np.asarray(b.value), rtol=2e-5, atol=1e-6)
        if "variable" not in b.name:  # Keras leaves Nadam's product unnamed
            assert a.name == b.name
    ours, theirs = ({k: v for k, v in o.get_config().items() if k != "name"} for o in (mine, real))
    assert ours.pop("exclude_layers", []) == theirs.pop("exclude_layers", [])
    assert ours == pytest.approx(theirs)


def test_every_registered_optimizer_is_compared():
    names = plugins.names("optimizers", aliases=False)
    builtin = {n for n in names if plugins.get("optimizers", n).__module__.startswith("kcompile.")}
    assert builtin - WRAPPERS == {name for name, _ in CASES}


@pytest.mark.parametrize(
    "name, options",
    [
        ("Ftrl", {"l1_regularization_strength": 0.001}),
        ("Lion", {}),
        ("Lamb", {}),
        ("Adafactor", {}),
        ("Muon", {}),
        ("Adam", {"gradient_accumulation_steps": 2}),
        ("LossScaleOptimizer", {"initial_scale": 64.0, "dynamic_growth_steps": 3}),
    ],
    ids=str,
)
def test_compiled_steps_equal_keras(name, options):
    """Five native training steps against five of Keras, weights and state."""
    real = real_keras()
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    start = [rng.normal(size=s).astype("float32") for s in ((4, 5), (5,), (5, 3), (3,))]
    found = []
    for keras in (kc, real):
        layers = [keras.Input((4,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        model.set_weights(start)
        arguments = [keras.optimizers.Adam(0.01)] if name == "LossScaleOptimizer" else [0.01]
        model.compile(getattr(keras.optimizers, name)(*arguments, **options), "mse")
        for _ in range(5):
            model.train_on_batch(x, y)
        found.append((model.get_weights(), [np.asarray(v.numpy()) for v in model.optimizer.variables]))
    for ours, theirs in zip(found[0], found[1]):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=5e-4, atol=5e-6)


def test_loss_scale_leaves_out_steps_that_overflow():
    real = real_keras()
    states = []
    for keras, variable in ((kc, Variable), (real, real.Variable)):
        w = variable(np.array([1.0, 2.0], "float32"), name="w")
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), 8.0, dynamic_growth_steps=2)
        optimizer.build([w])
        seen = []
        for g in ([8.0, 8.0], [np.inf, 0.0], [4.0, 0.0], [4.0, 0.0], [np.nan, 1.0]):
            g = np.array(g, "float32")
            if keras is kc:
                optimizer.apply_gradients([(g, w)])
            else:  # on JAX only this way in works outside `fit`
                state = [v.value for v in optimizer.variables]
                (value,), state = optimizer.stateless_apply(state, [g], [w.value])
                for v, new in zip([w, *optimizer.variables], [value, *state]):
                    v.assign(new)
            seen += [np.asarray(w.numpy()).tolist(), float(optimizer.dynamic_scale), int(optimizer.iterations)]
        states.append(seen)
    assert states[0] == states[1]
    assert states[0][3:6] == [[0.5, 1.5], 4.0, 1]  # the weights stay, the factor halves
    optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.5, momentum=0.9), initial_scale=4.0)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert (again.initial_scale, again.inner_optimizer.momentum) == (4.0, 0.9)


def test_tf_optimizer_wraps_native_ones():
    class MomentumOptimizer:  # the attributes of TensorFlow 1's
        _learning_rate, _momentum, _use_nesterov = 0.1, 0.9, False

    for native in (MomentumOptimizer(), optimizers.SGD(0.1, momentum=0.9), real_keras().optimizers.SGD(0.1, 0.9)):
        w = Variable(1.0, name="w", dtype="float32")
        optimizer = optimizers.TFOptimizer(native)
        for value in (0.9, 0.72, 0.486):
            optimizer.minimize(lambda w=w: w.value * w.value / 2, [w])
            assert float(w) == pytest.approx(value, abs=1e-6)
        assert int(optimizer.iterations) == 3
        assert optimizers.deserialize(optimizers.serialize(optimizer)).optimizer.momentum == 0.9
    model = kc.Sequential([kc.Input((2,)), kc.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(optimizers.TFOptimizer(MomentumOptimizer()), "mse")
    model.train_on_batch(np.ones((2, 2), "float32"), np.ones((2, 1), "float32"))
    np.testing.assert_allclose(model.get_weights()[0], [[0.2], [0.2]], rtol=1e-6)
    with pytest.raises(NotSupportedError, match="object"):
        optimizers.TFOptimizer(object())


def test_stateless_apply_changes_nothing_it_holds():
    w = Variable(np.array([1.0, 2.0], "float32"), name="w")
    optimizer = optimizers.SGD(0.5, momentum=0.9)
    optimizer.build([w])
    grads = [np.array([1.0, 1.0], "float32")]
    weights, state = optimizer.stateless_apply([v.value for v in optimizer.variables], grads, [w.value])
    np.testing.assert_allclose(weights[0].numpy(), [0.5, 1.5])
    assert int(state[0]) == 1 and int(optimizer.iterations) == 0
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])


def test_arena_and_single_updates_agree():
    """What training does on whole arenas equals the update variable by variable."""
    from kcompile.keras.tracing import VariableArena, trace
    from kcompile.runtime.interpreted import InterpretedProgram

    rng = np.random.default_rng(2)
    start = [rng.normal(size=s).astype("float32") for s in ((3, 2), (5,))]
    grads = [rng.normal(size=a.shape).astype("float32") for a in start]
    for name, options in CASES:
        alone = [Variable(a, name=f"w{i}") for i, a in enumerate(start)]
        inside = [Variable(a, name=f"w{i}") for i, a in enumerate(start)]
        first = getattr(optimizers, name)(learning_rate=0.05, **options)
        second = getattr(optimizers, name)(learning_rate=0.05, **options)
        second.build(inside)
        if not second.is_flat:
            continue
        flat = second.flat_weights(VariableArena("params", inside))
        arenas = [flat.weights, *flat.slots.values()]

        def step(_, optimizer=second, variables=inside, flat=flat):
            graph_grads = [ops.convert_to_tensor(g) * ops.ones(()) for g in grads]
            optimizer.apply(graph_grads, variables, flat=[flat])
            return {}

        traced = trace(step, {}, arenas=arenas)
        assert "params" in traced.graph.assignments
        for _ in range(3):
            first.apply_gradients(zip(grads, alone))
            InterpretedProgram(traced.graph).run({}, traced.arrays())
        for a, b in zip([*alone, *first.variables], [*inside, *second.variables]):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-7, err_msg=f"{name} {a.path}")


def test_learning_rate_can_be_changed_and_has_an_older_name():
    optimizer = optimizers.SGD(lr=0.5)
    assert float(optimizer.learning_rate) == 0.5
    optimizer.lr = 0.25
    optimizer.learning_rate.assign(optimizer.learning_rate * 0.5)
    assert float(optimizer.lr) == 0.125
    assert optimizer.get_config()["learning_rate"] == 0.125


def test_weights_round_trip():
    w = Variable(np.ones(3, "float32"), name="w")
    first, second = optimizers.Adam(0.1), optimizers.Adam(0.1)
    first.apply_gradients([(np.ones(3, "float32"), w)])
    second.build([w])
    second.set_weights(first.get_weights())
    for a, b in zip(first.variables, second.variables):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(ArgumentError, match="state arrays"):
        optimizers.Adam().set_weights(first.get_weights())


@pytest.mark.parametrize(
    "schedule, arguments",
    [
        ("ExponentialDecay", (0.1, 3, 0.5)),
        ("ExponentialDecay", (0.1, 3, 0.5, True)),
        ("PiecewiseConstantDecay", ([2, 4], [0.1, 0.05, 0.01])),
        ("PolynomialDecay", (0.1, 4, 0.01, 2.0)),
        ("PolynomialDecay", (0.1, 4, 0.01, 1.0, True)),
        ("InverseTimeDecay", (0.1, 2, 0.5)),
        ("CosineDecay", (0.1, 5, 0.1)),
        ("CosineDecay", (0.0, 5, 0.1, "warm", 0.2, 2)),
        ("CosineDecayRestarts", (0.1, 3)),
        ("CosineDecayRestarts", (0.1, 2, 1.5, 0.8, 0.05)),
        ("CosineDecayRestarts", (0.1, 3, 1.0, 0.9)),
    ],
    ids=str,
)
def test_schedules_equal_keras(schedule, arguments):
    keras = real_keras()
    ours = getattr(schedules, schedule)(*arguments)
    theirs = getattr(keras.optimizers.schedules, schedule)(*arguments)
    for step in range(9):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-7)
    optimizer = optimizers.SGD(ours)
    again = optimizers.deserialize(optimizers.serialize(optimizer))
    assert float(again.learning_rate) == pytest.approx(float(ours(0)), abs=1e-8)
    with pytest.raises(TypeError, match="not settable"):
        optimizer.learning_rate = 0.1


def test_users_optimizer_written_as_in_keras():
    class Momentum(Optimizer):
        def __init__(self, learning_rate=0.1, momentum=0.9, name="mine", **kwargs):
            super().__init__(learning_rate=learning_rate, name=name, **kwargs)
            self.momentum = momentum

        def build(self, variables):
            super().build(variables)
            self.speeds = [self.add_variable_from_reference(v, name="speed") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            speed = self.speeds[self._get_variable_index(variable)]
            self.assign(speed, speed * self.momentum - gradient * learning_rate)
            self.assign_add(variable, speed)

    w = Variable(1.0, name="w", dtype="float32")
    optimizer = Momentum()
    for value in (0.9, 0.72, 0.486):
        optimizer.minimize(lambda: w.value * w.value / 2, [w])
        assert float(w) == pytest.approx(value, abs=1e-6)
    assert optimizer.get_config()["momentum"] == 0.9
    assert not optimizer.is_flat


def test_users_optimizer_written_as_update():
    class Signs(Optimizer):
        slots = ("memory",)

        def update(self, w, g, slots, lr, step):
            memory = 0.5 * slots.memory + g
            return w - lr * ops.sign(memory), Slots(memory=memory)

    w = Variable(np.array([1.0, -1.0], "float32"), name="w")
    Signs(learning_rate=0.25).apply_gradients([(np.array([2.0, -3.0], "float32"), w)])
    np.testing.assert_allclose(w.numpy(), [0.75, -0.75])


def test_names_and_errors():
    assert isinstance(optimizers.get("SGD"), optimizers.SGD)
    assert isinstance(optimizers.get("rmsprop"), optimizers.RMSprop)
    assert isinstance(optimizers.get("Rmsprop"), optimizers.RMSprop)
    with pytest.raises(UnknownNameError, match="adam"):
        optimizers.get("adamm")
    with pytest.raises(ArgumentError, match="Only one"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ArgumentError, match="momentum"):
        optimizers.SGD(momentum=1.5)
    with pytest.raises(ArgumentError, match="not recognized"):
        optimizers.SGD(speed=1)
    with pytest.raises(ArgumentError, match="gradient_accumulation_steps"):
        optimizers.SGD(gradient_accumulation_steps=1)
    optimizer = optimizers.SGD()
    optimizer.apply_gradients([(np.zeros(1, "float32"), Variable(np.zeros(1, "float32")))])
    with pytest.raises(ArgumentError, match="Unknown variable"):
        optimizer.apply_gradients([(np.zeros(1, "float32"), Variable(np.zeros(1, "float32")))])


def multi(k):
    return k.MultiOptimizer(k.OptimizerMap(k.SGD(0.1, momentum=0.5), {".*/bias": k.Adam(0.05)}))


def test_multi_optimizer_equals_keras():
    keras = real_keras()
    x, y = (np.random.default_rng(n).normal(size=(6, s)).astype("float32") for n, s in ((0, 3), (1, 1)))
    models = []
    for k in (kc, keras):
        model = k.Sequential([k.Input((3,)), k.layers.Dense(4, "tanh", name="a"), k.layers.Dense(1, name="b")])
        model.compile(multi(k.optimizers), "mse")
        models.append(model)
    mine, real = models
    real.set_weights(mine.get_weights())
    for model in models:
        model.fit(x, y, batch_size=3, epochs=3, shuffle=False, verbose=0)
    for a, b in zip(mine.get_weights(), real.get_weights()):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    for a, b in zip(mine.optimizer.variables, real.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), np.asarray(b.value), rtol=2e-5, atol=1e-6)
    again = optimizers.deserialize(optimizers.serialize(mine.optimizer))
    assert [type(o).__name__ for o in again.optimizers] == ["Adam", "SGD"]
    with pytest.raises(AttributeError, match="sub-optimizers"):
        mine.optimizer.learning_rate = 1.0
    with pytest.raises(ArgumentError, match="cannot be used inside"):
        optimizers.MultiOptimizer(lambda v: multi(optimizers)).build(mine.trainable_variables)
