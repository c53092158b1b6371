"""Attention layers against real Keras: outputs, shares, gradients of inputs and weights, masks, configs, errors."""

import numpy as np
import pytest

from kcompile import keras as ours
from kcompile import pipeline
from kcompile.autodiff import grad
from kcompile.errors import ArgumentError
from kcompile.keras import layers, ops
from kcompile.keras.tracing.trace import trace
from kcompile.testing import check_layer

Q, V = (3, 5, 4), (3, 7, 4)
HEADS = {"num_heads": 2, "key_dim": 3}
GROUPS = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
MASKS = {"query_mask": (3, 5), "value_mask": (3, 7)}


# layer, constructor arguments, shapes of the tensors, further arguments of the call, shapes of masks
CASES = [
    ("Attention", {}, [Q, V], {}, {}),
    ("Attention", {"use_scale": True}, [Q, V, V], {}, {}),
    ("Attention", {"score_mode": "concat", "use_scale": True}, [Q, V], {}, {}),
    ("Attention", {}, [Q, V], {"use_causal_mask": True, "return_attention_scores": True}, {}),
    ("Attention", {}, [Q, V], {"use_causal_mask": True}, MASKS),
    ("AdditiveAttention", {}, [Q, V], {"return_attention_scores": True}, {}),
    ("AdditiveAttention", {"use_scale": False}, [Q, V, V], {}, MASKS),
    ("MultiHeadAttention", HEADS, [Q, Q], {}, {}),
    ("MultiHeadAttention", HEADS, [Q, Q], {"use_causal_mask": True}, {}),
    (
        "MultiHeadAttention",
        {**HEADS, "value_dim": 6, "output_shape": 5},
        [Q, V, V],
        {"return_attention_scores": True},
        {},
    ),
    ("MultiHeadAttention", {**HEADS, "use_bias": False, "output_shape": (2, 3)}, [Q, V], {}, {}),
    ("MultiHeadAttention", {**HEADS, "use_gate": True}, [Q, V], {}, {"attention_mask": (3, 5, 7)}),
    ("MultiHeadAttention", HEADS, [Q, V], {"return_attention_scores": True}, {"attention_mask": (3, 2, 5, 7)}),
    ("MultiHeadAttention", HEADS, [Q, V], {"use_causal_mask": True}, {"value_mask": (3, 7), "key_mask": (3, 7)}),
    ("MultiHeadAttention", {**HEADS, "sliding_window": 2}, [Q, V], {"return_attention_scores": True}, {}),
    ("MultiHeadAttention", {**HEADS, "attention_axes": 2}, [(2, 3, 5, 4)] * 2, {}, {}),
    ("MultiHeadAttention", HEADS, [(2, 2, 3, 4), (2, 3, 2, 4)], {"return_attention_scores": True}, {}),
    ("MultiHeadAttention", {**HEADS, "activity_regularizer": "l2", "kernel_regularizer": "l2"}, [Q, V], {}, {}),
    ("GroupQueryAttention", GROUPS, [Q, V], {}, {}),
    ("GroupQueryAttention", {**GROUPS, "use_gate": True}, [Q, V, V], {"use_causal_mask": True}, {}),
    ("GroupQueryAttention", {**GROUPS, "sliding_window": 3}, [Q, V], {}, {"attention_mask": (3, 5, 7)}),
    ("GroupQueryAttention", GROUPS, [Q, V], {"return_attention_scores": True}, {"value_mask": (3, 7)}),
    ("GroupQueryAttention", {**GROUPS, "activity_regularizer": "l2"}, [Q, V], {}, {}),
]
IDS = [f"{n}-{c[0]}" for n, c in enumerate(CASES)]


def numbers(shapes, masks, listed):
    """Random tensors; masks in which every row keeps something (what an empty row means is another test)."""
    rng = np.random.default_rng(0)
    tensors = [rng.standard_normal(s).astype("f") for s in shapes]
    drawn = {name: rng.random(shape) < 0.6 for name, shape in masks.items()}
    for mask in drawn.values():
        mask[..., 0] = True
    return tensors, ({"mask": list(drawn.values())} if listed and drawn else drawn)


