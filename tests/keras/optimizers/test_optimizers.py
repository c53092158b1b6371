"""Optimizers: D-8, every optimizer against real Keras step by step, state, schedules, users' own."""

import numpy as np
import pytest

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
]


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
    assert {k: v for k, v in mine.get_config().items() if k != "name"} == pytest.approx(
        {k: v for k, v in real.get_config().items() if k != "name"}
    )


def test_every_registered_optimizer_is_compared():
    names = plugins.names("optimizers", aliases=False)
    builtin = {n for n in names if plugins.get("optimizers", n).__module__.startswith("kcompile.")}
    assert builtin == {name for name, _ in CASES}


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
    with pytest.raises(NotSupportedError, match="gradient_accumulation_steps"):
        optimizers.SGD(gradient_accumulation_steps=2)
    optimizer = optimizers.SGD()
    optimizer.apply_gradients([(np.zeros(1, "float32"), Variable(np.zeros(1, "float32")))])
    with pytest.raises(ArgumentError, match="Unknown variable"):
        optimizer.apply_gradients([(np.zeros(1, "float32"), Variable(np.zeros(1, "float32")))])
