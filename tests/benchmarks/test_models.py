"""The peers run the same models: equal weights give equal answers, and the arithmetic is what one counts by hand."""

import numpy as np
import pytest

from benchmarks import models_keras, workloads
from benchmarks.limits import limit_s, multiply_adds, weight_bytes
from benchmarks.workloads import INFER, TRAIN, WORKLOADS, Workload, chosen, data
from kcompile import keras
from kcompile.runtime.machine import Level, Machine

ODD = (33, 33, 3)  # an odd size keeps Keras's "same" and PyTorch's padding alike at stride 2


def test_rows_have_names_of_their_own():
    assert len({w.name for w in WORKLOADS}) == len(WORKLOADS)
    assert {w.model for w in WORKLOADS} == set(workloads.SHAPES)
    assert chosen("cnn train", False) == [w for w in WORKLOADS if w.name in ("cnn train b32", "cnn train b128")]
    assert all(w.quick for w in chosen("", True)) and not chosen("vgg16", True)


@pytest.mark.parametrize("name", workloads.SHAPES)
def test_data_fits_the_model(name):
    x, y = data(name, 3)
    assert x.shape == (3, *workloads.SHAPES[name][0]) and len(y) == 3
    assert x.dtype == (np.int32 if name in workloads.TOKENS else np.float32)
    assert np.array_equal(data(name, 3)[0], x)


def torch_weights(torch, layers, module):
    """Copy the weights of Keras layers into PyTorch ones, in order."""
    targets = [m for m in module.modules() if list(m.parameters(recurse=False))]
    sources = [layer for layer in layers if layer.weights]
    named = {name.rpartition(".")[2]: m for name, m in module.named_modules()}
    for n, layer in enumerate(sources):
        target = named.get(layer.name, targets[n])
        values = [torch.from_numpy(np.array(w)) for w in layer.get_weights()]
        with torch.no_grad():
            if values[0].ndim == 4:
                order = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)
                target.weight.copy_(values[0].permute(order))
            elif values[0].ndim == 2:
                target.weight.copy_(_flattened(values[0], layer, layers).T)
            else:
                target.weight.copy_(values[0])
            if len(values) > 1:
                target.bias.copy_(values[1])
            if len(values) > 2:
                target.running_mean.copy_(values[2])
                target.running_var.copy_(values[3])


def _flattened(kernel, layer, layers):
    """Rows of a kernel that follows Flatten: from height, width, channels to channels, height, width."""
    before = layers[layers.index(layer) - 1] if layer in layers[1:] else None
    if not isinstance(before, keras.layers.Flatten):
        return kernel
    height, width, channels = before.input.shape[1:]
    return kernel.reshape(height, width, channels, -1).permute(2, 0, 1, 3).reshape(kernel.shape)


@pytest.mark.parametrize("name", ["tiny", "mlp", "cnn", "resnet20", "unet"])
def test_the_pytorch_twin_computes_the_same(name, monkeypatch):
    torch = pytest.importorskip("torch")
    from benchmarks import models_torch

    if name == "resnet20":
        monkeypatch.setitem(workloads.SHAPES, name, (ODD, 10))
    elif name == "unet":
        monkeypatch.setitem(workloads.SHAPES, name, ((16, 24, 3), 3))
    ours, twin = models_keras.build(keras, name), models_torch.build(name, softmax=True).eval()
    torch_weights(torch, ours.layers, twin)
    x = data(name, 3)[0]
    given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)
    with torch.no_grad():
        expected = twin(given).numpy()
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    np.testing.assert_allclose(ours.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["autoencoder", "mobilenet"])
def test_the_pytorch_twin_computes_the_same_backwards(name):
    """Padding goes last in Keras and first in PyTorch, so on even sizes the twin reads images and windows reversed."""
    torch = pytest.importorskip("torch")
    from benchmarks import models_torch

    if name == "autoencoder":
        ours, x = models_keras.build(keras, name), data(name, 3)[0]
    else:
        ours = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3))
        x = data(name, 1)[0][:, :32, :32]
    twin = models_torch.build(name, softmax=True).eval()
    torch_weights(torch, ours.layers, twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.flip((2, 3)))
        expected = twin(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).flip((2, 3))).numpy()
    if expected.ndim == 4:
        expected = expected[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)
    assert ours.count_params() == sum(v.numel() for k, v in twin.state_dict().items() if "num_batches" not in k)


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_the_pytorch_twin_has_the_same_weights(name):
    pytest.importorskip("torch")
    from benchmarks import models_torch

    if name == "resnet50":
        build = models_keras._MODELS[name]
        ours = {tuple(sorted(w.shape)) for w in build(keras).trainable_weights}
        twin = {tuple(sorted(p.shape)) for p in models_torch.build(name, softmax=False).parameters()}
        assert ours == twin
        return
    ours = models_keras.build(keras, name)
    twin = models_torch.build(name, softmax=False)
    assert sum(w.size for w in map(np.asarray, ours.trainable_weights)) == sum(p.numel() for p in twin.parameters())


def test_arithmetic_by_hand():
    assert multiply_adds(Workload("tiny", INFER, 5)) == 5 * (16 * 16 + 16 * 4 + 4)
    layers = ((26, 9, 1, 32), (11, 9, 32, 64), (3, 9, 64, 64))  # positions along an edge, window, channels in and out
    convolutions = [n * n * window * a * b for n, window, a, b in layers]
    dense = [576 * 64, 64 * 10]
    assert multiply_adds(Workload("cnn", INFER, 2)) == 2 * sum(convolutions + dense)
    # a training step: forward, gradient of weights, gradient of inputs (not of the first layer's)
    assert multiply_adds(Workload("cnn", TRAIN, 2)) == 2 * (3 * sum(convolutions + dense) - convolutions[0])


def test_the_limit_is_the_larger_of_arithmetic_and_weights():
    found = Machine(1, 1e3, (Level("L1", 200, 400.0), Level("memory", None, 100.0)))
    assert weight_bytes(Workload("tiny", INFER, 5)) == 4 * (16 * 16 + 16 + 16 * 4 + 4 + 4 + 1)
    assert limit_s(50, 40, found) == 0.1 and limit_s(5, 100, found) == 0.25 and limit_s(5, 1000, found) == 10
