"""How many kernels, and how many passes over the activations, well-known computations take.

A kernel is a pass over memory, or two where rows or columns have to be summed first. The numbers are the
plan's: they fall when fusion learns something, and must not rise.
"""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras, ops, pipeline
from kcompile.autodiff import grad
from kcompile.forms.compose import buffer_types
from kcompile.forms.records import LOCAL, Accumulate, Contract, Nest
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32, i32
from kcompile.keras import layers
from kcompile.keras.tracing.trace import trace
from kcompile.keras.training.programs import trace_predict
from kcompile.ops.contract import matmul
from kcompile.passes.lower import LoopCall
from kcompile.passes.strips import STRIP_ELEMENTS

BATCH = dim.symbol("batch")


def kernels(graph: Graph) -> list:
    """The forms a graph runs, in order."""
    built = pipeline.build(graph)
    return [call.form for call in built.calls]


def passes(forms, elements) -> int:
    """Kernels that go over an array of so many elements, and not only over a few of them."""
    return sum(
        any(b.role != LOCAL and b.type.size == elements for b in buffer_types(f).values())
        and dim.nominal(points(f)) >= dim.nominal(elements)
        for f in forms
    )


def points(form) -> dim.DimLike:
    """Points of the iteration space."""
    if isinstance(form, Contract):
        return dim.product(a.extent for a in (*form.out_axes, *form.over))
    inner = [dim.product(a.extent for a in s.axes) for s in form.body if isinstance(s, Nest)]
    return dim.product(a.extent for a in form.outer) * max(inner, key=dim.nominal, default=1)


def test_softmax_is_one_kernel():
    graph = Graph("softmax")
    x = graph.input("x", Type(f32, (BATCH, 100)))
    shifted = ops.exp(x - ops.reduce_max(x, axes=(1,), keepdims=True))
    graph.output("y", shifted / ops.reduce_sum(shifted, axes=(1,), keepdims=True))
    assert len(kernels(graph)) == 1


def test_softmax_cross_entropy_and_its_gradient_are_one_kernel_and_a_mean():
    graph = Graph("loss")
    x, y = graph.input("x", Type(f32, (BATCH, 100))), graph.input("y", Type(i32, (BATCH, 1)))
    shifted = x - ops.reduce_max(x, axes=(1,), keepdims=True)
    logs = shifted - ops.log(ops.reduce_sum(ops.exp(shifted), axes=(1,), keepdims=True))
    classes = ops.iota(graph.constant(0), shape=(BATCH, 100), axis=1, dtype="i32")
    picked = ops.select(ops.eq(classes, y), logs, 0.0)
    count = ops.size(x, value=BATCH, dtype="f32")
    losses = ops.neg(ops.reduce_sum(picked, axes=(1,), keepdims=False))
    loss = ops.reduce_sum(losses, axes=(0,), keepdims=False) / count
    graph.output("loss", loss)
    graph.output("dx", grad(loss, [x])[0])
    made = kernels(graph)
    assert passes(made, 100 * BATCH) == 1
    assert len(made) == 2


@pytest.mark.parametrize("sparse", [True, False], ids=["classes", "shares"])
def test_the_loss_cross_entropy_from_logits_is_one_pass_with_its_gradient(sparse):
    kind = keras.losses.SparseCategoricalCrossentropy if sparse else keras.losses.CategoricalCrossentropy
    loss = kind(from_logits=True)

    def both(values):
        found = loss(values["y"], values["x"])
        return {"loss": found, "dx": grad(found, [values["x"]])[0]}

    targets = ((None,), "int32") if sparse else ((None, 100), "float32")
    made = kernels(trace(both, {"x": ((None, 100), "float32"), "y": targets}).graph)
    assert passes(made, 100 * BATCH) == 1
    assert len(made) <= 2, "rows; their mean"


