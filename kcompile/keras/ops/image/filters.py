"""keras.ops.image: filters over neighbouring pixels, and patches."""

from __future__ import annotations

import itertools

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras.ops.function import broadcast, dtype_key, floating, promote, public, rank, tensor
from kcompile.keras.ops.image.layout import Layout
from kcompile.keras.ops.windows import per_axis
from kcompile.ops.conv import padded


def _bell(size: int, sigma, kind: str):
    """Weights of a normal distribution over `size` points around the middle, of sum 1."""
    x = tensor(np.arange(size) - (size - 1) / 2, kind)
    weights = prim.exp(prim.mul(tensor(-0.5, kind), prim.square(prim.div(x, sigma))))
    return prim.div(weights, prim.reduce_sum(weights, axes=(0,), keepdims=False))


def _each_channel(x, kernel, padding: str):
    """Convolve every channel with the same kernel [rows, columns]."""
    rows, columns = kernel.shape
    kernel = broadcast(prim.reshape(kernel, shape=(rows, columns, 1, 1)), (rows, columns, x.shape[-1], 1))
    return prim.depthwise_conv(x, kernel, padding=padding)


@public
def gaussian_blur(images, kernel_size=(3, 3), sigma=(1.0, 1.0), data_format=None):
    """Blur images with a Gaussian kernel; outside counts as zero."""
    layout = Layout(images, data_format)
    kind = dtype_key(layout.images)
    sigma = tensor(sigma, kind)
    over = [prim.reshape(prim.slice(sigma, starts=(n,), sizes=(1,), strides=(1,)), shape=()) for n in range(2)]
    # Keras's order: the first size and sigma run along the width
    width, height = (_bell(int(size), s, kind) for size, s in zip(kernel_size, over))
    kernel = prim.mul(prim.reshape(height, shape=(height.shape[0], 1)), prim.reshape(width, shape=(1, width.shape[0])))
    return layout.restored(_each_channel(layout.images, kernel, "same"))


@public
def sobel_edges(images, data_format=None):
    """Return the slopes (dy, dx) of images, as a new last axis."""
    if rank(tensor(images)) != 4:
        raise ShapeError(f"sobel_edges expects images of rank 4, received shape {tuple(tensor(images).shape)}")
    layout = Layout(images, data_format)
    x = layout.images
    down = np.asarray([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    both = []
    for kernel in (down, down.T):
        slope = layout.restored(_each_channel(x, tensor(kernel.copy(), dtype_key(x)), "same"))
        both.append(prim.reshape(slope, shape=(*slope.shape, 1)))
    return prim.concat(*both, axis=rank(x))


@public
def ssim(image1, image2, max_val=1.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03, data_format=None):
    """Return the structural similarity of two images. Source: Wang, Bovik, Sheikh, Simoncelli 2004, equation 13."""
    a, b = promote(floating(image1), floating(image2))
    if tuple(a.shape) != tuple(b.shape):
        raise ShapeError(f"ssim: images of shapes {tuple(a.shape)} and {tuple(b.shape)}")
    first = Layout(a, data_format)
    a, b = first.images, Layout(b, data_format).images
    kind = dtype_key(a)
    bell = _bell(int(filter_size), tensor(float(filter_sigma), kind), kind)
    size = bell.shape[0]
    kernel = prim.mul(prim.reshape(bell, shape=(size, 1)), prim.reshape(bell, shape=(1, size)))

    def local(x):
        return _each_channel(x, kernel, "valid")

    c1, c2, two = (tensor(float(v), kind) for v in ((k1 * max_val) ** 2, (k2 * max_val) ** 2, 2))
    mean_a, mean_b = local(a), local(b)
    product = prim.mul(mean_a, mean_b)
    squares = prim.add(prim.square(mean_a), prim.square(mean_b))
    spread = prim.sub(prim.add(local(prim.square(a)), local(prim.square(b))), squares)
    shared = prim.sub(local(prim.mul(a, b)), product)
    above = prim.mul(prim.add(prim.mul(two, product), c1), prim.add(prim.mul(two, shared), c2))
    below = prim.mul(prim.add(squares, c1), prim.add(spread, c2))
    ratio = prim.div(above, below)
    total = prim.reduce_sum(ratio, axes=(1, 2, 3), keepdims=False)
    count = tensor(float(np.prod(ratio.shape[1:])), kind)
    found = prim.div(total, count)
    return prim.reshape(found, shape=()) if first.single else found


# patches --------------------------------------------------------------------------------------------


def _patches(images, size, strides, dilation_rate, padding: str, data_format, spatial: int):
    layout = Layout(images, data_format, spatial)
    x = layout.images
    window = per_axis(size, spatial, "size")
    strides = window if not strides else per_axis(strides, spatial, "strides")
    gaps = per_axis(dilation_rate, spatial, "dilation_rate")
    if padding not in ("valid", "same"):
        raise ArgumentError(f"Invalid padding: {padding!r}; expected 'valid' or 'same'")
    x = padded(x, window, strides, padding, gaps)
    counts = [(n - (k - 1) * gap - 1) // stride + 1 for n, k, gap, stride in zip(x.shape[1:-1], window, gaps, strides)]
    parts = [
        prim.slice(
            x,
            starts=(0, *(t * gap for t, gap in zip(taps, gaps)), 0),
            sizes=(x.shape[0], *counts, x.shape[-1]),
            strides=(1, *strides, 1),
        )
        for taps in itertools.product(*(range(k) for k in window))
    ]
    return layout.restored(parts[0] if len(parts) == 1 else prim.concat(*parts, axis=spatial + 1))


@public
def extract_patches(images, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """Return the patches of images as pixels: all values of a patch lie along the channel axis."""
    spatial = 3 if not isinstance(size, int) and len(size) == 3 else 2
    return _patches(images, size, strides, dilation_rate, padding, data_format, spatial)


@public
def extract_patches_3d(volumes, size, strides=None, dilation_rate=1, padding="valid", data_format=None):
    """Return the patches of volumes: all values of a patch lie along the channel axis."""
    return _patches(volumes, size, strides, dilation_rate, padding, data_format, 3)
