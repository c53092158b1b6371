"""Data sets as iterables of batches, usable in `fit`: from folders of files, from time series, by splitting."""

from __future__ import annotations

import copy
import os
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras.tracing import tree
from kcompile.keras.utils.dataset import PyDataset
from kcompile.keras.utils.images import img_to_array, load_img, middle, resize
from kcompile.keras.utils.numerical import to_categorical

_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


class Batches(PyDataset):
    """Batches of rows that `load` fetches by number.

    Args:
        rows: how many there are.   load: indices [batch] -> one batch.
        batch_size: None gives single examples.
        shuffle: another order in each pass.

    As a `tf.data` dataset does, they say themselves in which order they come: `fit(shuffle=True)` changes nothing.
    """

    keeps_order = True

    def __init__(
        self,
        rows: int,
        load: Callable[[np.ndarray], Any],
        batch_size: int | None = 32,
        shuffle: bool = False,
        seed: int | None = None,
    ):
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ArgumentError(f"`batch_size` should be a positive integer or None. Received: {batch_size}")
        self.rows, self.batch_size, self.shuffle = rows, batch_size, shuffle
        self._load = load
        self._functions: tuple[Callable, ...] = ()  # of `map`, in order
        self._rng = np.random.default_rng(seed)
        self._order = np.arange(rows)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-self.rows // (self.batch_size or 1))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        start = index * (self.batch_size or 1)
        made = self._load(self._order[start : start + (self.batch_size or 1)])
        if self.batch_size is None:
            made = tree.map_structure(lambda a: a[0], made)
        for function in self._functions:
            made = function(*made) if isinstance(made, tuple) else function(made)
        return made

    def __iter__(self) -> Iterator[Any]:
        yield from (self[index] for index in range(len(self)))
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        if self.shuffle:
            self._rng.shuffle(self._order)

    def batch(self, batch_size: int) -> Batches:
        """Return the same rows in batches of this size."""
        return Batches(self.rows, self._load, batch_size, self.shuffle)

    def take(self, count: int) -> Batches:
        """Return the first `count` batches, in the present order."""
        return self._part(slice(None, count * (self.batch_size or 1)))

    def skip(self, count: int) -> Batches:
        """Return all but the first `count` batches, in the present order."""
        return self._part(slice(count * (self.batch_size or 1), None))

    def map(self, function: Callable) -> Batches:
        """Return the batches that `function` makes of these: it takes x, or x and y, ..., as arguments."""
        found = self._part(slice(None))
        found.shuffle = self.shuffle
        found._functions = (*self._functions, function)
        return found

    def _part(self, places: slice) -> Batches:
        found = copy.copy(self)
        found._order, found.shuffle = self._order[places].copy(), False
        found.rows = len(found._order)
        return found


# folders --------------------------------------------------------------------------------------------


def image_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    color_mode="rgb",
    batch_size=32,
    image_size=(256, 256),
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    interpolation="bilinear",
    follow_links=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    data_format=None,
    format="tf",
    verbose=True,
):
    """Return batches of the images in a folder with one subfolder per class.

    Args:
        labels: "inferred" from the subfolders, None, or a list with one per file in alphabetical order.
        label_mode: "int", "categorical" (one-hot), "binary" (0 and 1, as float) or None.
        class_names: the subfolders in the order of the labels; alphabetical by default.
        color_mode: "grayscale", "rgb" or "rgba".   image_size: (height, width) that images are resized to.
        validation_split, subset: the share held back, and which part to give: "training", "validation", "both".
        crop_to_aspect_ratio: cut the middle out instead of distorting.   pad_to_aspect_ratio: add black edges.

    Shapes: images [batch, height, width, channels] float32 from 0 to 255, labels [batch] or [batch, classes].
    Raises: ArgumentError naming the argument; NotSupportedError without Pillow.
    """
    if color_mode not in ("grayscale", "rgb", "rgba"):
        raise ArgumentError(f"`color_mode` must be 'grayscale', 'rgb' or 'rgba'. Received: color_mode={color_mode!r}")
    if interpolation not in ("nearest", "bilinear"):
        raise ArgumentError(f"`interpolation` must be 'nearest' or 'bilinear'. Received: {interpolation!r}")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ArgumentError("Only one of `pad_to_aspect_ratio`, `crop_to_aspect_ratio` can be set to True.")
    size = tuple(image_size)

    def read(path: str) -> np.ndarray:
        image = img_to_array(load_img(path, color_mode), data_format="channels_last")
        if crop_to_aspect_ratio:
            top, left, rows, columns = middle(*image.shape[:2], *size)
            image = image[top : top + rows, left : left + columns]
        elif pad_to_aspect_ratio:
            image = _padded(image, size)
        image = resize(image, size, interpolation).astype("float32")
        return image.transpose(2, 0, 1) if data_format == "channels_first" else image

    listed = (directory, labels, label_mode, class_names, _IMAGES, shuffle, seed, validation_split, subset)
    return _from_directory(read, batch_size, follow_links, verbose, *listed)