@pytest.mark.parametrize("sparse", [True, False], ids=["classes", "shares"])
def test_the_gradient_of_a_cross_entropy_alone_is_one_kernel(sparse):
    def gradient(values):
        form = keras.ops.sparse_categorical_crossentropy if sparse else keras.ops.categorical_crossentropy
        losses = form(values["y"], values["x"], from_logits=True) * values["w"]
        return {"dx": grad(keras.ops.sum(losses), [values["x"]])[0]}

    targets = ((None,), "int32") if sparse else ((None, 100), "float32")
    made = kernels(trace(gradient, {"x": ((None, 100), "float32"), "y": targets, "w": ((None,), "float32")}).graph)
    (form,) = made
    nests = [s for s in form.body if isinstance(s, Nest)]
    assert len(nests) == 3, "a maximum, exponentials, the result"


def test_the_layer_normalization_layer_is_one_kernel():
    layer = layers.LayerNormalization()
    layer.build((None, 96))
    made = kernels(trace(lambda values: {"y": layer(values["x"])}, {"x": ((None, 96), "float32")}).graph)
    assert len(made) == 1, "a row is read once from memory and written once"


def normalised(x, axes, count):
    mean = ops.reduce_sum(x, axes=axes, keepdims=True) / count
    centred = x - mean
    variance = ops.reduce_sum(ops.square(centred), axes=axes, keepdims=True) / count
    return centred, ops.rsqrt(variance + 1e-3)


def test_layer_normalization_is_one_kernel_and_its_gradient_another():
    graph = Graph("layer_norm")
    x, g = (graph.input(n, Type(f32, (BATCH, 96))) for n in "xg")
    gamma, beta = (graph.source("parameter", n, Type(f32, (96,))) for n in ("gamma", "beta"))
    centred, scale = normalised(x, (1,), 96.0)
    y = centred * scale * gamma + beta
    graph.output("y", y)
    assert len(kernels(graph)) == 1
    loss = ops.reduce_sum(y * g, axes=(0, 1), keepdims=False)
    for name, value in zip(("dx", "dgamma", "dbeta"), grad(loss, [x, gamma, beta])):
        graph.output(name, value)
    assert passes(kernels(graph), 96 * BATCH) == 2, "rows forward and backward at once; columns for gamma and beta"


def test_batch_normalization_passes_thrice_forward_and_twice_backward():
    graph = Graph("batch_norm")
    x, g = (graph.input(n, Type(f32, (BATCH, 6, 6, 16))) for n in "xg")
    gamma, beta = (graph.source("parameter", n, Type(f32, (16,))) for n in ("gamma", "beta"))
    centred, scale = normalised(x, (0, 1, 2), ops.size(x, value=36 * BATCH, dtype="f32"))
    y = ops.relu(centred * (scale * gamma) + beta)
    graph.output("y", y)
    whole = 36 * 16 * BATCH
    assert passes(kernels(graph), whole) == 3, "mean, variance, result"
    loss = ops.reduce_sum(y * g, axes=(0, 1, 2, 3), keepdims=False)
    for name, value in zip(("dx", "dgamma", "dbeta"), grad(loss, [x, gamma, beta])):
        graph.output(name, value)
    assert passes(kernels(graph), whole) == 5, "sums of the gradient, the gradient"


def test_batch_normalization_layer_passes_twice_each_way():
    layer = layers.BatchNormalization()
    layer.build((None, 6, 6, 16))

    def forward(values):
        return {"y": ops.relu(layer(values["x"], training=True))}

    def both(values):
        y = forward(values)["y"]
        loss = ops.reduce_sum(y * values["g"], axes=(0, 1, 2, 3), keepdims=False)
        return {"y": y, "dx": grad(loss, [values["x"]])[0]}

    specs = dict.fromkeys("xg", ((None, 6, 6, 16), "float32"))
    whole = 36 * 16 * BATCH
    assert passes(kernels(trace(forward, {"x": specs["x"]}).graph), whole) == 2, "both moments, result"
    assert passes(kernels(trace(both, specs).graph), whole) == 4, "sums of the gradient, the gradient"


