"""Symbolic tensors, variables, scopes and `trace`: how Python becomes a graph.

names.py      automatic names
dtypes.py     dtype names and Keras's promotion rules
operators.py  Python operators of all tensor-like classes
tree.py       nested structures
tensor.py     Tensor, KerasTensor, TracedValue
scope.py      what variables are in the trace in progress; names; script lines
variable.py   Variable
arena.py      VariableArena: many variables in one buffer
trace.py      trace, infer
node.py       the model graph: which operation was called on which tensors
loops.py      scan: one step recorded for all
tape.py       GradientTape               custom.py     gradients users write
bfloat16.py   numbers NumPy lacks
"""

from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.scope import current_scope, is_tracing
from kcompile.keras.tracing.tensor import KerasTensor, Tensor, TracedValue, as_tensor, is_tensor
from kcompile.keras.tracing.trace import Traced, infer, trace
from kcompile.keras.tracing.variable import Variable

__all__ = [
    "KerasTensor",
    "Tensor",
    "Traced",
    "TracedValue",
    "Variable",
    "VariableArena",
    "as_tensor",
    "current_scope",
    "infer",
    "is_tensor",
    "is_tracing",
    "trace",
]
