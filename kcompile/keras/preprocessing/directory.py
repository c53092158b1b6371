"""DirectoryIterator: images in a folder for each class, read and changed batch by batch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import config
from kcompile.keras.preprocessing.iterator import Iterator
from kcompile.keras.utils.images import array_to_img, img_to_array, load_img

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff")
_CLASS_MODES = ("categorical", "binary", "sparse", "input", None)
_CHANNELS = {"rgb": 3, "rgba": 4, "grayscale": 1}


class DirectoryIterator(Iterator):
    """Changed images out of a folder; made by `ImageDataGenerator.flow_from_directory`.

    Args:
        classes: names of the subfolders in the order of their numbers; default all, sorted.
        class_mode: y is one-hot ("categorical"), a number ("binary", "sparse"), the images
            themselves ("input"), or left out (None).
    """

    def __init__(
        self,
        directory,
        image_data_generator,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        seed=None,
        data_format=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        follow_links=False,
        subset=None,
        interpolation="nearest",
        keep_aspect_ratio=False,
        dtype=None,
    ):
        if class_mode not in _CLASS_MODES:
            raise ArgumentError(f"Invalid class_mode: {class_mode!r}; expected one of {_CLASS_MODES}.")
        if color_mode not in _CHANNELS:
            raise ArgumentError(f"Invalid color mode: {color_mode!r}; expected one of {tuple(_CHANNELS)}.")
        if subset not in (None, "training", "validation"):
            raise ArgumentError(f"Invalid subset name: {subset!r}; expected 'training' or 'validation'.")
        if not os.path.isdir(directory):
            raise ArgumentError(f"There is no folder {directory!r}.")
        self.directory, self.image_data_generator = directory, image_data_generator
        self.target_size, self.color_mode, self.class_mode = tuple(target_size), color_mode, class_mode
        self.data_format = data_format or image_data_generator.data_format
        size, channels = self.target_size, (_CHANNELS[color_mode],)
        self.image_shape = channels + size if self.data_format == "channels_first" else size + channels
        self.save_to_dir, self.save_prefix, self.save_format = save_to_dir, save_prefix, save_format
        self.interpolation, self.keep_aspect_ratio = interpolation, keep_aspect_ratio
        self.dtype = dtype or config.floatx()
        names = classes or sorted(e.name for e in os.scandir(directory) if e.is_dir())
        self.class_indices = {name: number for number, name in enumerate(names)}
        self.num_classes = len(names)
        share = image_data_generator._validation_split or 0.0
        found = [
            (name, path)
            for name in names
            for path in _part(_images_below(os.path.join(directory, name), follow_links), subset, share)
        ]
        self.filepaths = [path for _, path in found]
        self.filenames = [os.path.relpath(path, directory) for path in self.filepaths]
        self.classes = np.array([self.class_indices[name] for name, _ in found], "int32")
        self.labels, self.samples = self.classes, len(found)
        super().__init__(len(found), batch_size, shuffle, seed)

    def _get_batches_of_transformed_samples(self, index_array: np.ndarray) -> Any:
        images = np.stack([self._image(self.filepaths[i]) for i in index_array])
        if self.save_to_dir:
            for i, image in zip(index_array, images):
                name = f"{self.save_prefix}_{i}_{self.rng.integers(10_000_000)}.{self.save_format}"
                array_to_img(image, self.data_format, scale=True).save(os.path.join(self.save_to_dir, name))
        if self.class_mode is None:
            return images
        if self.class_mode == "input":
            return images, images.copy()
        numbers = self.classes[index_array]
        if self.class_mode in ("sparse", "binary"):
            return images, numbers.astype(self.dtype)
        return images, np.eye(self.num_classes, dtype=self.dtype)[numbers]

    def _image(self, path: str) -> np.ndarray:
        image = load_img(
            path,
            color_mode=self.color_mode,
            target_size=self.target_size,
            interpolation=self.interpolation,
            keep_aspect_ratio=self.keep_aspect_ratio,
        )
        generator = self.image_data_generator
        array = img_to_array(image, data_format=self.data_format)
        return generator.standardize(generator._changed(array, self.rng)).astype(self.dtype, copy=False)


def _images_below(root: str, follow_links: bool) -> list[str]:
    found = []
    for place, folders, files in os.walk(root, followlinks=follow_links):
        folders.sort()
        found += [os.path.join(place, f) for f in sorted(files) if f.lower().endswith(_SUFFIXES)]
    return found


def _part(paths: list[str], subset: str | None, share: float) -> list[str]:
    """The first files of a class are for validation."""
    at = int(len(paths) * share)
    return {"validation": paths[:at], "training": paths[at:]}.get(subset, paths)
