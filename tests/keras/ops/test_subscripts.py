"""x[key] is NumPy's, eagerly, traced and compiled, forwards and backwards."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import autodiff, keras, pipeline
from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing.trace import trace

I, J = np.array([2, 0, -1]), np.array([[1, 3], [0, -2]])
MASK = np.arange(4) % 2 == 0
KEYS = {
    "integers": np.s_[1, -1],
    "dots": np.s_[..., None],
    "nones": np.s_[None, 1:, None, ::2],
    "back": np.s_[::-1, ::-2, 4:1:-1],
    "back from the end": np.s_[-1:-4:-1, 7:-9:-2, -2::-1],
    "empty": np.s_[:, 2:1, ::-1],
    "array": np.s_[I],
    "array inside": np.s_[:, J, 1:],
    "list": np.s_[[0, 2]],
    "two": np.s_[I, I],
    "two broadcast": np.s_[:, J, I[:2]],
    "three": np.s_[I, I, I],
    "apart": np.s_[I, :, I],
    "apart by none": np.s_[I, None, I],
    "integer first": np.s_[1, I],
    "integer apart": np.s_[1, :, I],
    "last": np.s_[..., I, 0],
    "slices too": np.s_[::-1, I, None, ::2],
    "mask": np.s_[:, MASK],
    "mask of two": np.s_[np.arange(12).reshape(3, 4) % 5 == 0],
    "mask and array": np.s_[:2, MASK, [1, 0]],
    "scalar array": np.s_[np.int32(1), np.array(2)],
}
SHAPE = (3, 4, 5)


def test_keys_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)

    def program(values):
        found = {}
        for name, key in KEYS.items():
            y = values["x"][key]
            w = np.arange(np.prod(y.shape), dtype=np.float32).reshape(y.shape)
            found |= {f"{name} y": y, f"{name} d": autodiff.grad(ops.sum(y * w), [values["x"]])[0]}
        return found

    graph = trace(program, {"x": (SHAPE, "float32")}).graph
    results = [make(graph).run({"x": x}, {}) for make in (pipeline.interpreted, pipeline.compile)]
    for name, key in KEYS.items():
        expected = x[key]
        gradient = np.zeros_like(x)
        np.add.at(gradient, key, np.arange(expected.size, dtype=np.float32).reshape(expected.shape))
        np.testing.assert_array_equal(ops.get_item(x, key), expected, err_msg=name)
        assert keras.KerasTensor(SHAPE)[key].shape == expected.shape, name
        for found in results:
            np.testing.assert_array_equal(found[f"{name} y"], expected, err_msg=name)
            np.testing.assert_array_equal(found[f"{name} d"], gradient, err_msg=name)


def test_indices_and_sizes_of_the_run():
    def program(v):
        x, i, j = v["x"], v["i"], v["j"]
        return {
            "both": x[i, j], "apart": x[j, :, j], "turned": x[::-2, ::-1], "tail": x[-1:-3:-1], "row": x[i[0]],
            "constant": ops.convert_to_tensor(np.arange(9).reshape(3, 3))[i, 1],
        }  # fmt: skip

    graph = trace(program, {"x": ((None, None, 3), "float32"), "i": ((None,), "int32"), "j": ((2, 1), "int64")}).graph
    compiled = pipeline.compile(graph)
    for rows, columns in ((3, 4), (5, 2)):
        x = np.random.default_rng(rows).normal(size=(rows, columns, 3)).astype(np.float32)
        given = {"x": x, "i": np.array([0, -1, 1][:rows], np.int32), "j": np.array([[1], [-2]])}
        given["i"] = np.resize(given["i"], rows)  # every first axis is the batch
        found, expected = compiled.run(given, {}), program(given)
        for name, y in expected.items():
            np.testing.assert_array_equal(found[name], y, err_msg=name)


def test_what_has_no_known_shape_says_what_to_write():
    spec = {"x": ((4, 3), "float32")}
    with pytest.raises(KcompileError, match=r"keras.ops.where\(mask, x, 0\)"):
        trace(lambda v: v["x"][v["x"] > 0], spec)
    with pytest.raises(KcompileError, match=r"keras\.ops\.slice"):
        trace(lambda v: v["x"][: ops.cast(ops.sum(v["x"]), "int32")], spec)
    with pytest.raises(KcompileError, match="out of bounds"):
        trace(lambda v: v["x"][[0, 4]], spec)
    with pytest.raises(KcompileError, match="too many indices: 3"):
        trace(lambda v: v["x"][0, 0, 0], spec)
    inputs = keras.Input((3,))
    with pytest.raises(KcompileError, match=r"keras\.ops\.where"):
        inputs[inputs > 0]
