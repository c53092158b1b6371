"""What is measured: models, modes, batch sizes, and data made from a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN = "train"  # one step of training: a peer takes the better of its ways
INFER = "infer"  # one batch, array in, array out: the fastest call a peer has
FIT, TRAIN_ON_BATCH, PREDICT, PREDICT_ON_BATCH = "fit", "train_on_batch", "predict", "predict_on_batch"  # calls

AUTOENCODER = 0  # in place of classes: targets are the inputs
SHAPES = {  # of one sample, and the number of classes; 1: a regression
    "tiny": ((16,), 1),
    "mlp": ((784,), 10),
    "cnn": ((28, 28, 1), 10),
    "resnet20": ((32, 32, 3), 10),
    "transformer": ((128, 128), 10),
    "bert": ((128, 768), 2),
    "unet": ((128, 128, 3), 3),
    "resnet50": ((224, 224, 3), 1000),
    "vgg16": ((224, 224, 3), 1000),
    "mobilenet": ((224, 224, 3), 1000),
    "autoencoder": ((28, 28, 1), AUTOENCODER),
    "lstm": ((256,), 2),
    "gru": ((256,), 2),
    "bilstm": ((256,), 2),
}
PIXELS = ("unet",)  # models that name a class for each pixel
BLOCKS = {"transformer": (2, 4, "relu"), "bert": (12, 12, "gelu")}  # of self-attention: how many, heads, activation
UNET = (32, 64, 128, 256)  # channels by level
TOKENS = {"lstm": 20000, "gru": 20000, "bilstm": 20000}  # models of token ids: how many there are


@dataclass(frozen=True)
class Workload:
    """One row of the table. `quick`: part of a quick run."""

    model: str
    mode: str
    batch: int
    quick: bool = True

    @property
    def name(self) -> str:
        return f"{self.model} {self.mode} b{self.batch}"

    @property
    def trains(self) -> bool:
        return self.mode in (TRAIN, FIT, TRAIN_ON_BATCH)


WORKLOADS = (
    Workload("tiny", TRAIN, 32),
    Workload("mlp", TRAIN, 32),
    Workload("mlp", TRAIN, 128),
    Workload("cnn", TRAIN, 32),
    Workload("cnn", TRAIN, 128),
    Workload("resnet20", TRAIN, 32, quick=False),
    Workload("autoencoder", TRAIN, 64),
    Workload("lstm", TRAIN, 32),
    Workload("gru", TRAIN, 32),
    Workload("bilstm", TRAIN, 32),
    Workload("transformer", TRAIN, 16, quick=False),
    Workload("resnet50", TRAIN, 16, quick=False),
    Workload("mobilenet", TRAIN, 16, quick=False),
    Workload("unet", TRAIN, 8, quick=False),
    Workload("bert", TRAIN, 8, quick=False),
    Workload("tiny", INFER, 1),
    Workload("tiny", INFER, 32),
    Workload("mlp", INFER, 1),
    Workload("mlp", INFER, 32),
    Workload("cnn", INFER, 1),
    Workload("cnn", INFER, 32),
    Workload("lstm", INFER, 1),
    Workload("lstm", INFER, 32),
    Workload("resnet50", INFER, 1, quick=False),
    Workload("resnet50", INFER, 32, quick=False),
    Workload("vgg16", INFER, 1, quick=False),
    Workload("mobilenet", INFER, 1, quick=False),
    Workload("mobilenet", INFER, 32, quick=False),
    Workload("unet", INFER, 1, quick=False),
    Workload("bert", INFER, 1, quick=False),
    Workload("bert", INFER, 8, quick=False),
    Workload("tiny", FIT, 32),
    Workload("tiny", TRAIN_ON_BATCH, 32),
    Workload("tiny", PREDICT_ON_BATCH, 1),
    Workload("tiny", PREDICT, 1),
)


def chosen(only: str, quick: bool, rows: tuple[Workload, ...] = WORKLOADS) -> list[Workload]:
    """Rows whose name contains `only`, with `quick` the small ones of these."""
    return [w for w in rows if only in w.name and (w.quick or not quick)]


def regresses(model: str) -> bool:
    """Whether the targets are numbers, not classes: the loss is the mean squared error."""
    return SHAPES[model][1] in (1, AUTOENCODER)


def data(model: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs f32[rows, ...] or i32 token ids; targets: f32[rows, 1], the inputs, or i32 classes of rows or pixels."""
    draw = np.random.default_rng(0)
    shape, classes = SHAPES[model]
    if model in TOKENS:
        x = draw.integers(0, TOKENS[model], (rows, *shape)).astype("int32")
    else:
        x = draw.standard_normal((rows, *shape), "float32")
    if classes == AUTOENCODER:
        return x, x
    if classes == 1:
        return x, draw.standard_normal((rows, 1), "float32")
    labels = (rows, *shape[:-1]) if model in PIXELS else rows
    return x, draw.integers(0, classes, labels).astype("int32")
