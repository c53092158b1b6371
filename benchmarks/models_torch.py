"""The same models in PyTorch: the same layers with the same strides, paddings and biases, so the same arithmetic.

Training uses the outputs before the last softmax (its loss takes these), inference those after it. A residual
network keeps its layers under the names that Keras gives them.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.workloads import BLOCKS, PIXELS, SHAPES, TOKENS, UNET, regresses

STAGES_50 = ((64, 3), (128, 4), (256, 6), (512, 3))
MOBILENET = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def build(model: str, softmax: bool) -> nn.Module:
    """A model; `softmax`: its outputs are probabilities, as those of the Keras twin."""
    made = _MODELS[model]()
    axis = 1 if model in PIXELS else -1
    return nn.Sequential(made, nn.Softmax(axis)) if softmax and not regresses(model) else made


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class _Recurrent(nn.Module):
    """Token ids, their vectors, one recurrent layer, its last output (of both directions)."""

    def __init__(self, model: str):
        super().__init__()
        self.embedding = nn.Embedding(TOKENS[model], 64)
        kind = nn.GRU if model == "gru" else nn.LSTM
        self.layer = kind(64, 64, batch_first=True, bidirectional=model == "bilstm")
        self.dense = nn.Linear(128 if model == "bilstm" else 64, 2)

    def forward(self, tokens):
        last = self.layer(self.embedding(tokens))[1]
        last = last[0] if isinstance(last, tuple) else last
        return self.dense(last.transpose(0, 1).flatten(1))


def _vgg16() -> nn.Module:
    body: list[nn.Module] = []
    before = 3
    for channels, count in VGG16:
        for _ in range(count):
            body += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        body.append(nn.MaxPool2d(2))
    head = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*body, nn.Flatten(), *head)


def _mobilenet() -> nn.Module:
    """Layers under Keras's names; windows of stride 2 begin a pixel earlier than there on even sizes."""
    body = nn.Sequential()

    def add(name: str, before: int, channels: int, window: int, stride: int, groups: int = 1) -> None:
        conv = nn.Conv2d(before, channels, window, stride, window // 2, groups=groups, bias=False)
        body.add_module(name, conv)
        body.add_module(f"{name}_bn", nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01))
        body.add_module(f"{name}_relu", nn.ReLU6())

    add("conv1", 3, 32, 3, 2)
    before = 32
    for number, (channels, stride) in enumerate(MOBILENET, 1):
        add(f"conv_dw_{number}", before, before, 3, stride, groups=before)
        add(f"conv_pw_{number}", before, channels, 1, 1)
        before = channels
    body.add_module("pool", nn.AdaptiveAvgPool2d(1))
    body.add_module("dropout", nn.Dropout(1e-3))
    body.add_module("conv_preds", nn.Conv2d(1024, 1000, 1))
    body.add_module("flatten", nn.Flatten())
    return body


