"""What all applications share: their arguments, the input, the classifier at the end, weights, and common blocks.

A family file says what its networks are (`Network`: a body, and a top where it is not the usual one) and gets the
public functions from `application`. `build` does the rest, in one order for all: check the arguments, make the
input, run the body, add the top or pool, wrap a Model, load weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import config, layers
from kcompile.keras.models import Functional
from kcompile.keras.tracing.tensor import is_symbolic
from kcompile.keras.utils.files import get_file
from kcompile.keras.utils.graphs import get_source_inputs

ORIGIN = "https://storage.googleapis.com/tensorflow/keras-applications"  # where Keras publishes its weights
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Given:
    """The arguments that all applications take; `include_preprocessing` only those that scale images themselves."""

    include_top: bool = True
    weights: Any = "imagenet"
    input_tensor: Any = None
    input_shape: Any = None
    pooling: str | None = None
    classes: int = IMAGENET_CLASSES
    classifier_activation: Any = "softmax"
    include_preprocessing: bool = True


@dataclass(frozen=True)
class Network:
    """What one application is.

    Args:
        body: (image, given) -> features.
        size: height and width by default; None: any, with the top too.
        least: the smallest height and width the body can take.
        top: (features, given) -> classes; None: the mean of each channel, one dense layer.
        pools: names of the pooling layers that a model without top may end in.
        published: include_top -> (file name, its hash) of the published weights.
        origin: the address of their folder.
        last: makes the layer that a model without top ends in, behind its pooling.
    """

    body: Callable[[Any, Given], Any]
    size: int | None
    least: int
    top: Callable[[Any, Given], Any] | None = None
    pools: tuple[str | None, str | None] = ("avg_pool", "max_pool")
    published: Mapping[bool, tuple[str, str | None]] = field(default_factory=dict)
    origin: str = ORIGIN
    last: Callable[[], Any] | None = None


def application(label: str, network: Network, name: str) -> Callable[..., Functional]:
    """Return the public function of a network that takes the usual arguments and no others."""

    def function(
        include_top=True,
        weights="imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=IMAGENET_CLASSES,
        classifier_activation="softmax",
        name=name,
    ) -> Functional:
        given = Given(include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation)
        return build(network, given, name)

    return described(function, label, network)


def described(function: Callable[..., Functional], label: str, network: Network) -> Callable[..., Functional]:
    """Give a made function its public name and a docstring."""
    function.__name__ = function.__qualname__ = label
    size = f"{network.size}x{network.size}x3 by default" if network.size else "Images of any size"
    function.__doc__ = f"Return {label}. {size}, at least {network.least}x{network.least}."
    return function


def build(network: Network, given: Given, name: str) -> Functional:
    """Return the model that was asked for.

    Raises: ArgumentError naming the argument.
    """
    _check(given)
    shape = _image_shape(network, given)
    if given.input_tensor is None:
        inputs = image = layers.Input(shape=shape)
    elif is_symbolic(given.input_tensor):  # what comes before it becomes part of the model
        image = given.input_tensor
        sources = get_source_inputs(image)
        inputs = sources[0] if len(sources) == 1 else sources
    else:
        inputs = image = layers.Input(shape=shape, tensor=given.input_tensor)
    x = network.body(image, given)
    if given.include_top:
        x = (network.top or mean_top)(x, given)
    else:
        x = _pooled(x, given.pooling, network.pools)
        x = x if network.last is None else network.last()(x)
    model = Functional(inputs, x, name=name)
    if (weights := _weights_file(network, given, name)) is not None:
        model.load_weights(weights)
    return model


def _check(given: Given) -> None:
    weights = given.weights
    if not (weights in (None, "imagenet") or os.path.exists(weights)):
        raise ArgumentError(
            "The `weights` argument should be either `None` (random initialization), `'imagenet'`, or the path of a "
            f"weights file. There is no file {weights!r}."
        )
    if given.pooling not in (None, "avg", "max"):
        raise ArgumentError(f"`pooling` should be None, 'avg' or 'max'. Received: pooling={given.pooling!r}")
    if weights != "imagenet" or not given.include_top:
        return
    if given.classes != IMAGENET_CLASSES:
        raise ArgumentError(
            f"With weights='imagenet' and include_top=True, `classes` should be {IMAGENET_CLASSES}. "
            f"Received: classes={given.classes}"
        )
    activation = given.classifier_activation
    if getattr(activation, "__name__", activation) not in ("softmax", "linear", None):
        raise ArgumentError(
            "Only `None` and `softmax` activations are allowed for `classifier_activation` with pretrained weights. "
            f"Received: classifier_activation={activation}"
        )


def _image_shape(network: Network, given: Given) -> tuple:
    """Return the shape of one image, checked.

    Raises: ArgumentError for a wrong rank, number of channels or size.
    """
    size, least, include_top = network.size, network.least, given.include_top
    first = config.image_data_format() == "channels_first"

    def laid_out(side):
        return (3, side, side) if first else (side, side, 3)

    if given.input_shape is None:
        return laid_out(size if include_top else None)
    shape = tuple(given.input_shape)
    if len(shape) != 3:
        raise ArgumentError(
            f"`input_shape` must be a tuple of three integers. Received: input_shape={given.input_shape}"
        )
    received = f"Received: input_shape={given.input_shape}"
    if given.weights == "imagenet":
        if (shape[0] if first else shape[-1]) != 3:
            raise ArgumentError(f"weights='imagenet' needs 3 channels. {received}")
        if include_top and size and shape != laid_out(size):
            raise ArgumentError(
                f"With weights='imagenet' and include_top=True, `input_shape` should be {laid_out(size)}. {received}"
            )
    if any(side is not None and side < least for side in (shape[1:] if first else shape[:-1])):
        raise ArgumentError(f"Input size must be at least {least}x{least}. {received}")
    if include_top and size and None in shape:
        raise ArgumentError(f"With include_top=True, `input_shape` must be static. {received}")
    return shape


def square_side(input_shape: Any, input_tensor: Any = None) -> int | None:
    """Return the side of a square image, or None."""
    shape = input_shape
    if shape is None and is_symbolic(input_tensor):
        shape = input_tensor.shape[1:]
    if shape is None or len(shape) != 3:
        return None
    first = config.image_data_format() == "channels_first"
    height, width = shape[1:] if first else shape[:2]
    return height if height == width else None


def rows_asked_for(network: Network, given: Given) -> int | None:
    """Return the height of the images, or None if any will do; some names hold it."""
    return _image_shape(network, given)[1 if config.image_data_format() == "channels_first" else 0]


def mean_top(x: Any, given: Given) -> Any:
    """Return class probabilities from the mean of each channel."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.Dense(given.classes, activation=given.classifier_activation, name="predictions")(x)


