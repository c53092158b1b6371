"""Square products beside the multipliers in the same seconds: `python -m benchmarks.products --threads 2`.

The clock moves by several percent within minutes, with neighbours and with the work. So every run of a product is
followed by one as long that only multiplies and adds in registers, on as many threads. Columns: median time, share of
those runs (median over median), share of the best short run (`benchmarks.machine`, what other tables call the limit),
and the share the best single run had.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.kernel_cases import Case, multiply_adds
from benchmarks.kernels_kcompile import prepare
from kcompile.runtime import threads
from kcompile.runtime.machine import machine, sustained

SIZES = (256, 384, 512, 768, 1024, 1536, 2048)
FEWEST_RUNS = 9


def compare(size: int, num_threads: int, seconds: float) -> tuple[float, float, float, float]:
    """Median seconds of a product, and its three shares."""
    case = Case("gemm", "gemm", (size, size, size))
    run, multiply = prepare(case), sustained(num_threads)
    flops, peak = 2 * multiply_adds(case), machine(num_threads).flops_per_s
    run()
    times, rates = [], []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_RUNS or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
        rates.append(multiply(max(times[-1], flops / peak)))
    middle, beside = statistics.median(times), statistics.median(rates)
    return middle, flops / middle / beside, flops / middle / peak, flops / min(times) / peak


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=threads.num_threads())
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers with commas")
    parser.add_argument("--seconds", type=float, default=0.5, help="per size")
    args = parser.parse_args()
    threads.set_num_threads(args.threads)
    print(f"threads: {args.threads}; best short run {machine(args.threads).flops_per_s / 1e9:.0f} GFLOP/s")
    print(f"{'size':>6s} {'median us':>10s} {'beside':>7s} {'peak':>6s} {'best':>6s}")
    for size in map(int, args.sizes.split(",")):
        middle, beside, share, best = compare(size, args.threads, args.seconds)
        print(f"{size:6d} {1e6 * middle:10.1f} {beside:7.1%} {share:6.1%} {best:6.1%}", flush=True)


if __name__ == "__main__":
    main()