def called(layer, tensors, listed, kwargs):
    return layer([*tensors], **kwargs) if listed else layer(*tensors, **kwargs)


@pytest.mark.parametrize("name, init, shapes, call, masks", CASES, ids=IDS)
def test_against_keras(name, init, shapes, call, masks, real_keras):
    """Outputs, then the gradients of Σ output · weighting, compiled, by inputs and weights."""
    import jax  # real Keras's backend in these tests

    listed = issubclass(getattr(layers, name), layers.Attention)
    tensors, drawn = numbers(shapes, masks, listed)
    kwargs = {**call, **drawn}
    mine, theirs = (getattr(k.layers, name)(**init, name="it") for k in (ours, real_keras))
    found, expected = called(mine, tensors, listed, kwargs), called(theirs, tensors, listed, kwargs)
    assert [(w.path, w.shape) for w in mine.weights] == [(w.path, tuple(w.shape)) for w in theirs.weights]
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(w.shape).astype("f") for w in mine.weights]
    mine.set_weights(values)
    theirs.set_weights(values)
    found, expected = called(mine, tensors, listed, kwargs), called(theirs, tensors, listed, kwargs)
    found, expected = (list(t) if isinstance(t, (list, tuple)) else [t] for t in (found, expected))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, np.asarray(b), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose([float(x) for x in mine.losses], [float(x) for x in theirs.losses], rtol=1e-5)

    weighting = rng.standard_normal(found[0].shape).astype("f")

    def loss(variables, xs):
        made, _ = theirs.stateless_call(variables, [], *([[*xs]] if listed else xs), **kwargs)
        return (made[0] if isinstance(made, (list, tuple)) else made).ravel() @ weighting.ravel()

    expected = jax.jit(jax.grad(loss, (0, 1)))(values, tensors)

    given = {**{f"x{i}": x for i, x in enumerate(tensors)}, **flat(drawn), "weighting": weighting}

    def program(values):
        xs = [values[f"x{i}"] for i in range(len(tensors))]
        made = called(mine, xs, listed, {**call, **unflat(drawn, values)})
        total = ops.sum((made[0] if isinstance(made, (list, tuple)) else made) * values["weighting"])
        wrt = [w.value for w in mine.weights] + xs
        return dict(zip((f"g{n}" for n in range(len(wrt))), grad(total, wrt)))

    specs = {n: ((None, *x.shape[1:]), x.dtype) for n, x in given.items()}
    traced = trace(program, specs, name="gradient")
    gradients = pipeline.compile(traced.graph).run(given, traced.arrays())
    for n, one in enumerate([*expected[0], *expected[1]]):
        np.testing.assert_allclose(gradients[f"g{n}"], one, rtol=1e-4, atol=5e-5, err_msg=str(n))


def flat(masks):
    """Masks as named inputs."""
    return dict(zip("mn", masks["mask"])) if "mask" in masks else masks


def unflat(masks, values):
    if "mask" in masks:
        return {"mask": [values[n] for n in "mn"]}
    return {n: values[n] for n in masks}


@pytest.mark.parametrize("name, init, shapes, call, masks", CASES, ids=IDS)
def test_configs_travel(name, init, shapes, call, masks, real_keras):
    mine, theirs = (getattr(k.layers, name)(**init, name="it") for k in (ours, real_keras))
    read = type(theirs).from_config(mine.get_config())
    assert plain(read.get_config()) == plain(theirs.get_config())
    assert plain(type(mine).from_config(theirs.get_config()).get_config()) == plain(mine.get_config())
    assert ours.layers.serialize(mine)["class_name"] == real_keras.layers.serialize(theirs)["class_name"]
    assert getattr(layers, name)(**init).name.startswith(
        getattr(real_keras.layers, name)(**init).name.rstrip("_0123456789")
    )


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "shared_object_id"}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(
    "name, init, shapes", [c[:3] for c in CASES if issubclass(getattr(layers, c[0]), layers.Attention)]
)
def test_promises(name, init, shapes):
    check_layer(getattr(layers, name), init, input_shape=shapes, call_kwargs={"use_causal_mask": True})


