"""VGG16; images enter as BGR, centred ("caffe")."""

from kcompile.keras.applications.imagenet_utils import caffe_input as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.vgg import VGG16

__all__ = ["VGG16", "decode_predictions", "preprocess_input"]
