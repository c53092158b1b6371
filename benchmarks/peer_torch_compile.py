"""The workloads with `torch.compile` for exactly these sizes; needs a C++ compiler.

Inference: weights are constants of the compiled code (freezing), as in the other inference libraries. Training:
forward, loss and gradient are compiled, Adam is the fused one.
"""

from __future__ import annotations

import torch

from benchmarks.peer_torch import inference, inputs, layouts_of, loss_of, model_for, training
from benchmarks.peers import Run
from benchmarks.workloads import Workload


def ways(peer: str, workload: Workload, threads: int) -> dict[str, Run]:
    """One way: compiling takes long, and images are best in channels last, which the compiler turns to anyway."""
    torch.set_num_threads(threads)
    name, form = list(layouts_of(workload).items())[-1]
    model = model_for(workload, form)
    if workload.trains:
        loss = torch.compile(loss_of(workload, model), dynamic=False)
        return {f"{name} fused": training(workload, form, model, loss, fused=True)}
    import torch._inductor.config as config  # only where it is needed: it takes a while

    config.freezing = True
    return {name: inference(torch.compile(model, dynamic=False), inputs(workload, form))}