def _autoencoder() -> nn.Module:
    """Keras's transposed windows begin a pixel later: the arithmetic is the same."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
        nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


class _Residual(nn.Module):
    """Convolutions with their normalisations, by name; momentum of the averages as in Keras (0.99)."""

    def __init__(self, bias: bool, epsilon: float, suffixes: tuple[str, str]):
        super().__init__()
        self.layers = nn.ModuleDict()
        self.bias, self.epsilon, self.suffixes = bias, epsilon, suffixes

    def add(self, name: str, before: int, channels: int, window: int, stride: int, padding: int | None = None) -> None:
        padding = (window - 1) // 2 if padding is None else padding
        conv, norm = (name + s for s in self.suffixes)
        self.layers[conv] = nn.Conv2d(before, channels, window, stride, padding, bias=self.bias)
        self.layers[norm] = nn.BatchNorm2d(channels, eps=self.epsilon, momentum=0.01)

    def at(self, name: str, x: torch.Tensor) -> torch.Tensor:
        conv, norm = (name + s for s in self.suffixes)
        return self.layers[norm](self.layers[conv](x))


class _ResNet20(_Residual):
    """Windows of stride 2 begin a pixel earlier than in Keras on even sizes; the arithmetic is the same."""

    def __init__(self):
        super().__init__(False, 1e-3, ("", "_bn"))
        self.add("stem", 3, 16, 3, 1)
        self.blocks: list[tuple[str, int]] = []
        before = 16
        for stage, channels in enumerate((16, 32, 64)):
            for block in range(3):
                stride, name = (2 if stage and not block else 1), f"s{stage}b{block}"
                self.add(f"{name}_1", before, channels, 3, stride)
                self.add(f"{name}_2", channels, channels, 3, 1)
                if stride > 1:
                    self.add(f"{name}_0", before, channels, 1, stride)
                self.blocks.append((name, stride))
                before = channels
        self.layers["predictions"] = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.at("stem", x))
        for name, stride in self.blocks:
            y = self.at(f"{name}_2", F.relu(self.at(f"{name}_1", x)))
            x = F.relu((self.at(f"{name}_0", x) if stride > 1 else x) + y)
        return self.layers["predictions"](x.mean((2, 3)))


class _ResNet50(_Residual):
    """The first version, as in Keras: strides in the 1x1 convolutions, biases before the normalisations."""

    def __init__(self):
        super().__init__(True, 1.001e-5, ("_conv", "_bn"))
        self.add("conv1", 3, 64, 7, 2, 3)
        self.blocks: list[str] = []
        before = 64
        for stage, (channels, count) in enumerate(STAGES_50, start=2):
            for block in range(1, count + 1):
                name, stride = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
                if block == 1:
                    self.add(f"{name}_0", before, 4 * channels, 1, stride)
                self.add(f"{name}_1", before, channels, 1, stride)
                self.add(f"{name}_2", channels, channels, 3, 1)
                self.add(f"{name}_3", channels, 4 * channels, 1, 1)
                self.blocks.append(name)
                before = 4 * channels
        self.layers["predictions"] = nn.Linear(2048, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.at("conv1", x)), 3, 2, 1)
        for name in self.blocks:
            y = F.relu(self.at(f"{name}_1", x))
            y = self.at(f"{name}_3", F.relu(self.at(f"{name}_2", y)))
            x = F.relu((self.at(f"{name}_0", x) if name.endswith("block1") else x) + y)
        return self.layers["predictions"](x.mean((2, 3)))


class _Block(nn.Module):
    """Self-attention and a hidden layer, each added to what it reads and normalised."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.heads, self.activation = heads, getattr(F, activation)
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-3) for _ in range(2))

    def forward(self, x):
        rows, tokens, width = x.shape
        parts = self.inputs(x).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).reshape(rows, tokens, width)
        x = self.norms[0](x + self.outputs(y))
        return self.norms[1](x + self.narrow(self.activation(self.wide(x))))


class _Transformer(nn.Module):
    """One product makes query, key and value, which is the fastest way here."""

    def __init__(self, model: str):
        super().__init__()
        (_, width), classes = SHAPES[model]
        blocks, heads, activation = BLOCKS[model]
        self.blocks = nn.Sequential(*(_Block(width, heads, activation) for _ in range(blocks)))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.blocks(x).mean(1))


def _twice(before: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()
    )


class _UNet(nn.Module):
    """Classes of pixels stand behind the images' own axis, as PyTorch's loss wants them."""

    def __init__(self):
        super().__init__()
        steps = list(itertools.pairwise(UNET))
        self.down = nn.ModuleList([_twice(3, UNET[0]), *(_twice(a, b) for a, b in steps)])
        self.up = nn.ModuleList(
            nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2), _twice(b, a)]) for a, b in reversed(steps)
        )
        self.head = nn.Conv2d(UNET[0], SHAPES["unet"][1], 1)

    def forward(self, x):
        levels = [self.down[0](x)]
        for block in self.down[1:]:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for up, block in self.up:
            x = block(torch.cat([up(x), levels.pop()], 1))
        return self.head(x)


_MODELS = {
    "tiny": _tiny,
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet20": _ResNet20,
    "transformer": lambda: _Transformer("transformer"),
    "bert": lambda: _Transformer("bert"),
    "unet": _UNet,
    "resnet50": _ResNet50,
    "vgg16": _vgg16,
    "mobilenet": _mobilenet,
    "autoencoder": _autoencoder,
    "lstm": lambda: _Recurrent("lstm"),
    "gru": lambda: _Recurrent("gru"),
    "bilstm": lambda: _Recurrent("bilstm"),
}
