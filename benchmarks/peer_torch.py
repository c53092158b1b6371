"""The workloads in PyTorch eager, written as its tutorials write them: NCHW or channels last, Adam fused or not."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.models_torch import build
from benchmarks.peers import Run
from benchmarks.timing import repeated
from benchmarks.workloads import FIT, TRAIN, Workload, data, regresses

DEFAULT, LAST = torch.contiguous_format, torch.channels_last
EPOCH_BATCHES = 16


def ways(peer: str, workload: Workload, threads: int) -> dict[str, Run]:
    """Every combination that may be the fastest."""
    torch.set_num_threads(threads)
    layouts = layouts_of(workload)
    if not workload.trains:
        return {name: inference(model_for(workload, form), inputs(workload, form)) for name, form in layouts.items()}
    found = {}
    for name, form in layouts.items():
        for fused in (False, True):
            model = model_for(workload, form)
            found[f"{name}{' fused' * fused}"] = training(workload, form, model, loss_of(workload, model), fused)
    return found


def layouts_of(workload: Workload) -> dict[str, torch.memory_format]:
    """Memory formats worth a try."""
    return {"nchw": DEFAULT, "nhwc": LAST} if data(workload.model, 1)[0].ndim == 4 else {"eager": DEFAULT}


def model_for(workload: Workload, form: torch.memory_format) -> nn.Module:
    """The model in a memory format, in training or inference mode."""
    made = build(workload.model, softmax=not workload.trains).train(workload.trains)
    return made.to(memory_format=form)


def inputs(workload: Workload, form: torch.memory_format = DEFAULT, batches: int = 1) -> torch.Tensor:
    """Images are transposed beforehand: no peer pays for the other's layout."""
    return _turned(data(workload.model, batches * workload.batch)[0], form)


def _turned(x: np.ndarray, form: torch.memory_format) -> torch.Tensor:
    """Images with their channels first, as PyTorch numbers the axes, in a memory format; anything else as it is."""
    if x.ndim != 4:
        return torch.from_numpy(x)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).contiguous(memory_format=form)


def inference(model: Callable, x: torch.Tensor) -> Run:
    """One call over and over."""

    def step():
        with torch.inference_mode():
            return model(x).numpy()

    return repeated(step)


def loss_of(workload: Workload, model: nn.Module) -> Callable:
    """The loss of a batch."""
    loss = nn.MSELoss() if regresses(workload.model) else nn.CrossEntropyLoss()
    return lambda x, y: loss(model(x), y)


def training(workload: Workload, form: torch.memory_format, model: nn.Module, loss: Callable, fused: bool) -> Run:
    """Steps of an epoch in random order, or on the same batch."""
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    shuffled = workload.mode in (FIT, TRAIN)
    batches = EPOCH_BATCHES if shuffled else 1
    x, y = (_turned(part, form) for part in data(workload.model, batches * workload.batch))
    y = y if regresses(workload.model) else y.long()

    def step(batch_x, batch_y):
        optimizer.zero_grad()
        loss(batch_x, batch_y).backward()
        optimizer.step()

    def run(steps: int) -> float:
        start = time.perf_counter()
        for n in range(steps):
            if n % batches == 0 and shuffled:
                order = torch.randperm(len(x))
            if shuffled:
                rows = order[(n % batches) * workload.batch :][: workload.batch]
                step(x[rows], y[rows])
            else:
                step(x, y)
        return (time.perf_counter() - start) / steps

    return run
