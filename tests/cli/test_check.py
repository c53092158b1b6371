"""`kcompile check` says something true of a model with any layer: it lowers, or which layer does not and why."""

import dataclasses

import pytest

from kcompile import keras
from kcompile.cli import main
from kcompile.ir.op import OPS, Op
from kcompile.keras.models.checking import check
from tests.keras.layers import test_all, test_attention
from tests.keras.layers.preprocessing import test_images, test_strings

layers = keras.layers
CELLS = {
    "SimpleRNNCell": {"units": 2},
    "LSTMCell": {"units": 2},
    "GRUCell": {"units": 2},
}


def constructors():
    """One layer of every class: name -> (a function that makes it, the shapes of its inputs, their dtype)."""
    found = {}
    for name, init, shape, more in test_all.CASES:
        shapes = shape if isinstance(shape, list) else [shape]
        found.setdefault(name, (lambda n=name, i=init: getattr(layers, n)(**i), shapes, more.get("input_dtype")))
    for name, init, shapes, _, _ in test_attention.CASES:
        found.setdefault(name, (lambda n=name, i=init: getattr(layers, n)(**i), shapes, None))
    for name, init in test_images.PROMISES:
        found.setdefault(name, (lambda n=name, i=init: getattr(layers, n)(**i), [(2, 6, 8, 3)], None))
    for name, init, data in test_strings.CASES:
        dtype = "string" if name in ("StringLookup", "TextVectorization") else "int64"
        shape = (3, 1) if name in ("TextVectorization", "HashedCrossing") else (3, 3)
        shapes = [shape] * (len(data) if isinstance(data, tuple) else 1)
        found.setdefault(name, (lambda n=name, i=init: getattr(layers, n)(**i), shapes, dtype))
    for name, init in CELLS.items():
        made = lambda n=name, i=init: layers.RNN(getattr(layers, n)(**i))  # noqa: E731
        found[name] = (made, [(2, 3, 4)], None)
    around = {
        "RNN": lambda: layers.RNN(layers.LSTMCell(2)),
        "StackedRNNCells": lambda: layers.RNN(layers.StackedRNNCells([layers.GRUCell(2), layers.LSTMCell(3)])),
        "Bidirectional": lambda: layers.Bidirectional(layers.GRU(2)),
        "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(2)),
        "Wrapper": lambda: type("Own", (layers.Wrapper,), {"call": lambda self, x: self.layer(x)})(layers.Dense(2)),
        "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Dense(2)),
        "Lambda": lambda: layers.Lambda(keras.ops.tanh),
    }
    found.update({name: (make, [(2, 3, 4)], None) for name, make in around.items()})
    return found


MADE = constructors()
ABSTRACT = {"Layer", "InputLayer", "AbstractRNNCell", "ConvLSTMCell", "Recurrent"}  # not called on their own


def test_the_table_holds_every_layer():
    classes = {c for c in vars(layers).values() if isinstance(c, type) and issubclass(c, layers.Layer)}
    known = {getattr(layers, name) for name in [*MADE, *ABSTRACT] if hasattr(layers, name)}
    assert not {c.__name__ for c in classes - known}


@pytest.mark.parametrize("name", MADE)
def test_every_layer_is_told_of(name):
    make, shapes, dtype = MADE[name]
    inputs = [keras.Input(tuple(shape)[1:], dtype=dtype or "float32") for shape in shapes]
    layer = make()
    apart = name in ("MultiHeadAttention", "GroupQueryAttention") or len(inputs) == 1
    outputs = layer(*inputs) if apart else layer(inputs)
    found = check(keras.Model(inputs, outputs))
    assert found.ok, str(found)
    assert layer.name in found.layers
    said = found.layers[layer.name]
    assert ("runs in Python" in said) == bool(getattr(layer, "runs_on_host", False))


def test_what_does_not_lower_is_named(tmp_path, capsys):
    path = str(tmp_path / "m.keras")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="fine"), layers.LSTM(2, name="bad")][:2])
    model.save(path)
    assert main(["check", path]) == 0
    assert "fine" in capsys.readouterr().out
    tanh = OPS["tanh"]
    bare = Op(**{f.name: getattr(tanh, f.name) for f in dataclasses.fields(Op)} | {"name": "bare_tanh", "lower": None})

    class Bare(layers.Layer):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor):
                x = keras.ops.convert_to_tensor(x)
            return bare(x)

    inputs = keras.Input((4, 3))
    body = layers.TimeDistributed(Bare(name="bad"), name="around")(inputs)  # inside a loop too
    found = check(keras.Model(inputs, layers.Dense(2, name="fine")(Bare(name="worse")(body))))
    assert not found.ok and "bare_tanh" in found.problem
    assert found.layers["worse"] == "does not lower" and found.layers["fine"].endswith("operations")
    assert str(found).startswith("  ")
