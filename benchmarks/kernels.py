"""Single kernels beside NumPy and PyTorch eager: `python -m benchmarks.kernels --quick`.

Each peer lives in a process of its own; peers take turns, so all see the same machine. A row shows the median time,
what share of the machine's limit kcompile reaches (the larger of its arithmetic at the peak and its bytes at the
bandwidth measured for as many; c where it is the arithmetic, m where it is memory), and each peer's time with its
ratio to kcompile's (above 1: kcompile is
faster) and the spread of that ratio over the turns. Geometric means per group follow. `--parts` prints both times
instead of the peers: what is larger than their sum is latency, passes over the data beyond the first, and the call.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import choices
from benchmarks.kernel_cases import CASES, Case, moved_bytes, multiply_adds, traffic
from benchmarks.turns import Worker
from kcompile.runtime.machine import Machine

PEERS = ("kcompile", "numpy", "torch")
OURS = "kcompile"
TURN_S, QUICK_TURN_S = 0.06, 0.01
TURNS, QUICK_TURNS = 7, 5
MAX_CALLS = 20000

Times = "dict[str, list[float]]"  # seconds per call by peer, one number per turn


def measure(case: Case, workers: Mapping[str, Worker], turns: int, turn_s: float) -> Times:
    """Let the peers take turns on one case; a peer without this kernel, or one that died, is left out."""
    calls: dict[str, int] = {}
    for peer, worker in workers.items():
        ready = worker.ask(prepare=case.name)
        if ready is None:
            print(f"  {peer} failed on {case.name}", file=sys.stderr)
        elif ready["ready"]:
            worker.ask(measure=2)
            first = worker.ask(measure=3)
            calls[peer] = max(1, min(MAX_CALLS, int(turn_s / max(first["seconds"], 1e-7))))
    times: Times = {peer: [] for peer in calls}
    for _ in range(turns):
        for peer, count in calls.items():
            times[peer].append(workers[peer].turn(measure=count)["seconds"])
    return times


def parts_s(case: Case, machine: Machine, operations: Mapping) -> tuple[float, float]:
    """The least times the machine needs for a case's arithmetic and for its bytes."""
    products = multiply_adds(case)
    counted = {"operations": 0, "multiplies": 0} if products else operations
    computing = machine.computing_s(products + counted["multiplies"], products + counted["operations"])
    return computing, machine.moving_s(*traffic(case), moved_bytes(case))


def limit_s(case: Case, machine: Machine, operations: Mapping) -> float:
    """The least time the machine needs for a case."""
    return max(parts_s(case, machine, operations))


def ratios(times: Times, peer: str) -> list[float]:
    """A peer's time over kcompile's, turn by turn, sorted."""
    return sorted(t / o for t, o in zip(times.get(peer, ()), times.get(OURS, ())))


def row(case: Case, times: Times, machine: Machine, peers: Sequence[str], operations: Mapping) -> str:
    """One line of the table."""
    computing, moving = parts_s(case, machine, operations)
    ours = statistics.median(times[OURS]) if times.get(OURS) else math.nan
    flops = 2 * multiply_adds(case)
    rate = f"{flops / ours / 1e9:7.1f} GF" if flops else f"{moved_bytes(case) / ours / 1e9:7.1f} GB"
    by = "c" if computing > moving else "m"
    cells = [f"{case.name:58s} {1e6 * ours:11.1f} {rate} {max(computing, moving) / ours:5.0%}{by}"]
    for peer in peers:
        found = ratios(times, peer)
        text = "-"
        if found:
            middle = statistics.median(found)
            text = f"{1e6 * statistics.median(times[peer]):.1f} x{middle:.2f} ({found[0]:.2f}-{found[-1]:.2f})"
        cells.append(f"{text:>30s}")
    return " ".join(cells)


def parts_row(case: Case, times: Times, machine: Machine, operations: Mapping) -> str:
    """One line of the table of parts."""
    computing, moving = parts_s(case, machine, operations)
    ours = statistics.median(times[OURS]) if times.get(OURS) else math.nan
    shares = f"{max(computing, moving) / ours:8.0%} {(computing + moving) / ours:8.0%}"
    return f"{case.name:58s} {1e6 * ours:11.1f} {1e6 * computing:11.1f} {1e6 * moving:11.1f} {shares}"


