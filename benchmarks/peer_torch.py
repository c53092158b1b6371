"""The workloads in PyTorch eager, written as its tutorials write them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.workloads import Workload, data


def _model(name: str) -> nn.Module:
    if name == "tiny":
        return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def prepare(peer: str, workload: Workload) -> Callable[[int], float]:
    """Return a function that runs n steps and gives seconds per step."""
    model = _model(workload.model)
    optimizer = torch.optim.Adam(model.parameters())
    loss_of = nn.MSELoss() if workload.model == "tiny" else nn.CrossEntropyLoss()
    x, y = data(workload.model, workload.batch * (64 if workload.mode == "fit" else 1))
    if workload.model == "cnn":
        x = x.transpose(0, 3, 1, 2)
    inputs, targets = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)
    targets = targets.long() if workload.model != "tiny" else targets

    def train(batch_x, batch_y):
        optimizer.zero_grad()
        loss = loss_of(model(batch_x), batch_y)
        loss.backward()
        optimizer.step()

    def run(steps: int) -> float:
        order = torch.randperm(len(inputs))
        start = time.perf_counter()
        for n in range(steps):
            if workload.mode == "fit":
                rows = order[(n * workload.batch) % len(inputs) :][: workload.batch]
                train(inputs[rows], targets[rows])
            elif workload.mode == "train_on_batch":
                train(inputs, targets)
            else:
                with torch.inference_mode():
                    model(inputs)
        return (time.perf_counter() - start) / steps

    run(2)
    return run
