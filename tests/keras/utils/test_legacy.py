"""Names of Keras 2, packing, drawings, source inputs."""

import h5py
import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import layers, utils


def test_hdf5_matrix_in_fit(tmp_path):
    path = tmp_path / "data.h5"
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    with h5py.File(path, "w") as file:
        file["group/x"] = x
    matrix = utils.HDF5Matrix(path, "group/x", start=2, end=18, normalizer=lambda a: a * 2)
    assert matrix.shape == (16, 3) and len(matrix) == 16 and matrix.dtype == np.float32 and matrix.ndim == 2
    expected = x[2:18] * 2
    np.testing.assert_array_equal(matrix[3:9:2], expected[3:9:2])
    np.testing.assert_array_equal(matrix[-1], expected[-1])
    np.testing.assert_array_equal(matrix[[5, 1, 5]], expected[[5, 1, 5]])
    np.testing.assert_array_equal(matrix[::-1], expected[::-1])
    np.testing.assert_array_equal(np.asarray(matrix), expected)
    with pytest.raises(IndexError):
        matrix[16]
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(matrix, np.zeros((16, 1)), epochs=1, verbose=0, shuffle="batch")
    assert model.predict(matrix, verbose=0).shape == (16, 1)
    matrix.close()
    with pytest.raises(ArgumentError, match="no array 'y'"):
        utils.HDF5Matrix(path, "y")


def test_convert_all_kernels():
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(3, (2, 3)), layers.SeparableConv2D(4, 3), layers.Dense(1)]
    )
    before = [w.numpy() for w in model.weights]
    utils.convert_all_kernels_in_model(model)
    after = [w.numpy() for w in model.weights]
    np.testing.assert_array_equal(after[0], before[0][::-1, ::-1])
    np.testing.assert_array_equal(after[2], before[2][::-1, ::-1])
    for kept in (1, 3, 4, 5, 6):
        np.testing.assert_array_equal(after[kept], before[kept])
    utils.convert_all_kernels_in_model(model)
    np.testing.assert_array_equal(model.weights[0].numpy(), before[0])


def branching():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    joined = layers.add([layers.Dense(4, name="left")(a), b])
    return keras.Model([a, b], layers.Dense(1, name="out")(joined)), a, b


def test_source_inputs():
    model, a, b = branching()
    found = utils.get_source_inputs(model.output)
    assert found == [a, b] or {id(t) for t in found} == {id(a), id(b)}
    assert utils.get_source_inputs(a)[0] is a


def test_print_summary_and_gpus():
    model, *_ = branching()
    lines, expected = [], []
    utils.print_summary(model, print_fn=lines.append)
    model.summary(print_fn=expected.append)
    assert lines == expected
    with pytest.warns(UserWarning, match="CPU"):
        assert utils.multi_gpu_model(model, gpus=2) is model
    with pytest.raises(ArgumentError, match="gpus >= 2"):
        utils.multi_gpu_model(model, gpus=1)


def test_packing(real_keras):
    for arguments in ((1,), (1, 2), (1, 2, 3), ([1, 2],)):
        found = utils.pack_x_y_sample_weight(*arguments)
        assert found == real_keras.utils.pack_x_y_sample_weight(*arguments)
    assert utils.pack_x_y_sample_weight(1, None, 3) == (1, None, 3)  # Keras drops the weight here
    for batch in (1, (1,), (1, 2), (1, 2, 3), [1, 2]):
        assert utils.unpack_x_y_sample_weight(batch) == real_keras.utils.unpack_x_y_sample_weight(batch)
    with pytest.raises(ArgumentError, match="4 items"):
        utils.unpack_x_y_sample_weight((1, 2, 3, 4))


def test_drawing(tmp_path, monkeypatch):
    model, *_ = branching()
    text = utils.to_dot(model, show_shapes=True, show_dtype=True, show_layer_activations=True, show_trainable=True)
    for edge in ('"a" -> "left"', '"left" -> "add', '"b" -> "add', '-> "out"'):
        assert edge in text
    assert "left (Dense)|activation: linear|input: (None, 4)|output: (None, 4)|dtype: float32|trainable" in text
    utils.plot_model(model, tmp_path / "m.dot")
    assert (tmp_path / "m.dot").read_text() == utils.to_dot(model, show_shapes=True)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotSupportedError, match="Graphviz"):
        utils.plot_model(model, tmp_path / "m.png")
    with pytest.raises(ArgumentError, match="not yet been built"):
        utils.plot_model(keras.Sequential([layers.Dense(1)]), tmp_path / "m.dot")


def test_drawing_of_nested_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="deep")], name="inner")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(1, name="last")(inner(x)))
    text = utils.to_dot(model, expand_nested=True)
    assert 'subgraph "cluster_inner"' in text and '"inner/deep" -> "last"' in text
    assert "cluster" not in utils.to_dot(model)
