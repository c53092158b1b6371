"""Every layer alone beside Keras and PyTorch: `python -m benchmarks.layers --only Conv`.

Each peer lives in a process of its own; peers get ready at the same time and take turns. A row shows the median time
and, for each peer, its time with the ratio to kcompile's (above 1: kcompile is faster) and the spread of that ratio
over the turns. Rows slower than LEAST of the best peer come again below, with the reason `layer_cases.REASONS` gives,
or as lacking one: then the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import choices
from benchmarks.layer_cases import LEAST, REASONS, ROWS, Row
from benchmarks.peers import OURS, installed
from benchmarks.run import best, ratios
from benchmarks.turns import Worker, take_turns

PEERS = ("keras-jax", "keras-tensorflow", "torch")
TURN_S, QUICK_TURN_S = 0.03, 0.01
TURNS, QUICK_TURNS = 7, 3

Times = Mapping[str, Sequence[float]]  # seconds per step by peer, one number per turn


def measure(row: Row, workers: Sequence[Worker], turns: int, turn_s: float) -> Times:
    """Seconds per step by peer, one number per turn; a peer without this layer is left out."""
    with ThreadPoolExecutor(len(workers)) as pool:
        answers = list(pool.map(lambda worker: worker.ask(prepare=row.name), workers))
    for worker, answer in zip(workers, answers):
        if answer is None or "error" in answer:
            print(f"  {worker.peer} failed on {row.name}: {(answer or {}).get('error', 'died')[:300]}", file=sys.stderr)
            worker.revive()
    ready = [worker for worker, answer in zip(workers, answers) if (answer or {}).get("ready")]
    settled = [worker for worker in ready if worker.ask(settle=turn_s) is not None]
    return take_turns(settled, turns)


def line(row: Row, times: Times, peers: Sequence[str]) -> str:
    """One line of the table."""
    ours = f"{1e6 * statistics.median(times[OURS]):.1f}" if times.get(OURS) else "-"
    cells = [f"{row.name:34s} {ours:>10s}"]
    for peer in peers:
        found, text = ratios(times, peer), "-"
        if found:
            spread = f"({found[0]:.2f}-{found[-1]:.2f})"
            text = f"{1e6 * statistics.median(times[peer]):.1f} x{statistics.median(found):.2f} {spread}"
        cells.append(f"{text:>30s}")
    return " ".join(cells)


def summary(results: Mapping[str, Times]) -> tuple[list[str], list[str]]:
    """Lines about rows slower than LEAST of the best peer: those with a reason, and those without."""
    explained, open_ = [], []
    for name, times in results.items():
        worst = best(times)
        if not times.get(OURS):
            open_.append(f"{name}: no time")
        elif worst and worst[1] < LEAST:
            reason = REASONS.get(name)
            (explained if reason else open_).append(
                f"{name}: {worst[1]:.2f} of {worst[0]}; {reason or 'no reason known'}"
            )
    return explained, open_


def geometric(results: Mapping[str, Times]) -> str:
    """How far ahead of the best peer, over all rows."""
    found = [w[1] for times in results.values() if (w := best(times))]
    if not found:
        return "no row has a peer"
    behind = sum(r < 1 for r in found)
    mean = statistics.geometric_mean(found)
    return f"{len(found)} rows beside the best peer: geometric mean x{mean:.2f}, {behind} behind"


def chosen(only: str, quick: bool) -> list[Row]:
    """Rows with a name that contains one of `only` (names with commas), all if it is empty; `quick`: the marked."""
    return [r for r in ROWS if any(o in r.name for o in only.split(",")) and (r.case.quick or not quick)]


def run(
    rows: Sequence[Row], peers: Sequence[str], threads: int, turns: int, turn_s: float
) -> Iterator[tuple[str, Times]]:
    """Measure rows, print each and give it back; `peers` are those compared with."""
    workers = [Worker(p, threads, "benchmarks.layer_worker") for p in (OURS, *peers)]
    print(f"{f'medians in microseconds, {threads} threads':34s} {OURS:>10s} " + " ".join(f"{p:>30s}" for p in peers))
    for row in rows:
        times = measure(row, workers, turns, turn_s)
        print(line(row, times, peers), flush=True)
        yield row.name, times
    for worker in workers:
        worker.close()


def keep(path: Path, threads: int, results: Mapping[str, Times]) -> None:
    """Put rows into a JSON file beside those it holds."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[str(threads)] = {**kept.get(str(threads), {}), **results}
    path.write_text(json.dumps(kept, indent=1))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows with a name that contains this, or one of these (commas)")
    parser.add_argument("--quick", action="store_true", help="a few rows, short turns")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--peers", default=",".join(PEERS), help="names with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, help=f"{TURNS}, quick {QUICK_TURNS}")
    parser.add_argument("--json", type=Path, help="write all numbers to this file; rows it already holds stay")
    args = parser.parse_args()
    rows = chosen(args.only, args.quick)
    if args.list:
        print("\n".join(r.name for r in rows))
        return
    turns = args.turns or (QUICK_TURNS if args.quick else TURNS)
    choices.some(rows, args.only, (r.name for r in ROWS))
    peers = installed(args.peers) if args.peers else []
    results: dict[str, Times] = {}
    for name, times in run(rows, peers, args.threads, turns, QUICK_TURN_S if args.quick else TURN_S):
        results[name] = times
        if args.json:  # after each row: a long run may be cut off
            keep(args.json, args.threads, {name: times})
    explained, unexplained = summary(results)
    print(geometric(results))
    if explained:
        print(f"slower than {LEAST} of the best peer, and why:", *explained, sep="\n  ")
    if unexplained:
        print(f"slower than {LEAST} of the best peer:", *unexplained, sep="\n  ")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    main()