def _pooled(x: Any, pooling: str | None, names: tuple[str | None, str | None]) -> Any:
    """Return the features of a model without top: as they are, or one number per channel."""
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name=names[0])(x)
    return layers.GlobalMaxPooling2D(name=names[1])(x) if pooling == "max" else x


def _weights_file(network: Network, given: Given, name: str) -> Any:
    """Return the path of the weights to load, or None.

    Raises: ArgumentError if published weights were asked for and there are none, or they are not to be had.
    """
    if given.weights != "imagenet":
        return given.weights
    if bool(given.include_top) not in network.published:
        raise ArgumentError(f"There are no published weights for this variant of {name}; pass weights=None.")
    file, digest = network.published[bool(given.include_top)]
    address = f"{network.origin}/{file}"
    try:
        return get_file(file, address, cache_subdir="models", file_hash=digest)
    except OSError as error:
        raise ArgumentError(
            f"The published weights of {name} are not in the cache and {address} cannot be read ({error}). "
            "Pass weights=None, or the path of a weights file."
        ) from error


def files(stem: str, hashes: tuple[str | None, str | None], without: str = "_notop") -> Mapping:
    """Return `Network.published` from the name of a file and the hashes with and without top."""
    return {True: (f"{stem}.h5", hashes[0]), False: (f"{stem}{without}.h5", hashes[1])}


def channel_axis() -> int:
    return 1 if config.image_data_format() == "channels_first" else -1


def rounded(channels: float, keep: float = 0.9) -> int:
    """Return the nearest multiple of 8, at least 8 and at least `keep` of what was asked for.

    >>> rounded(19.2), rounded(19.2, keep=0)
    (24, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < keep * channels else nearest


def border(x: Any, window: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the zeros around an image that centre windows of stride 2: one fewer in front of an even size."""
    first = channel_axis() == 1
    height, width = x.shape[2:] if first else x.shape[1:3]

    def at(size):
        return (window // 2 - (1 if size is None else 1 - size % 2), window // 2)

    return at(height), at(width)


def conv_bn(
    x: Any,
    filters: int,
    window: Any,
    strides: int = 1,
    padding: str = "same",
    activation: str | Callable | None = "relu",
    names: tuple = (None, None, None),
    **normalization: Any,
) -> Any:
    """Convolution without bias, normalization, activation.

    Args:   names: of the convolution, the normalization and the activation.
    """
    x = layers.Conv2D(filters, window, strides=strides, padding=padding, use_bias=False, name=names[0])(x)
    x = layers.BatchNormalization(axis=channel_axis(), name=names[1], **normalization)(x)
    return x if activation is None else layers.Activation(activation, name=names[2])(x)
