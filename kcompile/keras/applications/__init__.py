"""keras.applications: networks of the literature as Functional models.

building.py        what they share: arguments, input, top, weights     imagenet_utils.py   preprocessing, class names
vgg.py  residual.py  densenet.py  xception.py  inception_v3.py  inception_resnet_v2.py
mobilenet.py  mobilenet_v2.py  mobilenet_v3.py  efficientnet.py  efficientnet_v2.py  convnext.py
                                                                       one file per family
mbconv.py                                                              the blocks of both EfficientNets
vgg16.py vgg19.py resnet.py resnet50.py resnet_v2.py                   Keras's module names
"""

from kcompile.keras.absent import missing
from kcompile.keras.applications import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_v2,
    imagenet_utils,
    inception_resnet_v2,
    inception_v3,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    resnet,
    resnet50,
    resnet_v2,
    vgg16,
    vgg19,
    xception,
)
from kcompile.keras.applications.convnext import (
    ConvNeXtBase,
    ConvNeXtLarge,
    ConvNeXtSmall,
    ConvNeXtTiny,
    ConvNeXtXLarge,
)
from kcompile.keras.applications.densenet import DenseNet121, DenseNet169, DenseNet201
from kcompile.keras.applications.efficientnet import (
    EfficientNetB0,
    EfficientNetB1,
    EfficientNetB2,
    EfficientNetB3,
    EfficientNetB4,
    EfficientNetB5,
    EfficientNetB6,
    EfficientNetB7,
)
from kcompile.keras.applications.efficientnet_v2 import (
    EfficientNetV2B0,
    EfficientNetV2B1,
    EfficientNetV2B2,
    EfficientNetV2B3,
    EfficientNetV2L,
    EfficientNetV2M,
    EfficientNetV2S,
)
from kcompile.keras.applications.inception_resnet_v2 import InceptionResNetV2
from kcompile.keras.applications.inception_v3 import InceptionV3
from kcompile.keras.applications.mobilenet import MobileNet
from kcompile.keras.applications.mobilenet_v2 import MobileNetV2
from kcompile.keras.applications.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
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
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "Xception",
    "convnext",
    "densenet",
    "efficientnet",
    "efficientnet_v2",
    "imagenet_utils",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "resnet",
    "resnet50",
    "resnet_v2",
    "vgg16",
    "vgg19",
    "xception",
]


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise missing("applications", name)