def test_a_large_contraction_sums_its_columns_itself():
    """The bias gradient of a layer is summed where the data gradient of the next one is made."""
    graph = Graph("bias_gradient")
    x = graph.input("x", Type(f32, (BATCH, 3000, 16)))
    w, b = (graph.source("parameter", n, Type(f32, s)) for n, s in (("w", (16, 64)), ("b", (64,))))
    v = graph.source("parameter", "v", Type(f32, (64, 32)))
    y = ops.relu(matmul(x, w) + b)
    loss = ops.reduce_sum(ops.square(matmul(y, v)), axes=(0, 1, 2), keepdims=False)
    for name, value in zip(("dw", "db"), grad(loss, [w, b])):
        graph.output(name, value)
    made = kernels(graph)
    assert passes(made, 3000 * 64 * BATCH) == 4, "y, and as an operand; its gradient with db, and as an operand"
    assert any(isinstance(s, Accumulate) for f in made if isinstance(f, Contract) for s in f.stores)


def built_train_step(model, x, y, monkeypatch):
    made = []
    build = pipeline.build

    def seen(*args, **kwargs):
        made.append(build(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(pipeline, "build", seen)
    model.fit(x, y, verbose=0, batch_size=4)
    return made[-1]


def names(built, part: str) -> list[str]:
    return [c.name for c in built.calls if part in c.name]


@pytest.mark.parametrize("arguments", [{}, {"use_causal_mask": True}], ids=["all", "causal"])
@pytest.mark.parametrize("layer", ["MultiHeadAttention", "dropout", "GroupQueryAttention", "Attention"])
def test_attention_stores_no_matrix_of_shares(layer, arguments, monkeypatch):
    """A training step holds a row of batch and heads of it for each worker, four values of that."""
    rows, heads, length, size = 4, 3, 64, 8
    x = keras.Input((length, heads * size))
    if layer in ("MultiHeadAttention", "dropout"):
        y = layers.MultiHeadAttention(heads, size, dropout=0.1 if layer == "dropout" else 0.0)(x, x, **arguments)
    elif layer == "GroupQueryAttention":
        y = layers.GroupQueryAttention(size, 2 * heads, heads)(x, x, **arguments)
    else:
        y = layers.Dense(heads * size)(layers.Attention()([layers.Dense(size)(x)] * 2, **arguments))
    model = keras.Model(x, y)
    model.compile("sgd", "mse")
    inputs = np.ones((rows, length, heads * size), np.float32)
    built = built_train_step(model, inputs, inputs, monkeypatch)
    count = 2 if layer == "GroupQueryAttention" else 1  # heads of a row
    stored = [v for c in built.calls for v in c.writes.values()]
    assert not [v for v in stored if v.shape[-2:] == (length, length)]
    assert [c.name for c in built.calls].count("loop") == 2, "forward; backward"
    if layer in ("MultiHeadAttention", "dropout"):
        assert not names(built, "transpose"), "heads are written and read where they are"
    for step in built.program.steps:
        if hasattr(step, "arena_bytes"):
            assert dim.evaluate(step.arena_bytes, {"batch": rows}) <= count * 4 * 4 * length * length + 64


@pytest.mark.parametrize("arguments", [{}, {"use_causal_mask": True}], ids=["all", "causal"])
def test_long_attention_keeps_strips_of_scores(arguments):
    """Scratch of a training step is a few strips and what has the length once; inference keeps less."""
    heads, size, rows = 2, 8, 1024
    x = keras.Input((rows, heads * size))
    model = keras.Model(x, layers.MultiHeadAttention(heads, size)(x, x, **arguments))
    model.compile("sgd", "mse")
    inputs = np.ones((1, rows, heads * size), np.float32)
    for given, values in (((inputs,), 2), ((inputs, inputs), 4)):
        loops = [s for s in model.memory_plan(*given).built.program.steps if hasattr(s, "arena_bytes")]
        assert len(loops) == len(given)
        scratch = max(dim.evaluate(loop.arena_bytes, {}) for loop in loops)
        assert scratch <= 4 * (values * STRIP_ELEMENTS + 16 * rows * size)
        assert scratch < 4 * rows * rows / 2, "half of the scores of one head"


def test_adam_is_one_pass_over_all_parameters(monkeypatch):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(64, activation="relu"), layers.Dense(48), layers.Dense(3)]
    )
    model.compile("adam", "mse")
    built = built_train_step(model, np.ones((4, 8), np.float32), np.ones((4, 3), np.float32), monkeypatch)
    (arena,) = {v.type.size for n, v in built.graph.sources.items() if n == "params"}
    assert arena >= model.count_params()
    assert passes([c.form for c in built.calls], arena) == 1


