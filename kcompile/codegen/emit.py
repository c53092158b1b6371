"""Form -> Kernel: which emitter a form goes to. One row per form."""

from __future__ import annotations

from kcompile.codegen import contract, loops
from kcompile.codegen.kernel import Kernel
from kcompile.forms.records import Form
from kcompile.target import Target

EMITTERS = {"loops": loops.emit, "contract": contract.emit}


def emit(form: Form, target: Target, name: str) -> Kernel:
    """Return the LLVM IR of one kernel and what its caller must provide."""
    return EMITTERS[form.kind](form, target, name)
