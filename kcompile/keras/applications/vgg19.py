"""VGG19; images enter as BGR, centred ("caffe")."""

from kcompile.keras.applications.imagenet_utils import caffe_input as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.vgg import VGG19

__all__ = ["VGG19", "decode_predictions", "preprocess_input"]