@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "plain"])
def test_a_convolution_block_stores_no_activation_twice(normalise, monkeypatch):
    """Convolution, normalisation, relu, twice: what the next convolution pads is never stored without its border."""
    body = [keras.Input((8, 8, 3))]
    for _ in range(2):
        body.append(layers.Conv2D(16, 3, padding="same", use_bias=not normalise))
        body += [layers.BatchNormalization()] if normalise else []
        body.append(layers.ReLU())
    model = keras.Sequential([*body, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.compile("sgd", "mse")
    built = built_train_step(model, np.ones((4, 8, 8, 3), np.float32), np.ones((4, 3), np.float32), monkeypatch)
    written = [v for c in built.calls for v in c.writes.values() if v.type.size == 8 * 8 * 16 * BATCH]
    assert not names(built, "slice")
    # forward: both convolutions; backward: the gradient at the padded one's input, and at the first convolution
    assert len(written) == (4 if normalise else 3)


def test_pooling_gradient_and_what_follows_are_one_pass_over_vectors(monkeypatch):
    """With the relu and the border that the convolution before asks for; places of maxima are not stored."""
    convolution = {"activation": "relu", "padding": "same"}
    body = [layers.Conv2D(16, 3, **convolution), layers.Conv2D(16, 3, **convolution), layers.MaxPooling2D()]
    model = keras.Sequential([keras.Input((9, 9, 2)), *body, layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    built = built_train_step(model, np.ones((4, 9, 9, 2), np.float32), np.ones((4, 2), np.float32), monkeypatch)
    assert names(built, "window_max") == ["window_max", "window_max_gradient_pad"]
    assert not any(v.type.dtype.is_integer for c in built.calls for v in c.writes.values() if v.type.rank == 4)
    (kernel,) = [
        s.kernel for s in built.program.steps if "max_gradient" in getattr(getattr(s, "kernel", None), "name", "")
    ]
    (phase,) = kernel.phases
    tasks = dim.evaluate(phase.tasks, {"batch": 4})
    assert 4 * 4 * 4 <= tasks <= 4 * 11 * 11, "a task is the channels of a place, not a number"


@pytest.mark.parametrize("layer, kernels_of_a_step", [("SimpleRNN", 2), ("LSTM", 2), ("GRU", 2)])
def test_a_recurrent_step(layer, kernels_of_a_step):
    """The inputs of all steps are one product before the loop; a step is a product and the gates."""
    model = keras.Sequential([keras.Input((None, 8)), getattr(layers, layer)(16)])
    built = pipeline.build(trace_predict(model).graph)
    (loop,) = [c for c in built.calls if isinstance(c, LoopCall)]
    before = [c.form for c in built.calls if not isinstance(c, LoopCall)]
    assert sum(isinstance(f, Contract) for f in before) == 1
    assert len(loop.calls) <= kernels_of_a_step


def test_a_training_step_of_lstm(monkeypatch):
    """Backwards the gates are two kernels and one product; the weights' gradients are products of all steps."""
    model = keras.Sequential([keras.Input((None, 8)), layers.LSTM(16)])
    model.compile("sgd", "mse")
    built = built_train_step(model, np.ones((4, 5, 8), np.float32), np.ones((4, 16), np.float32), monkeypatch)
    forward, backward = [c for c in built.calls if isinstance(c, LoopCall)]
    assert len(forward.calls) <= 3 and len(backward.calls) <= 3
    assert [sum(isinstance(k.form, Contract) for k in c.calls) for c in (forward, backward)] == [1, 1]
    rest = [c.form for c in built.calls if not isinstance(c, LoopCall)]
    assert sum(isinstance(f, Contract) for f in rest) == 3
