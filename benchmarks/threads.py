"""What a second thread brings, and whether numbers stay the same: `python -m benchmarks.threads`.

One process, one pool; the same program for 1 and for 2 threads takes turns. `scaling` is the time with one thread
over the time with two. Then each row runs with 1, 2, 3 and 4 threads: all results must agree to the bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import choices
from benchmarks.models_keras import build
from benchmarks.workloads import data
from kcompile import keras, pipeline
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from kcompile.runtime import threads

COUNTS = (1, 2, 3, 4)
TURN_S, QUICK_TURN_S, TURNS, QUICK_TURNS = 0.2, 0.05, 9, 5
STEPS = 5  # of training before weights are compared

Start = Callable[[int], Callable[[], object]]  # for a number of threads: a step, which returns arrays or nothing


def _gemm(n: int) -> Start:
    draw = np.random.default_rng(0)
    given = {name: draw.standard_normal((n, n), "float32") for name in "ab"}
    return lambda count: _bound(lambda v: {"y": ops.matmul(v["a"], v["b"])}, given, count)


def _conv(batch: int, size: int, channels: int, window: int) -> Start:
    draw = np.random.default_rng(0)
    given = {
        "x": draw.standard_normal((batch, size, size, channels), "float32"),
        "w": draw.standard_normal((window, window, channels, channels), "float32"),
    }
    return lambda count: _bound(lambda v: {"y": ops.conv(v["x"], v["w"], 1, "same", "channels_last")}, given, count)


def _bound(run: Callable, given: dict[str, np.ndarray], count: int) -> Callable[[], object]:
    traced = trace(run, {n: (a.shape, "float32") for n, a in given.items()}, name="case")
    program = pipeline.compile(traced.graph, num_threads=count).bind(traced.arrays())
    return lambda: list(program.run(given).values())


def _train(model: str, batch: int) -> Start:
    x, y = data(model, batch)

    def start(count: int):
        keras.utils.set_random_seed(0)
        made = build(keras, model)
        made.compile(optimizer="adam", loss=made.loss, num_threads=count)
        weights = made.trainable_variables  # once: collecting them costs more than a step of a tiny model

        def step():
            made.train_on_batch(x, y)
            return weights

        return step

    return start


ROWS: dict[str, tuple[Start, bool]] = {  # and whether a quick run has it
    "gemm 512": (_gemm(512), True),
    "gemm 1024": (_gemm(1024), False),
    "conv 3x3, 32 images 28x28x64": (_conv(32, 28, 64, 3), True),
    "conv 3x3, 1 image 56x56x64": (_conv(1, 56, 64, 3), True),
    "cnn train b32": (_train("cnn", 32), True),
    "cnn train b128": (_train("cnn", 128), False),
    "mlp train b32": (_train("mlp", 32), True),
    "resnet20 train b32": (_train("resnet20", 32), False),
    "tiny train b32": (_train("tiny", 32), True),
}


def scaling(start: Start, turns: int, turn_s: float) -> dict[int, list[float]]:
    """Seconds per step with 1 and with 2 threads, one number per turn."""
    steps = {count: start(count) for count in (1, 2)}
    times: dict[int, list[float]] = {count: [] for count in steps}
    repeats = {}
    for count, step in steps.items():
        _seconds(step, 2)
        repeats[count] = max(1, min(20000, int(turn_s / max(_seconds(step, 3), 1e-7))))
    for _ in range(turns):
        for count, step in steps.items():
            times[count].append(_seconds(step, repeats[count]))
    return times


def _seconds(step: Callable, repeats: int) -> float:
    begun = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - begun) / repeats


def digests(start: Start, counts: Sequence[int] = COUNTS, steps: int = STEPS) -> dict[int, str]:
    """A digest of the results after some steps, for each number of threads."""
    found = {}
    for count in counts:
        step = start(count)
        for _ in range(steps):
            results = step()
        parts = hashlib.sha256()
        for array in results:
            parts.update(np.ascontiguousarray(array).tobytes())
        found[count] = parts.hexdigest()
    return found


def main() -> None:
    """Command line. Ends with status 1 if any result depends on the number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="fewer rows, short turns")
    parser.add_argument("--turns", type=int, help=f"{TURNS}, quick {QUICK_TURNS}")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    args = parser.parse_args()
    names = [n for n, (_, quick) in ROWS.items() if args.only in n and (quick or not args.quick)]
    choices.some(names, args.only, ROWS)
    threads.set_num_threads(max(COUNTS))
    turns = args.turns or (QUICK_TURNS if args.quick else TURNS)
    print(
        f"{'medians in microseconds':30s} {'1 thread':>12s} {'2 threads':>12s} {'scaling':>20s}  the same with 1 to 4"
    )
    results, differ = {}, []
    for name in names:
        start = ROWS[name][0]
        times = scaling(start, turns, QUICK_TURN_S if args.quick else TURN_S)
        found = digests(start)
        same = len(set(found.values())) == 1
        differ += [] if same else [name]
        one, two = (1e6 * statistics.median(times[n]) for n in (1, 2))
        gains = sorted(a / b for a, b in zip(times[1], times[2]))
        text = f"x{statistics.median(gains):.2f} ({gains[0]:.2f}-{gains[-1]:.2f})"
        print(f"{name:30s} {one:12.1f} {two:12.1f} {text:>20s}  {'yes' if same else f'NO: {found}'}", flush=True)
        results[name] = {"seconds": times, "same": same}
    if args.json:
        args.json.write_text(json.dumps({"threads": results}, indent=1))
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