def _padded(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Add black edges until the proportions are those of `size`."""
    height, width = image.shape[:2]
    rows = max(height, int(width * size[0] / size[1]))
    columns = max(width, int(height * size[1] / size[0]))
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.pad(image, ((top, rows - height - top), (left, columns - width - left), (0, 0)))


def text_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    batch_size=32,
    max_length=None,
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    follow_links=False,
    format="tf",
    verbose=True,
):
    """Return batches of the .txt files in a folder with one subfolder per class; see `image_dataset_from_directory`.

    Args:   max_length: characters that are kept of each text.

    Shapes: texts [batch] of str, labels [batch] or [batch, classes].
    """

    def read(path: str) -> np.ndarray:
        with open(path, encoding="utf-8") as file:
            text = np.empty((), dtype=object)
            text[()] = file.read(max_length if max_length is not None else -1)
            return text

    listed = (directory, labels, label_mode, class_names, (".txt",), shuffle, seed, validation_split, subset)
    return _from_directory(read, batch_size, follow_links, verbose, *listed)


def audio_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode="int",
    class_names=None,
    batch_size=32,
    sampling_rate=None,
    output_sequence_length=None,
    ragged=False,
    shuffle=True,
    seed=None,
    validation_split=None,
    subset=None,
    follow_links=False,
    verbose=True,
):
    """Return batches of the .wav files (16 bits) in a folder with one subfolder per class.

    Args:
        output_sequence_length: samples that are kept of each file, or filled up to with zeros; without it the files of
            a batch are filled up to the longest.
        sampling_rate, ragged: not supported, the rate is that of the files.

    Shapes: signals [batch, samples, channels] float32 from -1 to 1, labels [batch] or [batch, classes].
    """
    if sampling_rate is not None or ragged:
        what = "ragged=True" if ragged else f"sampling_rate={sampling_rate}"
        raise NotSupportedError(f"audio_dataset_from_directory({what}): signals are neither resampled nor ragged")

    def read(path: str) -> np.ndarray:
        signal = read_wav(path)
        if output_sequence_length is None:
            return signal
        signal = signal[:output_sequence_length]
        return np.pad(signal, ((0, output_sequence_length - len(signal)), (0, 0)))

    listed = (directory, labels, label_mode, class_names, (".wav",), shuffle, seed, validation_split, subset)
    return _from_directory(read, batch_size, follow_links, verbose, *listed)


def read_wav(path: str) -> np.ndarray:
    """Return the samples of a .wav file of 16 bits, [samples, channels] from -1 to 1."""
    with wave.open(path, "rb") as file:
        if file.getsampwidth() != 2:
            raise NotSupportedError(f"{path}: samples of {8 * file.getsampwidth()} bits; 16 are read")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.reshape(-1, file.getnchannels()).astype("float32") / 32768


def _stacked(rows: list[np.ndarray]) -> np.ndarray:
    """Rows as one array, filled up with zeros to the longest."""
    longest = max((len(r) for r in rows if r.ndim), default=0)
    same = all(not r.ndim or len(r) == longest for r in rows)
    return np.stack(rows if same else [np.pad(r, [(0, longest - len(r))] + [(0, 0)] * (r.ndim - 1)) for r in rows])


def _from_directory(
    read: Callable[[str], np.ndarray],
    batch_size: int | None,
    follow_links: bool,
    verbose: bool,
    directory: str | os.PathLike,
    labels: Any,
    label_mode: str | None,
    class_names: Sequence[str] | None,
    suffixes: tuple[str, ...],
    shuffle: bool,
    seed: int | None,
    validation_split: float | None,
    subset: str | None,
) -> Any:
    _check_listing(labels, label_mode, class_names, shuffle, seed, validation_split, subset)
    paths, numbers, names = _listed(os.fspath(directory), labels, class_names, suffixes, follow_links)
    if not paths:
        raise ArgumentError(f"No files found in directory {directory}. Allowed formats: {suffixes}")
    if label_mode == "binary" and len(names) != 2:
        raise ArgumentError(f"label_mode='binary' needs exactly 2 classes; found {names}")
    if verbose:
        print(f"Found {len(paths)} files" + (f" belonging to {len(names)} classes." if labels is not None else "."))
    targets = _targets(numbers, label_mode if labels is not None else None, len(names))
    order = np.arange(len(paths))
    if seed is None:
        seed = int(np.random.default_rng().integers(1 << 31))
    if shuffle:
        np.random.RandomState(seed).shuffle(order)

    def part(rows: np.ndarray) -> Batches:
        def load(chosen: np.ndarray) -> Any:
            x = _stacked([read(paths[i]) for i in rows[chosen]])
            return x if targets is None else (x, targets[rows[chosen]])

        data = Batches(len(rows), load, batch_size, shuffle, seed)
        data.class_names = names
        data.file_paths = [paths[i] for i in rows]
        return data

    if not validation_split:
        return part(order)
    held = int(validation_split * len(paths))
    parts = {"training": order[: len(paths) - held], "validation": order[len(paths) - held :]}
    for name, rows in parts.items():
        if not len(rows) and subset in (name, "both"):
            raise ArgumentError(f"No {name} files are left of {len(paths)} with validation_split={validation_split}")
    if subset == "both":
        return part(parts["training"]), part(parts["validation"])
    return part(parts[subset])


def _check_listing(labels, label_mode, class_names, shuffle, seed, validation_split, subset) -> None:
    if not (labels in ("inferred", None) if isinstance(labels, (str, type(None))) else True):
        raise ArgumentError(f"`labels` should be 'inferred', None or a list of labels. Received: labels={labels!r}")
    if label_mode not in ("int", "categorical", "binary", None):
        raise ArgumentError(
            f"`label_mode` must be 'int', 'categorical', 'binary' or None. Received: label_mode={label_mode!r}"
        )
    if class_names is not None and labels != "inferred":
        raise ArgumentError("`class_names` can only be passed with labels='inferred'.")
    if validation_split is not None and not 0 < validation_split < 1:
        raise ArgumentError(f"`validation_split` must be between 0 and 1. Received: {validation_split}")
    if (validation_split is None) != (subset is None):
        raise ArgumentError("`validation_split` and `subset` must be passed together.")
    if subset not in ("training", "validation", "both", None):
        raise ArgumentError(f"`subset` must be 'training', 'validation' or 'both'. Received: subset={subset!r}")
    if validation_split and shuffle and seed is None:
        raise ArgumentError("With `validation_split` and `shuffle`, give a `seed`, so that the parts do not overlap.")


def _listed(
    folder: str, labels: Any, class_names: Sequence[str] | None, suffixes: tuple[str, ...], follow_links: bool
) -> tuple[list[str], list, list[str]]:
    """Return paths, a class number for each, and the names of the classes."""

    def files_below(root: str) -> list[str]:
        found = []
        for place, folders, files in os.walk(root, followlinks=follow_links):
            folders.sort()
            found += [os.path.join(place, f) for f in sorted(files) if f.lower().endswith(suffixes)]
        return found

    if not os.path.isdir(folder):
        raise ArgumentError(f"There is no folder {folder!r}.")
    if labels is None:
        return files_below(folder), [], []
    present = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    names = present if class_names is None else list(class_names)
    if set(names) != set(present):
        raise ArgumentError(
            f"`class_names` should be the subfolders of {folder}. Expected: {present}, received: {class_names}"
        )
    pairs = [(path, number) for number, name in enumerate(names) for path in files_below(os.path.join(folder, name))]
    if labels == "inferred":
        return [p for p, _ in pairs], [n for _, n in pairs], names
    paths = files_below(folder)
    if len(labels) != len(paths):
        raise ArgumentError(f"Expected as many labels as files. Found {len(paths)} files and {len(labels)} labels.")
    return paths, list(labels), [str(label) for label in sorted(set(labels))]


def _targets(numbers: list, label_mode: str | None, classes: int) -> np.ndarray | None:
    if label_mode is None:
        return None
    if label_mode == "binary":
        return np.asarray(numbers, "float32")[:, None]
    if label_mode == "categorical":
        return to_categorical(numbers, classes)
    return np.asarray(numbers, "int32")


# time series ----------------------------------------------------------------------------------------


def timeseries_dataset_from_array(
    data,
    targets,
    sequence_length,
    sequence_stride=1,
    sampling_rate=1,
    batch_size=128,
    shuffle=False,
    seed=None,
    start_index=None,
    end_index=None,
    format="tf",
) -> Batches:
    """Return batches of windows over a time series, with the target of each window's first step.

    Args:
        data: [time, ...].   targets: [time, ...], or None.
        sequence_length: steps in a window.   sequence_stride: distance of consecutive windows.
        sampling_rate: distance of the steps within a window.
        start_index, end_index: the part of the series to use; the end is not included.

    Shapes: windows [batch, sequence_length, ...], targets [batch, ...].
    """
    for name, value in (
        ("sequence_length", sequence_length),
        ("sequence_stride", sequence_stride),
        ("sampling_rate", sampling_rate),
    ):
        if value <= 0:
            raise ArgumentError(f"`{name}` must be higher than 0. Received: {name}={value}")
    first = start_index or 0
    last = len(data) if end_index is None else end_index
    if not 0 <= first < last <= len(data):
        raise ArgumentError(
            f"`start_index` and `end_index` should lie in order within the {len(data)} steps. "
            f"Received: start_index={start_index}, end_index={end_index}"
        )
    data, targets = np.asarray(data)[first:last], None if targets is None else np.asarray(targets)[first:last]
    starts = np.arange(0, max(0, len(data) - (sequence_length - 1) * sampling_rate), sequence_stride)
    if targets is not None:
        starts = starts[starts < len(targets)]
    steps = np.arange(sequence_length) * sampling_rate

    def load(chosen: np.ndarray) -> Any:
        windows = data[starts[chosen][:, None] + steps]
        return windows if targets is None else (windows, targets[starts[chosen]])

    return Batches(len(starts), load, batch_size, shuffle, seed)


# splitting ------------------------------------------------------------------------------------------


def split_dataset(
    dataset: Any,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Batches, Batches]:
    """Return two parts of a data set, as examples; `.batch(n)` makes batches of them for `fit`.

    Args:
        dataset: an array, a tuple or dict of arrays, or an iterable of examples.
        left_size, right_size: how many examples, or which share if float; one may follow from the other.

    Raises: ArgumentError for sizes that do not fit.
    """
    if isinstance(dataset, (np.ndarray, Mapping)) or (
        isinstance(dataset, (tuple, list)) and all(isinstance(a, np.ndarray) for a in dataset)
    ):
        arrays = dataset
    else:
        examples = list(dataset)
        arrays = tree.map_structure(lambda *values: np.stack(values), *examples) if examples else np.zeros(0)
    rows = len(tree.flatten(arrays)[0])
    left, right = _sizes(rows, left_size, right_size)
    order = np.arange(rows)
    if shuffle:
        np.random.default_rng(seed).shuffle(order)

    def part(chosen: np.ndarray) -> Batches:
        kept = tree.map_structure(lambda a: a[chosen], arrays)
        return Batches(len(chosen), lambda i: tree.map_structure(lambda a: a[i], kept), batch_size=None)

    return part(order[:left]), part(order[rows - right :])


def _sizes(rows: int, left: float | int | None, right: float | int | None) -> tuple[int, int]:
    if left is None and right is None:
        raise ArgumentError("At least one of `left_size` or `right_size` must be specified.")

    def count(value: float | int | None, name: str, rounded: Callable[[float], float]) -> int | None:
        if value is None:
            return None
        found = int(rounded(value * rows)) if isinstance(value, float) else value
        if not 0 < found < rows or (isinstance(value, float) and not 0 < value < 1):
            raise ArgumentError(f"`{name}` leaves a part of {rows} examples empty. Received: {name}={value}")
        return found

    left_rows, right_rows = count(left, "left_size", round), count(right, "right_size", round)
    left_rows = rows - right_rows if left_rows is None else left_rows
    right_rows = rows - left_rows if right_rows is None else right_rows
    if left_rows + right_rows > rows:
        raise ArgumentError(f"`left_size` and `right_size` add up to more than the {rows} examples.")
    return left_rows, right_rows
