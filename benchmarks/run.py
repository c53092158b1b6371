"""Start the peers, let them take turns, print one table, write JSON."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import WORKLOADS, Workload

PEERS = {  # name -> (package it needs, environment)
    "kcompile": ("kcompile", {}),
    "keras-jax": ("jax", {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}),
    "keras-tensorflow": ("tensorflow", {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}),
    "torch": ("torch", {}),
}
TURN_S = 0.4  # each turn of a peer lasts about this long


class Worker:
    """One peer in a process of its own."""

    def __init__(self, peer: str, threads: int, module: str = "benchmarks.worker"):
        limits = {n: str(threads) for n in ("KCOMPILE_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        environment = PEERS[peer][1] if peer in PEERS else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, peer, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **environment, **limits}, cwd=Path(__file__).parent.parent,
        )  # fmt: skip

    def ask(self, **request):
        """Send a request, wait for the answer; None if the peer died."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(line) if line else None

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(workload: Workload, peers: list[str], threads: int, turns: int) -> dict[str, list[float]]:
    """Seconds per step of each peer, one number per turn; peers take turns."""
    workers = {p: Worker(p, threads) for p in peers}
    steps: dict[str, int] = {}
    for peer, worker in list(workers.items()):
        ready = worker.ask(prepare=[workload.model, workload.mode, workload.batch])
        first = ready and worker.ask(measure=8) and worker.ask(measure=32)
        if not first:
            print(f"  {peer} failed on {workload.name}", file=sys.stderr)
            del workers[peer]
            continue
        steps[peer] = max(8, min(20000, int(TURN_S / max(first["seconds"], 1e-7))))
        worker.ask(measure=steps[peer])
    times: dict[str, list[float]] = {p: [] for p in workers}
    for _ in range(turns):
        for peer, worker in workers.items():
            times[peer].append(worker.ask(measure=steps[peer])["seconds"])
    for worker in workers.values():
        worker.close()
    return times


def row(workload: Workload, times: dict[str, list[float]], peers: list[str]) -> str:
    """One line: medians in microseconds, and each peer's ratio to kcompile with its spread over turns."""
    cells = [f"{workload.name:24s}"]
    ours = times.get("kcompile")
    for peer in peers:
        if not times.get(peer):
            cells.append(f"{'-':>24s}")
            continue
        text = f"{1e6 * statistics.median(times[peer]):.1f}"
        if peer != "kcompile" and ours:
            ratios = sorted(t / o for t, o in zip(times[peer], ours))
            text += f" x{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        cells.append(f"{text:>24s}")
    return " ".join(cells)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--peers", default=",".join(PEERS), help="names with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    args = parser.parse_args()
    peers = [p for p in args.peers.split(",") if importlib.util.find_spec(PEERS[p][0])]
    print(f"microseconds per step (median of {args.turns} turns), {args.threads} threads; xN: times kcompile's")
    print(" ".join([f"{'workload':24s}", *(f"{p:>24s}" for p in peers)]))
    results = {}
    for workload in WORKLOADS:
        if args.only in workload.name:
            results[workload.name] = measure(workload, peers, args.threads, args.turns)
            print(row(workload, results[workload.name], peers), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"threads": args.threads, "seconds_per_step": results}, indent=1))


if __name__ == "__main__":
    main()
