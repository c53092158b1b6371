"""`preprocess_input` and `decode_predictions`, in the three conventions of the published weights."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import config, ops
from kcompile.keras.tracing.tensor import Tensor, is_symbolic
from kcompile.keras.utils.files import get_file

CLASS_INDEX = "imagenet_class_index.json"
_ORIGIN = "https://storage.googleapis.com/download.tensorflow.org/data/" + CLASS_INDEX
_MD5 = "c2c37ea517e94d9795004a39431a14cb"
# mean and spread of the channels over the training images
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red; Simonyan, Zisserman 2014
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue; of ImageNet


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Return images of 0..255 (RGB) as a network was trained on them.

    Args:
        x: [..., height, width, 3] (or channels first), an array or a symbolic tensor; not changed.
        mode: "caffe": BGR, centred on the mean; "tf": from -1 to 1; "torch": from 0 to 1, then normalized.

    >>> preprocess_input(np.full((1, 1, 3), 255.0), mode="tf").tolist()
    [[[1.0, 1.0, 1.0]]]

    Raises: ArgumentError for another mode or layout.
    """
    if mode not in ("caffe", "tf", "torch"):
        raise ArgumentError(f"Expected mode to be one of `caffe`, `tf` or `torch`. Received: mode={mode}")
    axis = -3 if config.standardize_data_format(data_format) == "channels_first" else -1
    if is_symbolic(x):
        x = ops.cast(x, config.floatx()) if x.dtype not in ("float32", "float64", "bfloat16", "float16") else x
        flip = ops.flip
    else:
        x = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
        x = x if x.dtype.kind == "f" else x.astype(config.floatx())
        flip = np.flip

    def per_channel(values):
        array = np.asarray(values, dtype=str(x.dtype) if str(x.dtype) != "bfloat16" else "float32")
        return array.reshape(3, 1, 1) if axis == -3 else array

    if mode == "tf":
        return x / 127.5 - 1.0
    if mode == "torch":
        return (x / 255.0 - per_channel(_TORCH_MEAN)) / per_channel(_TORCH_STD)
    return flip(x, axis=axis) - per_channel(_CAFFE_MEAN)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Return per image the `top` likeliest classes as (WordNet id, name, score).

    Args:   preds: [batch, 1000], from a model with its top.
    Raises: ArgumentError for another shape; OSError if the list of names is neither cached nor to be had.
    """
    scores = np.asarray(preds.numpy() if isinstance(preds, Tensor) else preds)
    if scores.ndim != 2 or scores.shape[1] != 1000:
        raise ArgumentError(
            "`decode_predictions` expects a batch of predictions (i.e. a 2D array of shape (samples, 1000)). "
            f"Received array with shape: {scores.shape}"
        )
    path = get_file(CLASS_INDEX, _ORIGIN, cache_subdir="models", file_hash=_MD5)
    index = _class_index(path, os.stat(path).st_mtime_ns)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*index[str(c)], row[c]) for c in chosen] for row, chosen in zip(scores, best)]


@functools.lru_cache(maxsize=1)
def _class_index(path: str, changed: int) -> dict[str, list[str]]:
    """Return class number -> [WordNet id, name]; read once per file and its time of change."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def caffe_input(x: Any, data_format: str | None = None) -> Any:
    """Return RGB images of 0..255 as BGR, centred on the training images' mean."""
    return preprocess_input(x, data_format, "caffe")


def tf_input(x: Any, data_format: str | None = None) -> Any:
    """Return images of 0..255 scaled to -1..1."""
    return preprocess_input(x, data_format, "tf")


def torch_input(x: Any, data_format: str | None = None) -> Any:
    """Return images of 0..255 scaled to 0..1, then normalized channel by channel."""
    return preprocess_input(x, data_format, "torch")


def as_they_are(x: Any, data_format: str | None = None) -> Any:
    """Return the images of 0..255 unchanged: networks of this family scale them themselves."""
    return x
