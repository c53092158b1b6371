"""The process of one peer: reads JSON lines, answers JSON lines.

{"prepare": [model, mode, batch], "turn_s": s} -> {"way": name, "first_s": s} or {"way": null}: has none
{"measure": true}                              -> {"seconds": per step}
{"limits": true}                               -> {"limit_s": the machine's, per step}; only from kcompile
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time

from benchmarks.peers import PEERS, keep_to_cores
from benchmarks.timing import fastest, steps_for
from benchmarks.workloads import Workload


def main(peer: str, threads: int) -> None:
    """Serve requests until standard input ends. Anything a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    keep_to_cores(threads)
    run, steps, workload = None, 1, None
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            run = None
            gc.collect()  # the last model goes before the next one comes
            workload = Workload(*request["prepare"])
            started = time.perf_counter()
            ways = PEERS[peer].ways(workload, threads)
            answer: dict = {"way": None}
            if ways:
                name, seconds = fastest(ways)
                run, steps = ways[name], steps_for(request["turn_s"], seconds)
                answer = {"way": name, "first_s": time.perf_counter() - started}
            del ways
        elif "limits" in request:
            answer = _limits(workload, threads)
        else:
            answer = {"seconds": run(steps)}
        answers.write(json.dumps(answer) + "\n")


def _limits(workload: Workload, threads: int) -> dict:
    from benchmarks.limits import limit_s, multiply_adds, weight_bytes  # only where kcompile runs
    from kcompile.runtime.machine import machine

    return {"limit_s": limit_s(multiply_adds(workload), weight_bytes(workload), machine(threads))}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
