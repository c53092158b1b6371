"""The primitives: each op's infer, reference, vjp, lowering and samples, together.

Importing this package fills `ir.op.OPS`. Every primitive is also a name here: `ops.add(x, y)`.
"""

from __future__ import annotations

import importlib
import importlib.util

from kcompile.ir.op import OPS

for _name in ("elementwise", "shape", "reduce", "index", "random", "pack", "contract", "conv", "window"):
    if importlib.util.find_spec(f"kcompile.ops.{_name}"):
        importlib.import_module(f"kcompile.ops.{_name}")

globals().update(OPS)  # after the imports: op `pack` takes the name of its module
