"""Whole models beside every installed peer: `python -m benchmarks.run --only "cnn train"`.

Each peer lives in a process of its own; peers take turns, so all see the same machine. A row shows the median time
of a step, the share of the machine's limit (the larger of the model's multiply-adds at the measured peak and its
weights, read once, at the bandwidth of the smallest cache that holds them), and each peer's time with its ratio to
kcompile's (above 1: kcompile is faster) and the spread of that ratio over the turns.
`best` is the ratio to the fastest peer. A peer with several ways to do a row takes its fastest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import choices
from benchmarks.peers import OURS, PEERS, installed
from benchmarks.turns import Worker, take_turns
from benchmarks.workloads import WORKLOADS, Workload, chosen

TURN_S, QUICK_TURN_S = 0.4, 0.1
TURNS, QUICK_TURNS = 7, 5

Row = dict[str, Any]  # seconds: by peer, one number per turn; ways, first_s: by peer; limit_s


def measure(workload: Workload, workers: Sequence[Worker], turns: int, turn_s: float) -> Row:
    """Let the peers take turns on one workload; a peer that has no way to do it, or died, is left out."""
    ready: dict[str, dict] = {}
    for worker in workers:
        worker.revive()
        if workload.mode not in PEERS[worker.peer].modes:
            continue
        answer = worker.ask(prepare=[workload.model, workload.mode, workload.batch], turn_s=turn_s)
        if answer is None:
            print(f"  {worker.peer} failed on {workload.name}", file=sys.stderr)
        elif answer["way"]:
            ready[worker.peer] = answer
    times = take_turns([w for w in workers if w.peer in ready], turns)
    limits = next((w.ask(limits=True) for w in workers if w.peer == OURS and OURS in times), None)
    return {
        "seconds": times,
        "ways": {p: ready[p]["way"] for p in times},
        "first_s": {p: ready[p]["first_s"] for p in times},
        "limit_s": limits["limit_s"] if limits else None,
    }


def ratios(times: Mapping[str, Sequence[float]], peer: str) -> list[float]:
    """A peer's time over kcompile's, turn by turn, sorted."""
    return sorted(t / o for t, o in zip(times.get(peer, ()), times.get(OURS, ())))


def best(times: Mapping[str, Sequence[float]]) -> tuple[str, float] | None:
    """The fastest peer and the median of its ratios."""
    medians = {p: statistics.median(t) for p, t in times.items() if p != OURS and t}
    if not medians or not times.get(OURS):
        return None
    peer = min(medians, key=medians.__getitem__)
    return peer, statistics.median(ratios(times, peer))


def line(workload: Workload, row: Row, peers: Sequence[str]) -> str:
    """A row as text."""
    times = row["seconds"]
    ours = statistics.median(times[OURS]) if times.get(OURS) else None
    cells = [f"{workload.name:26s}", f"{1e6 * ours:10.1f}" if ours else f"{'-':>10s}"]
    cells.append(f"{row['limit_s'] / ours:6.0%}" if ours and row["limit_s"] else f"{'-':>6s}")
    found = best(times)
    cells.append(f"{f'x{found[1]:.2f}' if found else '-':>8s}")
    for peer in peers:
        if peer == OURS:
            continue
        text = "-"
        if peer in times:
            text = f"{1e6 * statistics.median(times[peer]):.1f}"
            if spread := ratios(times, peer):
                text += f" x{statistics.median(spread):.2f} ({spread[0]:.2f}-{spread[-1]:.2f})"
        cells.append(f"{text:>29s}")
    return " ".join(cells)


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="small models, short turns")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--peers", default="", help="names with commas; kcompile always takes part")
    parser.add_argument("--threads", type=choices.counts, default="2", help="numbers with commas")
    parser.add_argument("--turns", type=int, help=f"{TURNS}, quick {QUICK_TURNS}")
    parser.add_argument("--verbose", action="store_true", help="show what peers print, errors included")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    if args.list:
        print("\n".join(w.name for w in chosen(args.only, args.quick)))
        return
    report = table_of(args.only, args.peers, args.threads, args.quick, args.turns, args.verbose)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def table_of(
    only: str, peers: str, counts: Sequence[int], quick: bool, turns: int | None = None, verbose: bool = False
) -> dict[str, Any]:
    """Measure and print; returns what the JSON file holds."""
    rows = choices.some(chosen(only, quick), only, (w.name for w in WORKLOADS))
    names = [OURS, *(p for p in installed(peers) if p != OURS)]
    turns, turn_s = turns or (QUICK_TURNS if quick else TURNS), QUICK_TURN_S if quick else TURN_S
    return {"models": {str(n): _run(rows, names, n, turns, turn_s, verbose) for n in counts}}


def _run(rows, peers, threads: int, turns: int, turn_s: float, verbose: bool) -> dict[str, Row]:
    print(f"microseconds per step (median of {turns} turns), threads: {threads}; xN: times kcompile's")
    header = [f"{'workload':26s}", f"{OURS:>10s}", f"{'limit':>6s}", f"{'best':>8s}"]
    print(" ".join([*header, *(f"{p:>29s}" for p in peers if p != OURS)]), flush=True)
    results = {}
    workers = [Worker(p, threads, verbose=verbose) for p in peers]
    try:
        for workload in rows:
            results[workload.name] = measure(workload, workers, turns, turn_s)
            print(line(workload, results[workload.name], peers), flush=True)
    finally:
        for worker in workers:
            worker.close()
    return results


if __name__ == "__main__":
    main()
