"""keras.applications: networks of the literature as Functional models.

building.py        what they share: input, top, weights       imagenet_utils.py   preprocessing, class names
vgg.py  residual.py  mobilenet.py  xception.py  inception_v3.py  inception_resnet_v2.py  densenet.py
                                                              one file per family
vgg16.py vgg19.py resnet.py resnet50.py resnet_v2.py          Keras's module names
"""

from kcompile.keras.applications import (
    densenet,
    imagenet_utils,
    inception_resnet_v2,
    inception_v3,
    mobilenet,
    resnet,
    resnet50,
    resnet_v2,
    vgg16,
    vgg19,
    xception,
)
from kcompile.keras.applications.densenet import DenseNet121, DenseNet169, DenseNet201
from kcompile.keras.applications.inception_resnet_v2 import InceptionResNetV2
from kcompile.keras.applications.inception_v3 import InceptionV3
from kcompile.keras.applications.mobilenet import MobileNet
from kcompile.keras.applications.residual import (
    ResNet50,
    ResNet50V2,
    ResNet101,
    ResNet101V2,
    ResNet152,
    ResNet152V2,
)
from kcompile.keras.applications.vgg import VGG16, VGG19
from kcompile.keras.applications.xception import Xception

__all__ = [
    "VGG16",
    "VGG19",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "Xception",
    "densenet",
    "imagenet_utils",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "resnet",
    "resnet50",
    "resnet_v2",
    "vgg16",
    "vgg19",
    "xception",
]