def summary(
    results: Mapping[str, Times], machine: Machine, peers: Sequence[str], operations: Mapping[str, Mapping]
) -> list[str]:
    """Per group and kind: geometric means of the share of the limit and of the ratios, and the worst ratio."""
    groups: dict[str, list[Case]] = {}
    for case in (c for c in CASES if results.get(c.name, {}).get(OURS)):
        groups.setdefault(f"{case.group}: {case.kind}", []).append(case)
    lines = []
    for name, cases in groups.items():
        limits = [limit_s(c, machine, operations[c.name]) for c in cases]
        shares = [limit / statistics.median(results[c.name][OURS]) for c, limit in zip(cases, limits)]
        cells = [f"{name:58s} {len(cases):4d} rows {statistics.geometric_mean(shares):16.0%}"]
        for peer in peers:
            found = [statistics.median(r) for c in cases if (r := ratios(results[c.name], peer))]
            text = f"x{statistics.geometric_mean(found):.2f} (worst {min(found):.2f})" if found else "-"
            cells.append(f"{text:>30s}")
        lines.append(" ".join(cells))
    return lines


def chosen(only: str, quick: bool) -> list[Case]:
    """The cases whose name contains `only`, all of them if it is empty; with `quick` the marked ones of these."""
    return [c for c in CASES if only in c.name and (c.quick or not quick)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a few rows, short turns")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--peers", default=",".join(PEERS[1:]), help="names with commas")
    parser.add_argument("--threads", type=choices.counts, default="1,2", help="numbers with commas")
    parser.add_argument("--turns", type=int, help=f"{TURNS}, quick {QUICK_TURNS}")
    parser.add_argument("--parts", action="store_true", help="arithmetic and memory of each row; no peers")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    args = parser.parse_args()
    cases = chosen(args.only, args.quick)
    if args.list:
        print("\n".join(c.name for c in cases))
        return
    choices.some(cases, args.only, (c.name for c in CASES))
    peers = [] if args.parts else _installed(choices.names(args.peers, PEERS[1:]))
    turns = args.turns or (QUICK_TURNS if args.quick else TURNS)
    turn_s = QUICK_TURN_S if args.quick else TURN_S
    report = {n: _run(cases, peers, n, turns, turn_s, args.parts) for n in args.threads}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def _installed(peers: Sequence[str]) -> list[str]:
    """Those that can run; prints a line for each other one."""
    missing = [p for p in peers if importlib.util.find_spec(p) is None]
    for peer in missing:
        print(f"{peer}: left out, not installed")
    return [p for p in peers if p not in missing]


def _run(
    cases: Sequence[Case], peers: Sequence[str], threads: int, turns: int, turn_s: float, parts: bool = False
) -> dict:
    workers = {p: Worker(p, threads, "benchmarks.kernel_worker") for p in (OURS, *peers)}
    measured = workers[OURS].ask(limits=True)
    machine = Machine.from_plain(measured)
    levels = ", ".join(f"{v.name} {v.bytes_per_s / 1e9:.0f}" for v in machine.levels)
    print(f"threads: {threads}; machine: {machine.flops_per_s / 1e9:.0f} GFLOP/s, GB/s: {levels}")
    header = f"{'medians in microseconds':58s} {OURS:>11s} {'per s':>10s} {'limit':>6s} "
    if parts:
        columns = f"{OURS:>11s} {'arithmetic':>11s} {'memory':>11s} {'larger':>8s} {'sum':>8s}"
        header = f"{'medians in microseconds':58s} {columns}"
    print(header + " ".join(f"{p:>30s}" for p in peers))
    results: dict[str, Times] = {}
    operations: dict[str, Mapping] = {}
    for case in cases:
        results[case.name] = times = measure(case, workers, turns, turn_s)
        operations[case.name] = {} if multiply_adds(case) else workers[OURS].ask(operations=case.name)
        if parts:
            print(parts_row(case, times, machine, operations[case.name]), flush=True)
        else:
            print(row(case, times, machine, peers, operations[case.name]), flush=True)
        for peer, worker in workers.items():
            if worker.process.poll() is not None:  # a peer that died starts anew for the next case
                workers[peer] = Worker(peer, threads, "benchmarks.kernel_worker")
    for worker in workers.values():
        worker.close()
    if len(cases) > 1:
        print("\n".join(["geometric means", *summary(results, machine, peers, operations)]))
    return {"machine": measured, "seconds_per_call": results, "operations": operations}


if __name__ == "__main__":
    main()
