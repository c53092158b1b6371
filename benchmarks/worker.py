"""The process of one peer: reads JSON lines, answers JSON lines.

{"prepare": [model, mode, batch]}   -> {"ready": true}
{"measure": steps}                  -> {"seconds": per step}
"""

from __future__ import annotations

import json
import os
import sys


def main(peer: str, threads: int) -> None:
    """Serve requests until standard input ends. Anything a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if peer == "torch":
        import torch

        torch.set_num_threads(threads)
        from benchmarks.peer_torch import prepare
    else:
        if peer == "keras-tensorflow":
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
        from benchmarks.peer_keras import prepare
    from benchmarks.workloads import Workload

    run = None
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            run = prepare(peer, Workload(*request["prepare"]))
            answers.write(json.dumps({"ready": True}) + "\n")
        else:
            answers.write(json.dumps({"seconds": run(request["measure"])}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
