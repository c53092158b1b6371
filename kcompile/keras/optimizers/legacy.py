"""`keras.optimizers.legacy` of tf.keras 2: the optimizers, which take its older arguments (`lr`, `decay`) anyway."""

from kcompile.keras.optimizers.adadelta import Adadelta
from kcompile.keras.optimizers.adagrad import Adagrad
from kcompile.keras.optimizers.adam import Adam
from kcompile.keras.optimizers.adamax import Adamax
from kcompile.keras.optimizers.ftrl import Ftrl
from kcompile.keras.optimizers.nadam import Nadam
from kcompile.keras.optimizers.optimizer import Optimizer
from kcompile.keras.optimizers.rmsprop import RMSprop
from kcompile.keras.optimizers.sgd import SGD

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "Adamax", "Ftrl", "Nadam", "Optimizer", "RMSprop"]
