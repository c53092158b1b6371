"""keras.mixed_precision: the names that dtype policies and loss scaling had first."""

from kcompile.keras.dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy
from kcompile.keras.optimizers import LossScaleOptimizer

Policy = DTypePolicy
global_policy, set_global_policy = dtype_policy, set_dtype_policy

__all__ = [
    "DTypePolicy",
    "LossScaleOptimizer",
    "Policy",
    "dtype_policy",
    "global_policy",
    "set_dtype_policy",
    "set_global_policy",
]
