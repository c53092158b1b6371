"""keras.preprocessing: what Keras 2 offered to turn text, sequences and images into arrays.

text.py  sequence.py  image.py     affine.py   moving an image's pixels
"""

from kcompile.keras.preprocessing import image, sequence, text
from kcompile.keras.utils.batches import (
    image_dataset_from_directory,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)

__all__ = [
    "image",
    "image_dataset_from_directory",
    "sequence",
    "text",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
]
