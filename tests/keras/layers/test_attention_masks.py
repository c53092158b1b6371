"""Attention under masks and biases of its own: a training step as in Keras, no matrix of scores stored."""

import numpy as np
import pytest

from kcompile import keras as ours
from kcompile.ir import dim
from kcompile.passes import strips
from kcompile.passes.lower import LoopCall

WIDTH, LENGTH, BATCH = 8, 48, 3


def heads(keras, x, mask):
    return keras.layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask)


def heads_causal(keras, x, mask):
    return keras.layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask, use_causal_mask=True)


def groups(keras, x, mask):
    return keras.layers.GroupQueryAttention(4, 4, 2)(x, x, attention_mask=mask)


def of_each_head(keras, x, mask):
    """[batch, heads, T, S]"""
    mask = keras.ops.stack([mask, keras.ops.logical_not(mask)], axis=1)
    return keras.layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask)


def function(keras, x, mask):
    q = keras.layers.Reshape((-1, 2, 4))(x)
    made = keras.ops.dot_product_attention(q, q, q, mask=keras.ops.expand_dims(mask, 1), is_causal=True)
    return keras.layers.Reshape((-1, WIDTH))(made)


def added(keras, x, mask):
    """The mask as numbers that are added."""
    q = keras.layers.Reshape((-1, 2, 4))(x)
    bias = keras.ops.expand_dims(1.0 - keras.ops.cast(mask, "float32"), 1) * -4.0
    return keras.layers.Reshape((-1, WIDTH))(keras.ops.dot_product_attention(q, q, q, bias=bias))


def learned(keras, x, mask):
    """Numbers that are learned for each head and distance, as in T5."""

    class Relative(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(name="table", shape=(2, 11), initializer="random_normal")

        def call(self, x, mask):
            q = keras.ops.reshape(x, (-1, x.shape[1], 2, 4))
            at = keras.ops.arange(x.shape[1])
            apart = keras.ops.clip(keras.ops.expand_dims(at, 1) - at, -5, 5) + 5
            bias = keras.ops.expand_dims(keras.ops.take(self.table, apart, axis=1), 0)
            made = keras.ops.dot_product_attention(q, q, q, bias=bias, mask=keras.ops.expand_dims(mask, 1))
            return keras.ops.reshape(made, (-1, x.shape[1], WIDTH))

    return Relative()(x, mask)


CASES = {f.__name__: f for f in (heads, heads_causal, groups, of_each_head, function, added, learned)}
OPEN = ("heads", "heads_causal", "groups", "function", "added")


def model_of(keras, case: str, length: int | None):
    x, mask = keras.Input((length, WIDTH)), keras.Input((length, length), dtype="bool")
    made = CASES[case](keras, keras.layers.Dense(WIDTH)(x), mask)
    model = keras.Model([x, mask], keras.layers.Dense(3)(made))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def data(length: int):
    rng = np.random.default_rng(length)
    mask = (rng.random((BATCH, length, length)) < 0.7) | np.eye(length, dtype=bool)
    x, y = (rng.standard_normal((BATCH, length, n)).astype("f") for n in (WIDTH, 3))
    return [x, mask], y


def agree_with_keras(mine, theirs, length: int) -> None:
    rng = np.random.default_rng(1)
    values = [0.3 * rng.standard_normal(w.shape).astype("f") for w in mine.weights]
    x, y = data(length)
    for model in (mine, theirs):
        model.set_weights(values)
        model.train_on_batch(x, y)
    for weight, found, expected in zip(mine.weights, mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=5e-5, err_msg=weight.path)


@pytest.mark.parametrize("case", CASES)
def test_no_matrix_of_scores_is_stored_and_a_step_is_that_of_keras(case, real_keras):
    mine = model_of(ours, case, LENGTH)
    x, y = data(LENGTH)
    for given in ((x,), (x, y)):
        calls = [c for c in mine.memory_plan(*given).built.calls if not isinstance(c, LoopCall)]
        made = [v for c in calls for v in c.writes.values() if tuple(v.shape[-2:]) == (LENGTH, LENGTH)]
        assert not [v for v in made if "batch" in dim.symbols(v.shape[0]) and v.dtype.is_float]
    agree_with_keras(mine, model_of(real_keras, case, LENGTH), LENGTH)


@pytest.mark.parametrize("case", OPEN)
def test_open_lengths_take_scratch_that_grows_with_the_length(case, real_keras, monkeypatch):
    """The mask is an input of [batch, None, None]; the same program serves all lengths."""
    monkeypatch.setattr(strips, "NAMED_LENGTH", 8)
    mine = model_of(ours, case, None)
    x, y = data(29)
    program = mine.memory_plan(x, y).built.program
    named = set(program.symbols) - {"batch", "workers"}
    small, large = (
        program.arena_bytes_for({"batch": 2, "workers": 2, **dict.fromkeys(named, n)}) for n in (4096, 8192)
    )
    assert named
    assert large <= 2 * small
    agree_with_keras(mine, model_of(real_keras, case, None), 29)
