"""The prediction graph of a model without data, and export from it."""

import shutil

import numpy as np
import pytest

from kcompile import keras, pipeline
from kcompile.errors import CompilerBug, KcompileError, NotSupportedError
from kcompile.ir.interpret import run
from kcompile.keras.training.programs import predict_graph, trace_predict
from kcompile.passes.inference import freeze
from tests.keras.saving.models import attention, cnn, data, interpret, two_by_two
from tests.passes.test_program import dense_training


def test_inputs_and_outputs_carry_their_names():
    model, x, y = two_by_two(keras)
    interpret(model).fit(x, y, verbose=0)
    traced = trace_predict(model)
    assert list(traced.graph.outputs) == ["o1", "o2"]
    found = run(traced.graph, {"a": x[0], "b": x[1], **traced.arrays()})[0]
    for name, expected in zip(("o1", "o2"), model.predict(x, verbose=0)):
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
    assert "f32[batch,4]" in str(predict_graph(model))


def test_subclassed_models_need_their_shapes():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Net()
    with pytest.raises(KcompileError, match="input shapes"):
        predict_graph(model)
    model(data((4, 3)))
    assert "f32[batch,3]" in str(predict_graph(model))


def test_other_formats_are_refused(tmp_path):
    model, _, _ = cnn(keras)
    with pytest.raises(NotSupportedError, match="onnx"):
        model.export(tmp_path / "m.so", format="onnx")
    with pytest.raises(KcompileError, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(1)]).export(tmp_path / "m.so")


@pytest.mark.skipif(not any(shutil.which(c) for c in ("cc", "gcc", "clang")), reason="no C compiler")
@pytest.mark.parametrize("build", [cnn, attention])
def test_exported_library_predicts(build, tmp_path):
    from kcompile.export.load import ExportedModel

    model, x, _ = build(keras)
    header = model.export(tmp_path / "libm.so")
    assert header == tmp_path / "libm.h" and header.exists()
    library = ExportedModel(tmp_path / "libm.so")
    for rows in (1, 3, 8):
        expected = interpret(model).predict(x[:rows], verbose=0)
        np.testing.assert_allclose(library(x[:rows]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not any(shutil.which(c) for c in ("cc", "gcc", "clang")), reason="no C compiler")
def test_exported_recurrent_model_is_predict_to_the_bit(tmp_path):
    from kcompile.export.load import ExportedModel

    body = [keras.Input((None, 3)), keras.layers.LSTM(5, return_sequences=True), keras.layers.LSTM(4)]
    model = keras.Sequential([*body, keras.layers.Dense(2)])
    model.export(tmp_path / "librnn.so")
    library = ExportedModel(tmp_path / "librnn.so")
    for rows, length in ((1, 1), (3, 7), (33, 4)):
        x = data((rows, length, 3))
        np.testing.assert_array_equal(library(x), model.predict(x, verbose=0, batch_size=64))


@pytest.mark.skipif(not any(shutil.which(c) for c in ("cc", "gcc", "clang")), reason="no C compiler")
def test_normalisation_folds_into_weights(tmp_path):
    from kcompile.export.load import ExportedModel

    model, x, y = cnn(keras)
    interpret(model).fit(x, y, verbose=0, epochs=2)
    traced = trace_predict(model)
    built = pipeline.build(freeze(traced.graph, traced.arrays()))
    assert "rsqrt" in str(traced.graph)
    assert not {"rsqrt", "sub"} & {n.op.name for n in built.graph.live_nodes() if n.op and n.output.rank == 4}
    model.export(tmp_path / "libm.so", fold_weights=True)
    np.testing.assert_allclose(
        ExportedModel(tmp_path / "libm.so")(x), model.predict(x, verbose=0), rtol=1e-4, atol=1e-6
    )


def test_a_training_step_cannot_be_frozen():
    graph = dense_training()
    with pytest.raises(CompilerBug, match="only inference"):
        freeze(graph, {})


@pytest.mark.skipif(not any(shutil.which(c) for c in ("cc", "gcc", "clang")), reason="no C compiler")
def test_each_exported_model_has_a_state_of_its_own(tmp_path):
    """A library's weights cannot be written to; states of layers are, by every call."""
    from kcompile.export.load import ExportedModel

    class Counts(keras.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="ones", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            return x * self.calls

    inputs = keras.Input(batch_shape=(2, 4, 3))
    model = keras.Model(inputs, Counts()(keras.layers.LSTM(4, stateful=True)(inputs)))
    model.export(tmp_path / "libm.so")
    assert "one call at a time" in (tmp_path / "libm.h").read_text()
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 3)).astype("f")
    expected = [model.predict(part, verbose=0) for part in x]
    first, second = ExportedModel(tmp_path / "libm.so"), ExportedModel(tmp_path / "libm.so")
    for part, wanted in zip(x, expected):
        np.testing.assert_array_equal(first(part), wanted)
        np.testing.assert_array_equal(second(part), wanted)
    assert not np.array_equal(first(x[0]), expected[0])
