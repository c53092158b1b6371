"""`keras.utils`."""

from kcompile.keras.random.seeds import set_random_seed
from kcompile.keras.utils.dataset import PyDataset, Sequence
from kcompile.keras.utils.numerical import normalize, to_categorical
from kcompile.keras.utils.progbar import Progbar

__all__ = ["Progbar", "PyDataset", "Sequence", "normalize", "set_random_seed", "to_categorical"]
