"""The rows of `layers.py` in PyTorch eager, where torch.nn has a twin of the layer.

TWINS makes a module from a case. Images, videos and lines are transposed beforehand (channels first) for the layers
that want it, and tried in both memory layouts; no peer pays for another's layout.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.layer_cases import FORWARD, Case, Row, arrays
from benchmarks.peers import Run
from benchmarks.timing import repeated

DEFAULT = torch.contiguous_format
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
Module = Callable[..., torch.Tensor]


class Called(nn.Module):
    """A module that calls a function on its inputs; `inner` holds what it has to learn."""

    def __init__(self, function: Callable, *inner: nn.Module):
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(inner)

    def forward(self, *x):
        return self.function(*self.inner, *x)


def _same(size: int, case: Case) -> int:
    return size // 2 if case.config.get("padding") == "same" else 0


def _convolution(case: Case) -> nn.Module:
    rank, c = len(case.shapes[0]) - 2, case.config
    if c.get("padding") == "causal":
        return None
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    dilation = c.get("dilation_rate", 1)
    made = kind(case.shapes[0][-1], c["filters"], c["kernel_size"], stride=c.get("strides", 1), dilation=dilation,
                padding=dilation * _same(c["kernel_size"], case), groups=c.get("groups", 1))  # fmt: skip
    return nn.Sequential(made, nn.ReLU()) if c.get("activation") == "relu" else made


def _depthwise(case: Case) -> nn.Module:
    kind, channels, size = (
        (nn.Conv1d, nn.Conv2d)[len(case.shapes[0]) - 3],
        case.shapes[0][-1],
        case.config["kernel_size"],
    )
    return kind(channels, channels, size, padding=_same(size, case), groups=channels)


def _separable(case: Case) -> nn.Module:
    kind, channels = (nn.Conv1d, nn.Conv2d)[len(case.shapes[0]) - 3], case.shapes[0][-1]
    return nn.Sequential(_depthwise(case), kind(channels, case.config["filters"], 1))


def _transposed(case: Case) -> nn.Module:
    rank, c = len(case.shapes[0]) - 2, case.config
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    odd = c["kernel_size"] % 2
    return kind(case.shapes[0][-1], c["filters"], c["kernel_size"], c["strides"], padding=1, output_padding=odd)


def _pool(kinds: tuple) -> Callable[[Case], nn.Module]:
    def make(case: Case) -> nn.Module:
        size = case.config["pool_size"]
        stride = case.config.get("strides", size)
        return kinds[len(case.shapes[0]) - 3](size, stride, padding=_same(size, case))

    return make


def _global(reduce: Callable) -> Callable[[Case], nn.Module]:
    return lambda case: Called(lambda x: reduce(x, dim=tuple(range(2, x.ndim))))


def _spread(case: Case) -> nn.Module:
    return nn.Upsample(scale_factor=case.config["size"], mode=case.config.get("interpolation", "nearest"))


def _border(kinds: tuple, sign: int, option: str) -> Callable[[Case], nn.Module]:
    def make(case: Case) -> nn.Module:
        size = case.config[option]
        size = size[0] if isinstance(size, tuple) else size
        return kinds[len(case.shapes[0]) - 3](sign * size)

    return make


def _recurrent(kind: type) -> Callable[[Case], nn.Module]:
    def make(case: Case) -> nn.Module:
        units = case.config.get("units", 64)
        layers = len(case.config.get("cells", "1"))
        both = case.layer == "Bidirectional"
        inner = kind(case.shapes[0][-1], units, num_layers=layers, batch_first=True, bidirectional=both)
        if case.config.get("return_sequences"):
            return Called(lambda m, x: m(x)[0], inner)
        if both:
            return Called(lambda m, x: torch.cat(tuple(m(x)[1][0]), -1), inner)
        return Called(lambda m, x: m(x)[0][:, -1], inner)

    return make


def _dense(case: Case) -> nn.Module:
    made = nn.Linear(case.shapes[0][-1], case.config["units"])
    return nn.Sequential(made, nn.ReLU()) if case.config.get("activation") == "relu" else made


def _distributed(case: Case) -> nn.Module | None:
    return nn.Linear(case.shapes[0][-1], case.config["layer"].config["units"]) if case.note == "dense" else None


def _heads(case: Case) -> nn.Module:
    width, heads = case.shapes[0][-1], case.config["num_heads"]
    inner = nn.MultiheadAttention(width, heads, batch_first=True)
    return Called(lambda m, q, v: m(q, v, v, need_weights=False)[0], inner)


def _embedding(case: Case) -> nn.Module:
    return nn.Embedding(case.config["input_dim"], case.config["output_dim"])


def _spectral(case: Case) -> nn.Module:
    inner = nn.Linear(case.shapes[0][-1], case.config["layer"].config["units"])
    return nn.utils.parametrizations.spectral_norm(inner)


def _channels(kind: Callable) -> Callable[[Case], nn.Module]:
    return lambda case: kind(case.shapes[0][-1])


def _plain(function: Callable) -> Callable[[Case], nn.Module]:
    return lambda case: Called(function)


_functions = {"relu": nn.functional.relu, "tanh": torch.tanh, "gelu": nn.functional.gelu}
_max = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_mean = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_zeros = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)

# layers that see channels first
FIRST = {
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "Conv1DTranspose": _transposed,
    "Conv2DTranspose": _transposed,
    "Conv3DTranspose": _transposed,
    **{f"MaxPooling{n}D": _pool(_max) for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": _pool(_mean) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": _global(torch.amax) for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": _global(torch.mean) for n in (1, 2, 3)},
    **{f"UpSampling{n}D": _spread for n in (1, 2, 3)},
    **{f"Cropping{n}D": _border(_zeros, -1, "cropping") for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": _border(_zeros, 1, "padding") for n in (1, 2, 3)},
    "PReLU": _channels(nn.PReLU),
    "BatchNormalization": _channels(nn.BatchNorm2d),
    "GroupNormalization": lambda case: nn.GroupNorm(case.config["groups"], case.shapes[0][-1]),
    "SpatialDropout1D": lambda case: nn.Dropout1d(case.config["rate"]),
    "SpatialDropout2D": lambda case: nn.Dropout2d(case.config["rate"]),
    "SpatialDropout3D": lambda case: nn.Dropout3d(case.config["rate"]),
}

# layers that see the same array as Keras
AS_IS = {
    "Dense": _dense,
    "Embedding": _embedding,
    "Activation": lambda case: Called(_functions[case.config["activation"]]),
    "Flatten": lambda case: nn.Flatten(),
    "Permute": _plain(lambda x: x.transpose(1, 2).contiguous()),
    "Lambda": lambda case: Called(case.config["function"]),
    "Identity": lambda case: nn.Identity(),
    "Add": _plain(torch.add),
    "Subtract": _plain(torch.sub),
    "Multiply": _plain(torch.mul),
    "Average": _plain(lambda a, b: (a + b) * 0.5),
    "Maximum": _plain(torch.maximum),
    "Minimum": _plain(torch.minimum),
    "Concatenate": _plain(lambda a, b: torch.cat((a, b), -1)),
    "Dot": _plain(lambda a, b: torch.bmm(a, b.transpose(1, 2))),
    "ReLU": lambda case: nn.ReLU6(),
    "LeakyReLU": lambda case: nn.LeakyReLU(0.1),
    "ELU": lambda case: nn.ELU(),
    "ThresholdedReLU": lambda case: nn.Threshold(0.5, 0.0),
    "Softmax": lambda case: nn.Softmax(-1),
    "LayerNormalization": _channels(nn.LayerNorm),
    "RMSNormalization": _channels(nn.RMSNorm),
    "UnitNormalization": _plain(lambda x: nn.functional.normalize(x, dim=-1)),
    "SpectralNormalization": _spectral,
    "Dropout": lambda case: nn.Dropout(0.3),
    "AlphaDropout": lambda case: nn.AlphaDropout(0.3),
    "SimpleRNN": _recurrent(nn.RNN),
    "SimpleRNNCell": _recurrent(nn.RNN),
    **dict.fromkeys(("LSTM", "CuDNNLSTM", "LSTMCell", "StackedRNNCells", "RNN", "Bidirectional"), _recurrent(nn.LSTM)),
    **dict.fromkeys(("GRU", "CuDNNGRU", "GRUCell"), _recurrent(nn.GRU)),
    "TimeDistributed": _distributed,
    "MultiHeadAttention": _heads,
    "Attention": _plain(lambda q, v: nn.functional.scaled_dot_product_attention(q, v, v, scale=1.0)),
    "Rescaling": _plain(lambda x: x * (1 / 127.5) - 1.0),
}


def ways(peer: str, row: Row, threads: int) -> dict[str, Run]:
    """The layouts that may be the fastest; none where torch.nn has no twin."""
    torch.set_num_threads(threads)
    case, first = row.case, row.case.layer in FIRST
    make = (FIRST if first else AS_IS).get(case.layer)
    if make is None or make(case) is None:
        return {}
    rank = len(case.shapes[0])
    layouts = {"eager": DEFAULT, **({"channels last": LAST[rank]} if first and rank in LAST else {})}
    step = _inference if row.mode == FORWARD else _training
    return {name: repeated(step(case, make(case), inputs(case, first, layout))) for name, layout in layouts.items()}


def inputs(case: Case, first: bool, layout: torch.memory_format = DEFAULT) -> list[torch.Tensor]:
    """The arrays as tensors, channels first if asked."""
    moved = [np.ascontiguousarray(np.moveaxis(a, -1, 1)) if first else a for a in arrays(case)]
    return [torch.from_numpy(a).contiguous(memory_format=layout) for a in moved]


def _inference(case: Case, module: nn.Module, x: list[torch.Tensor]) -> Callable:
    module.train(case.training)

    def step():
        with torch.inference_mode():
            return module(*x).numpy()

    return step


def _training(case: Case, module: nn.Module, x: list[torch.Tensor]) -> Callable:
    module.train()
    scales = [nn.Parameter(torch.ones(())) for a in x if a.is_floating_point()]
    optimizer = torch.optim.SGD([*module.parameters(), *scales], lr=1e-3)

    def step():
        optimizer.zero_grad()
        scaled = [a * s for a, s in zip(x, scales)] if scales else x
        loss = module(*scaled).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