@pytest.mark.parametrize(
    "name, init", [("Attention", {}), ("MultiHeadAttention", HEADS), ("GroupQueryAttention", GROUPS)]
)
def test_dropout_is_seeded_and_rescaled(name, init):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 40, 4)).astype("f")
    made = [getattr(layers, name)(**init, dropout=0.5, seed=3) for _ in range(2)]
    args = ([x, x],) if name == "Attention" else (x, x)
    still = [np.asarray(layer(*args)) for layer in made]
    made[1].set_weights(made[0].get_weights())
    a, b = (np.asarray(layer(*args, training=True)) for layer in made)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(np.asarray(made[0](*args, training=True)), a), "the next call draws other numbers"
    np.testing.assert_array_equal(still[0], np.asarray(made[0](*args)))
    assert 0.1 < np.abs(a - still[0]).mean() / np.abs(still[0]).mean() < 3


def test_masks_of_embeddings_arrive(real_keras):
    """`mask_zero` hides keys and marks queries, through the layers in between."""
    tokens = np.array([[1, 2, 0, 0], [3, 1, 2, 0], [1, 1, 1, 1]], np.int32)
    results = []
    for keras in (ours, real_keras):
        x = keras.Input((4,), dtype="int32")
        a, b, c = (keras.layers.Embedding(5, 4, mask_zero=True)(x) for _ in range(3))  # Keras's layers take masks away
        y = keras.layers.Attention()([keras.layers.MultiHeadAttention(2, 3)(a, a), b])
        z = keras.layers.GroupQueryAttention(3, 2, 1)(c, c)
        model = keras.Model(x, [y, z])
        rng = np.random.default_rng(2)
        model.set_weights([rng.standard_normal(w.shape).astype("f") for w in model.weights])
        results.append([np.asarray(a) for a in model(tokens)])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_lengths_may_be_open(real_keras):
    """One compilation for every length, with a causal mask made of symbolic sizes."""
    x = ours.Input((None, 4))
    y = layers.MultiHeadAttention(2, 3, name="a")(x, x, use_causal_mask=True)
    model = ours.Model(x, layers.GroupQueryAttention(3, 2, 1, sliding_window=2, name="b")(y, y))
    theirs = real_keras.Input((None, 4))
    y = real_keras.layers.MultiHeadAttention(2, 3)(theirs, theirs, use_causal_mask=True)
    theirs = real_keras.Model(theirs, real_keras.layers.GroupQueryAttention(3, 2, 1, sliding_window=2)(y, y))
    theirs.set_weights(model.get_weights())
    model.compile("sgd", "mse", jit=True)
    for length in (3, 6):
        data = np.random.default_rng(length).standard_normal((2, length, 4)).astype("f")
        np.testing.assert_allclose(model.predict(data, verbose=0), np.asarray(theirs(data)), rtol=2e-5, atol=2e-5)


ERRORS = [
    (lambda: layers.Attention(score_mode="sum"), "score_mode"),
    (lambda: layers.Attention()(np.zeros((2, 3, 4), "f")), "must be a list"),
    (lambda: layers.MultiHeadAttention(0, 3), "num_heads"),
    (lambda: layers.MultiHeadAttention(2, -3), "key_dim"),
    (lambda: layers.MultiHeadAttention(2, 3, sliding_window=0), "sliding_window"),
    (lambda: layers.MultiHeadAttention(2, 3, dropout=0.1, flash_attention=True), "flash attention"),
    (lambda: layers.GroupQueryAttention(3, 4, 3), "divisible"),
]


@pytest.mark.parametrize("make, what", ERRORS)
def test_errors_name_the_argument(make, what):
    with pytest.raises(ArgumentError, match=what):
        make()
