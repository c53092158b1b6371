"""Initial values of weights: constants, random fills, and fills scaled by fan in and fan out."""

from kcompile.keras.initializers.constant import STFT, Constant, Identity, Ones, Zeros
from kcompile.keras.initializers.initializer import Initializer
from kcompile.keras.initializers.random import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from kcompile.keras.serialization import resolver

get, _serialize, deserialize = resolver("initializers", "initializer")


def serialize(initializer):
    """Return the config of an initializer."""
    return _serialize(initializer)


IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT
stft = STFT
normal, uniform = RandomNormal, RandomUniform  # older names
zeros, ones, constant, identity = Zeros, Ones, Constant, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
glorot_normal, glorot_uniform, he_normal, he_uniform = GlorotNormal, GlorotUniform, HeNormal, HeUniform
lecun_normal, lecun_uniform, orthogonal, variance_scaling = LecunNormal, LecunUniform, Orthogonal, VarianceScaling

__all__ = [
    "STFT",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "STFTInitializer",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "deserialize",
    "get",
    "serialize",
]
