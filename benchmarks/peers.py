"""The peers, one row each, and what a process needs to run one of them."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks import choices
from benchmarks.workloads import FIT, INFER, PREDICT, PREDICT_ON_BATCH, TRAIN, TRAIN_ON_BATCH, Workload

OURS = "kcompile"
INFERENCE = (INFER, PREDICT_ON_BATCH)
STEPS = (*INFERENCE, TRAIN, FIT, TRAIN_ON_BATCH)
Run = Callable[[int], float]  # runs so many steps, gives seconds per step


@dataclass(frozen=True)
class Peer:
    """A row. module: has `ways(peer, workload, threads)`; packages: all of them are needed;
    modes: what it has a call for."""

    name: str
    module: str
    packages: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    modes: tuple[str, ...] = STEPS

    @property
    def trains(self) -> bool:
        return TRAIN in self.modes

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [p for p in self.packages if importlib.util.find_spec(p) is None]

    def ways(self, workload: Workload, threads: int) -> dict[str, Run]:
        """The ways this peer has for a workload, ready to run; none if it cannot do it at all."""
        if workload.mode not in self.modes:
            return {}
        return importlib.import_module(self.module).ways(self.name, workload, threads)


_JAX = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
_TENSORFLOW = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
PEERS = {
    p.name: p
    for p in (
        Peer(OURS, "benchmarks.peer_keras", ("kcompile",), modes=(*STEPS, PREDICT)),
        Peer("keras-jax", "benchmarks.peer_keras", ("keras", "jax"), _JAX, (*STEPS, PREDICT)),
        Peer("keras-tensorflow", "benchmarks.peer_keras", ("keras", "tensorflow"), _TENSORFLOW, (*STEPS, PREDICT)),
        Peer("torch", "benchmarks.peer_torch", ("torch",)),
        Peer("torch-compile", "benchmarks.peer_torch_compile", ("torch",)),
        Peer("onnxruntime", "benchmarks.peer_onnxruntime", ("onnxruntime", "onnxscript", "torch"), modes=INFERENCE),
        Peer("openvino", "benchmarks.peer_openvino", ("openvino", "onnxscript", "torch"), modes=INFERENCE),
    )
}


def installed(names: str) -> list[str]:
    """Of the names (with commas; empty: all peers) those that can run; prints a line for each other one."""
    found = []
    for name in choices.names(names, PEERS) or PEERS:
        if missing := PEERS[name].missing:
            print(f"{name}: left out, not installed: {', '.join(missing)}")
        else:
            found.append(name)
    return found


# Make a library take other instructions or blocks than it would choose on this machine.
FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def environment(peer: str, threads: int) -> dict[str, str]:
    """The environment of a peer's process: every library chooses its kernels itself."""
    limits = dict.fromkeys(("KCOMPILE_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    own = PEERS[peer].environment if peer in PEERS else {}
    given = {name: value for name, value in os.environ.items() if name not in FORCED}
    return {**given, **own, **limits}


def keep_to_cores(threads: int) -> None:
    """Give this process as many cores as threads: some libraries ask only the system how many to use."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) > threads:
        os.sched_setaffinity(0, allowed[-threads:])
