"""Images: arrays, files, and `ImageDataGenerator`, which changes them at random while training."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import config
from kcompile.keras.preprocessing.affine import (
    FILL_MODES,
    apply_affine_transform,
    apply_brightness_shift,
    apply_channel_shift,
    random_brightness,
    random_channel_shift,
    random_rotation,
    random_shear,
    random_shift,
    random_zoom,
)
from kcompile.keras.preprocessing.directory import DirectoryIterator
from kcompile.keras.preprocessing.iterator import Iterator
from kcompile.keras.utils.images import array_to_img, img_to_array, load_img, save_img, smart_resize

__all__ = [
    "DirectoryIterator",
    "ImageDataGenerator",
    "Iterator",
    "NumpyArrayIterator",
    "apply_affine_transform",
    "apply_brightness_shift",
    "apply_channel_shift",
    "array_to_img",
    "img_to_array",
    "load_img",
    "random_brightness",
    "random_channel_shift",
    "random_rotation",
    "random_shear",
    "random_shift",
    "random_zoom",
    "save_img",
    "smart_resize",
]


class NumpyArrayIterator(Iterator):
    """Changed images out of an array; made by `ImageDataGenerator.flow`.

    Shapes: x [n, height, width, channels] (or channels first), y [n, ...].
    """

    def __init__(
        self,
        x,
        y,
        image_data_generator,
        batch_size=32,
        shuffle=False,
        sample_weight=None,
        seed=None,
        data_format=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        subset=None,
        ignore_class_split=False,
        dtype=None,
    ):
        x, *self.others = x if isinstance(x, (tuple, list)) else (x,)
        x = np.asarray(x, dtype=dtype or config.floatx())
        if x.ndim != 4:
            raise ArgumentError(f"Input data in `NumpyArrayIterator` should have rank 4. Received shape {x.shape}")
        for name, given in (("y", y), ("sample_weight", sample_weight), *(("x", o) for o in self.others)):
            if given is not None and len(given) != len(x):
                raise ArgumentError(f"Images and `{name}` should have the same length. Found {len(x)} and {len(given)}")
        rows = slice(None)
        if subset is not None:
            if subset not in ("training", "validation"):
                raise ArgumentError(f"Invalid subset name: {subset!r}; expected 'training' or 'validation'.")
            at = int(len(x) * image_data_generator._validation_split)
            if y is not None and not ignore_class_split:
                first, last = np.unique(np.asarray(y)[:at], axis=0), np.unique(np.asarray(y)[at:], axis=0)
                if not np.array_equal(first, last):
                    raise ArgumentError(
                        "Training and validation subsets have different classes after the split. Shuffle your data, "
                        "or pass ignore_class_split=True."
                    )
            rows = slice(None, at) if subset == "validation" else slice(at, None)
        self.x, self.others = x[rows], [np.asarray(o)[rows] for o in self.others]
        self.y = None if y is None else np.asarray(y)[rows]
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
        self.image_data_generator = image_data_generator
        self.data_format = data_format or image_data_generator.data_format
        self.save_to_dir, self.save_prefix, self.save_format = save_to_dir, save_prefix, save_format
        super().__init__(len(self.x), batch_size, shuffle, seed)

    def _get_batches_of_transformed_samples(self, index_array: np.ndarray) -> Any:
        generator = self.image_data_generator
        images = np.stack([generator.standardize(generator._changed(self.x[i], self.rng)) for i in index_array])
        images = images.astype(self.x.dtype, copy=False)
        if self.save_to_dir:
            for i, image in zip(index_array, images):
                name = f"{self.save_prefix}_{i}_{self.rng.integers(10_000)}.{self.save_format}"
                array_to_img(image, self.data_format, scale=True).save(os.path.join(self.save_to_dir, name))
        batch = [images if not self.others else [images, *(o[index_array] for o in self.others)]]
        if self.y is None:
            return batch[0]
        batch.append(self.y[index_array])
        if self.sample_weight is not None:
            batch.append(self.sample_weight[index_array])
        return tuple(batch)


class ImageDataGenerator:
    """Batches of images, each changed at random.

    Args:
        featurewise_center, featurewise_std_normalization, zca_whitening: by what `fit` finds in the data.
        samplewise_center, samplewise_std_normalization: image by image.
        rotation_range: degrees.   shear_range: degrees.
        width_shift_range, height_shift_range: a share of the size if below 1, else pixels; or a list to draw from.
        brightness_range: (low, high) factors.   channel_shift_range: what is added at most.
        zoom_range: (low, high), or one number z for (1 - z, 1 + z).
        fill_mode, cval: what comes in at the edges.
        rescale: factor, after all changes.   preprocessing_function: applied after the changes, before rescaling.
        validation_split: the share that `flow(subset="validation")` gives.
        interpolation_order: 0 or 1.
    """

    def __init__(
        self,
        featurewise_center=False,
        samplewise_center=False,
        featurewise_std_normalization=False,
        samplewise_std_normalization=False,
        zca_whitening=False,
        zca_epsilon=1e-6,
        rotation_range=0,
        width_shift_range=0.0,
        height_shift_range=0.0,
        brightness_range=None,
        shear_range=0.0,
        zoom_range=0.0,
        channel_shift_range=0.0,
        fill_mode="nearest",
        cval=0.0,
        horizontal_flip=False,
        vertical_flip=False,
        rescale=None,
        preprocessing_function=None,
        data_format=None,
        validation_split=0.0,
        interpolation_order=1,
        dtype=None,
    ):
        if fill_mode not in FILL_MODES:
            raise ArgumentError(f"`fill_mode` must be one of {FILL_MODES}. Received: fill_mode={fill_mode!r}")
        if validation_split and not 0 < validation_split < 1:
            raise ArgumentError(f"`validation_split` must be strictly between 0 and 1. Received: {validation_split}")
        if isinstance(zoom_range, (int, float)):
            zoom_range = (1 - zoom_range, 1 + zoom_range)
        for name, pair in (("zoom_range", zoom_range), ("brightness_range", brightness_range)):
            if pair is not None and len(pair) != 2:
                raise ArgumentError(f"`{name}` should be a tuple of two floats. Received: {pair}")
        self.zca_whitening, self.zca_epsilon = zca_whitening, zca_epsilon
        self.featurewise_std_normalization = featurewise_std_normalization
        self.featurewise_center = featurewise_center or featurewise_std_normalization or zca_whitening
        self.samplewise_std_normalization = samplewise_std_normalization
        self.samplewise_center = samplewise_center or samplewise_std_normalization
        self.rotation_range, self.shear_range = rotation_range, shear_range
        self.width_shift_range, self.height_shift_range = width_shift_range, height_shift_range
        self.brightness_range, self.channel_shift_range = brightness_range, channel_shift_range
        self.zoom_range = tuple(zoom_range)
        self.fill_mode, self.cval, self.interpolation_order = fill_mode, cval, interpolation_order
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip
        self.rescale, self.preprocessing_function = rescale, preprocessing_function
        self.data_format = config.standardize_data_format(data_format)
        self.dtype = dtype or config.floatx()
        self._validation_split = validation_split
        first = self.data_format == "channels_first"
        # axes of one image
        self.channel_axis, self.row_axis, self.col_axis = (0, 1, 2) if first else (2, 0, 1)
        self.mean = self.std = self.zca_whitening_matrix = None

    def flow(
        self,
        x,
        y=None,
        batch_size=32,
        shuffle=True,
        sample_weight=None,
        seed=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        ignore_class_split=False,
        subset=None,
    ) -> NumpyArrayIterator:
        """Return batches of changed images out of an array, usable in `fit`."""
        return NumpyArrayIterator(
            x,
            y,
            self,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            seed=seed,
            data_format=self.data_format,
            save_to_dir=save_to_dir,
            save_prefix=save_prefix,
            save_format=save_format,
            subset=subset,
            ignore_class_split=ignore_class_split,
            dtype=self.dtype,
        )

    # one image ------------------------------------------------------------------------------------

    def flow_from_directory(
        self,
        directory,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        seed=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        follow_links=False,
        subset=None,
        interpolation="nearest",
        keep_aspect_ratio=False,
    ) -> DirectoryIterator:
        """Return changed images out of a folder that has a subfolder for each class."""
        given = {k: v for k, v in locals().items() if k not in ("self", "directory")}
        return DirectoryIterator(directory, self, data_format=self.data_format, dtype=self.dtype, **given)

    def standardize(self, x: np.ndarray) -> np.ndarray:
        """Return an image preprocessed, rescaled and normalized as configured.

        Raises: ArgumentError if `fit` is needed first.
        """
        if self.preprocessing_function is not None:
            x = self.preprocessing_function(x)
        if self.rescale is not None:
            x = x * self.rescale
        if self.samplewise_center:
            x = x - np.mean(x)
        if self.samplewise_std_normalization:
            x = x / (np.std(x) + 1e-6)
        needs = (
            (self.featurewise_center, self.mean),
            (self.featurewise_std_normalization, self.std),
            (self.zca_whitening, self.zca_whitening_matrix),
        )
        if any(wanted and found is None for wanted, found in needs):
            raise ArgumentError("This ImageDataGenerator normalizes by the data: call `.fit(images)` first.")
        if self.featurewise_center:
            x = x - self.mean
        if self.featurewise_std_normalization:
            x = x / (self.std + 1e-6)
        if self.zca_whitening:
            x = (x.reshape(1, -1) @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
        """Return what to do with one image: the arguments of `apply_transform`."""
        return self._drawn(img_shape, np.random.default_rng(seed))

    def _drawn(self, img_shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Any]:
        low, high = self.zoom_range
        zoom = (1.0, 1.0) if low == high == 1 else rng.uniform(low, high, 2)
        shift = self.channel_shift_range
        brightness = self.brightness_range
        return {
            "theta": rng.uniform(-self.rotation_range, self.rotation_range) if self.rotation_range else 0.0,
            "tx": _shift(self.height_shift_range, img_shape[self.row_axis], rng),
            "ty": _shift(self.width_shift_range, img_shape[self.col_axis], rng),
            "shear": rng.uniform(-self.shear_range, self.shear_range) if self.shear_range else 0.0,
            "zx": float(zoom[0]),
            "zy": float(zoom[1]),
            "flip_horizontal": bool(self.horizontal_flip and rng.random() < 0.5),
            "flip_vertical": bool(self.vertical_flip and rng.random() < 0.5),
            "channel_shift_intensity": rng.uniform(-shift, shift) if shift else None,
            "brightness": rng.uniform(*brightness) if brightness is not None else None,
        }

    def apply_transform(self, x: np.ndarray, transform_parameters: dict[str, Any]) -> np.ndarray:
        """Return an image changed as `transform_parameters` says; what is left out stays."""
        given = transform_parameters
        x = apply_affine_transform(
            x,
            given.get("theta", 0),
            given.get("tx", 0),
            given.get("ty", 0),
            given.get("shear", 0),
            given.get("zx", 1),
            given.get("zy", 1),
            row_axis=self.row_axis,
            col_axis=self.col_axis,
            channel_axis=self.channel_axis,
            fill_mode=self.fill_mode,
            cval=self.cval,
            order=self.interpolation_order,
        )
        if given.get("channel_shift_intensity") is not None:
            x = apply_channel_shift(x, given["channel_shift_intensity"], self.channel_axis)
        if given.get("flip_horizontal"):
            x = np.flip(x, self.col_axis)
        if given.get("flip_vertical"):
            x = np.flip(x, self.row_axis)
        if given.get("brightness") is not None:
            x = apply_brightness_shift(x, given["brightness"], scale=False)
        return x

    def random_transform(self, x: np.ndarray, seed: int | None = None) -> np.ndarray:
        """Return an image changed at random."""
        return self._changed(x, np.random.default_rng(seed))

    def _changed(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.apply_transform(x, self._drawn(x.shape, rng))

    # all images -----------------------------------------------------------------------------------

    def fit(self, x, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Find mean, spread and whitening of the images [n, height, width, channels].

        Args:   augment: of changed images, `rounds` times over.

        Raises: ArgumentError for another rank.
        """
        x = np.array(x, dtype=self.dtype)
        if x.ndim != 4:
            raise ArgumentError(f"Input to `.fit()` should have rank 4. Got array with shape: {x.shape}")
        if augment:
            rng = np.random.default_rng(seed)
            x = np.stack([self._changed(image, rng) for _ in range(rounds) for image in x])
        axes = tuple(a for a in range(4) if a != self.channel_axis + 1)
        if self.featurewise_center:
            self.mean = np.mean(x, axis=axes, keepdims=True)[0]
            x = x - self.mean
        if self.featurewise_std_normalization:
            self.std = np.std(x, axis=axes, keepdims=True)[0]
            x = x / (self.std + 1e-6)
        if self.zca_whitening:
            flat = x.reshape(len(x), -1)
            # flatᵀ flat / n = V diag(s²) Vᵀ / n; whitening is V diag(1 / √(s²/n + ε)) Vᵀ
            _, s, vt = np.linalg.svd(flat, full_matrices=False)
            self.zca_whitening_matrix = (vt.T / np.sqrt(s**2 / len(x) + self.zca_epsilon)) @ vt


def _shift(given: Any, size: int, rng: np.random.Generator) -> float:
    """Return a shift in pixels out of a range: a share of the size if below 1, whole pixels, or a list."""
    if not np.isscalar(given):
        chosen = float(rng.choice(given)) * rng.choice([-1, 1])
        return chosen * size if np.max(given) < 1 else chosen
    if not given:
        return 0.0
    if isinstance(given, int):
        return float(rng.integers(-given, given, endpoint=False))
    drawn = rng.uniform(-given, given)
    return drawn * size if given < 1 else drawn
