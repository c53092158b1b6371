"""Print what this machine can do: `python -m benchmarks.machine [threads ...]`."""

from __future__ import annotations

import sys

from kcompile.runtime import threads
from kcompile.runtime.machine import machine, table


def main() -> None:
    """Measure with one thread and with all, or with the numbers given."""
    counts = [int(a) for a in sys.argv[1:]] or sorted({1, threads.num_threads()})
    threads.set_num_threads(max(counts))
    for count in counts:
        print(table(machine(count)))


if __name__ == "__main__":
    main()
