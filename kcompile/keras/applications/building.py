"""What all applications share: the input, the classifier at the end, weights, and the usual blocks.

A model file says its body; `start` gives the image tensor, `finish` adds the top and wraps a Model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import config, layers
from kcompile.keras.models import Functional
from kcompile.keras.tracing.tensor import is_symbolic
from kcompile.keras.utils.files import get_file
from kcompile.keras.utils.graphs import get_source_inputs

_ORIGIN = "https://storage.googleapis.com/tensorflow/keras-applications"  # where Keras publishes its weights
IMAGENET_CLASSES = 1000


def start(
    *, include_top: bool, weights: Any, input_tensor: Any, input_shape: Any, classes: int, size: int, least: int
) -> Any:
    """Return the image tensor, after checking the arguments that all applications share.

    Args:
        size: height and width by default.   least: the smallest height and width the body can take.

    Raises: ArgumentError naming the argument.
    """
    if not (weights in (None, "imagenet") or os.path.exists(weights)):
        raise ArgumentError(
            "The `weights` argument should be either `None` (random initialization), `'imagenet'`, or the path of a "
            f"weights file. There is no file {weights!r}."
        )
    if weights == "imagenet" and include_top and classes != IMAGENET_CLASSES:
        raise ArgumentError(
            f"With weights='imagenet' and include_top=True, `classes` should be {IMAGENET_CLASSES}. "
            f"Received: classes={classes}"
        )
    shape = image_shape(input_shape, size, least, include_top, weights)
    if input_tensor is None:
        return layers.Input(shape=shape)
    return input_tensor if is_symbolic(input_tensor) else layers.Input(shape=shape, tensor=input_tensor)


def image_shape(input_shape: Any, size: int, least: int, include_top: bool, weights: Any) -> tuple:
    """Return the shape of one image, checked.

    Raises: ArgumentError for a wrong rank, number of channels or size.
    """
    first = config.image_data_format() == "channels_first"

    def laid_out(height, width, channels):
        return (channels, height, width) if first else (height, width, channels)

    if input_shape is None:
        return laid_out(size, size, 3) if include_top else laid_out(None, None, 3)
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ArgumentError(f"`input_shape` must be a tuple of three integers. Received: input_shape={input_shape}")
    channels = shape[0] if first else shape[-1]
    sides = shape[1:] if first else shape[:-1]
    if weights == "imagenet":
        if channels != 3:
            raise ArgumentError(f"weights='imagenet' needs 3 channels. Received: input_shape={input_shape}")
        if include_top and shape != laid_out(size, size, 3):
            raise ArgumentError(
                f"With weights='imagenet' and include_top=True, `input_shape` should be {laid_out(size, size, 3)}. "
                f"Received: input_shape={input_shape}"
            )
    if any(side is not None and side < least for side in sides):
        raise ArgumentError(f"Input size must be at least {least}x{least}. Received: input_shape={input_shape}")
    if include_top and None in shape:
        raise ArgumentError(f"With include_top=True, `input_shape` must be static. Received: input_shape={input_shape}")
    return shape


def check_classifier(weights: Any, classifier_activation: Any) -> Any:
    """Return the activation of the last layer; published weights fit softmax and no activation."""
    name = getattr(classifier_activation, "__name__", classifier_activation)
    if weights == "imagenet" and name not in ("softmax", "linear", None):
        raise ArgumentError(
            "Only `None` and `softmax` activations are allowed for `classifier_activation` with pretrained weights. "
            f"Received: classifier_activation={classifier_activation}"
        )
    return classifier_activation


def pooled(x: Any, pooling: str | None) -> Any:
    """Return the features of a model without top: as they are, or one number per channel.

    Raises: ArgumentError unless `pooling` is None, "avg" or "max".
    """
    if pooling is None:
        return x
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool")(x)
    raise ArgumentError(f"`pooling` should be None, 'avg' or 'max'. Received: pooling={pooling!r}")


def head(x: Any, *, include_top: bool, pooling: str | None, classes: int, weights: Any, classifier_activation: Any):
    """Return class probabilities from the mean of each channel, or the features without top."""
    if not include_top:
        return pooled(x, pooling)
    activation = check_classifier(weights, classifier_activation)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def finish(
    inputs: Any, x: Any, name: str, *, input_tensor: Any, weights: Any, include_top: bool, published: dict, folder: str
) -> Functional:
    """Return the model from `inputs` to `x`, with weights from a file if one is named.

    Args:
        published: include_top -> (file name, md5) of the published weights.
        folder: their folder in the archive of weights.
    """
    if input_tensor is not None and is_symbolic(input_tensor):
        inputs = get_source_inputs(input_tensor)
        inputs = inputs[0] if len(inputs) == 1 else inputs
    model = Functional(inputs, x, name=name)
    if weights == "imagenet":
        if include_top not in published:
            raise ArgumentError(f"There are no published weights for this variant of {name}; pass weights=None.")
        file, md5 = published[bool(include_top)]
        weights = get_file(file, f"{_ORIGIN}/{folder}{file}", cache_subdir="models", file_hash=md5)
    if weights is not None:
        model.load_weights(weights)
    return model


def channel_axis() -> int:
    return 1 if config.image_data_format() == "channels_first" else -1


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
