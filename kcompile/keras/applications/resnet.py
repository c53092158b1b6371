"""ResNet; images enter as BGR, centred ("caffe")."""

from kcompile.keras.applications.imagenet_utils import caffe_input as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.residual import ResNet50, ResNet101, ResNet152

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]
