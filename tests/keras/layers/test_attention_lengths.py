"""Attention over named lengths: one program for all, a training step as in Keras, scratch linear in it."""

import numpy as np
import pytest

from kcompile import keras as ours
from kcompile.passes import strips

WIDTH, STRIP = 6, 8


def heads(keras, q, v, **options):
    return keras.layers.MultiHeadAttention(2, 3, **options.pop("init", {}))(q, v, **options)


def groups(keras, q, v, **options):
    return keras.layers.GroupQueryAttention(3, 4, 2)(q, v, **options)


def single(keras, q, v, **options):
    return keras.layers.Attention(use_scale=True)([q, v], **options)


def additive(keras, q, v, **options):
    return keras.layers.AdditiveAttention()([q, v], **options)


def concat(keras, q, v, **options):
    return keras.layers.Attention(score_mode="concat")([q, v], **options)


CAUSAL = {"use_causal_mask": True}
CASES = {  # layer, what it is called with, where its operands come from
    "heads": (heads, {}, "one"),
    "heads, causal": (heads, CAUSAL, "one"),
    "heads, window": (heads, {"init": {"sliding_window": 5}}, "one"),
    "heads, padded and causal": (heads, CAUSAL, "tokens"),
    "heads, two lengths": (heads, {}, "two"),
    "groups": (groups, {}, "one"),
    "groups, padded and causal": (groups, CAUSAL, "tokens"),
    "single": (single, {}, "one"),
    "single, padded and causal": (single, CAUSAL, "tokens"),
    "single, two lengths": (single, {}, "two"),
    "additive": (additive, {}, "one"),
    "additive, padded and causal": (additive, CAUSAL, "tokens"),
    "concat, two lengths": (concat, {}, "two"),
}


def model_of(keras, case: str):
    layer, options, given = CASES[case]
    inputs = keras.Input((None,), dtype="int32") if given == "tokens" else keras.Input((None, WIDTH))
    x = memory = keras.layers.Embedding(9, WIDTH, mask_zero=True)(inputs) if given == "tokens" else inputs
    if given == "two":
        memory = keras.Input((None, WIDTH))
        inputs = [inputs, memory]
    made = layer(keras, keras.layers.Dense(WIDTH)(x), keras.layers.Dense(WIDTH)(memory), **dict(options))
    model = keras.Model(inputs, keras.layers.Dense(3)(made))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def data(case: str, length: int, memory: int = 11):
    rng = np.random.default_rng(length)
    y = rng.standard_normal((2, length, 3)).astype("f")
    if CASES[case][2] == "tokens":
        x = rng.integers(1, 9, (2, length))
        x[0, -(length // 3) :] = 0
        return x.astype("int32"), y
    x = rng.standard_normal((2, length, WIDTH)).astype("f")
    return ([x, rng.standard_normal((2, memory, WIDTH)).astype("f")] if CASES[case][2] == "two" else x), y


@pytest.mark.parametrize("case", CASES)
def test_a_training_step_is_that_of_keras(case, real_keras, monkeypatch):
    """Three whole strips and a part of one."""
    monkeypatch.setattr(strips, "NAMED_LENGTH", STRIP)
    mine, theirs = model_of(ours, case), model_of(real_keras, case)
    rng = np.random.default_rng(1)
    values = [0.3 * rng.standard_normal(w.shape).astype("f") for w in mine.weights]  # shares far from 0 and 1
    x, y = data(case, 3 * STRIP + 5)
    for model in (mine, theirs):
        model.set_weights(values)
        model.train_on_batch(x, y)
    for weight, found, expected in zip(mine.weights, mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=5e-5, err_msg=weight.path)
    x, _ = data(case, 1)
    assert mine.predict_on_batch(x).shape == (2, 1, 3), "the same program"


@pytest.mark.parametrize("case", CASES)
def test_scratch_grows_with_the_length_and_not_with_its_square(case):
    model = model_of(ours, case)
    x, y = data(case, 9)
    for given in ((x,), (x, y)):
        program = model.memory_plan(*given).built.program
        named = set(program.symbols) - {"batch", "workers"}
        small, large = (
            program.arena_bytes_for({"batch": 2, "workers": 2, **dict.fromkeys(named, n)}) for n in (4096, 8192)
        )
        assert named
        assert large <= 2 * small
