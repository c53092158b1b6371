"""`keras.utils`.

files.py       get_file: download, check, unpack        batches.py    folders and time series as batches
images.py      arrays, Pillow images, files             sequences.py  pad_sequences
numerical.py   to_categorical, normalize                packing.py    x, y, sample_weight
dataset.py     PyDataset (Sequence)                     progbar.py    the progress bar
plotting.py    a model as a drawing                     graphs.py     from a tensor back to its inputs
legacy.py      what Keras 3 dropped              enqueuers.py  batches read ahead by threads
bounding_boxes.py  boxes in other formats, moved, compared    settings.py  Config
"""

from kcompile.keras.absent import missing
from kcompile.keras.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
)
from kcompile.keras.random.seeds import set_random_seed
from kcompile.keras.serialization import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.names import reset_names as _reset_names
from kcompile.keras.tracing.tensor import is_symbolic as is_keras_tensor
from kcompile.keras.utils import bounding_boxes
from kcompile.keras.utils.batches import (
    audio_dataset_from_directory,
    image_dataset_from_directory,
    split_dataset,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)
from kcompile.keras.utils.dataset import PyDataset, Sequence
from kcompile.keras.utils.enqueuers import GeneratorEnqueuer, OrderedEnqueuer, SequenceEnqueuer
from kcompile.keras.utils.files import get_file
from kcompile.keras.utils.graphs import get_source_inputs
from kcompile.keras.utils.images import array_to_img, img_to_array, load_img, save_img
from kcompile.keras.utils.legacy import HDF5Matrix, convert_all_kernels_in_model, multi_gpu_model, print_summary
from kcompile.keras.utils.numerical import normalize, to_categorical, to_ordinal
from kcompile.keras.utils.packing import pack_x_y_sample_weight, unpack_x_y_sample_weight
from kcompile.keras.utils.plotting import model_to_dot, plot_model, to_dot
from kcompile.keras.utils.progbar import Progbar
from kcompile.keras.utils.sequences import pad_sequences
from kcompile.keras.utils.settings import Config


def clear_session(free_memory: bool = True) -> None:
    """Forget automatic names, so that the next layer is numbered from the start."""
    _reset_names()


__all__ = [
    "Config",
    "CustomObjectScope",
    "FeatureSpace",
    "GeneratorEnqueuer",
    "HDF5Matrix",
    "OrderedEnqueuer",
    "Progbar",
    "PyDataset",
    "Sequence",
    "SequenceEnqueuer",
    "array_to_img",
    "audio_dataset_from_directory",
    "bounding_boxes",
    "clear_session",
    "convert_all_kernels_in_model",
    "custom_object_scope",
    "deserialize_keras_object",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "get_custom_objects",
    "get_file",
    "get_registered_name",
    "get_registered_object",
    "get_source_inputs",
    "image_dataset_from_directory",
    "img_to_array",
    "is_interactive_logging_enabled",
    "is_keras_tensor",
    "load_img",
    "model_to_dot",
    "multi_gpu_model",
    "normalize",
    "pack_x_y_sample_weight",
    "pad_sequences",
    "plot_model",
    "print_summary",
    "register_keras_serializable",
    "save_img",
    "serialize_keras_object",
    "set_random_seed",
    "split_dataset",
    "standardize_dtype",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
    "to_dot",
    "to_ordinal",
    "unpack_x_y_sample_weight",
]


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    if name == "FeatureSpace":
        from kcompile.keras.models.feature_space import FeatureSpace  # a model, and models know this package

        return FeatureSpace
    raise missing("utils", name)
