"""ResNet50 under the module name of its own that Keras keeps."""

from kcompile.keras.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
