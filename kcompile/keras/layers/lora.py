"""Low-rank adaptation: a kernel is kept as it is, and a product of two thin matrices is trained on top.

Source: Hu et al. 2021. The kernel in use is kernel + alpha / rank * (a · b); files keep that sum, so a saved layer
is read by one that knows nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.layers.layer import Layer
from kcompile.keras.tracing.variable import Variable


class LowRank(Layer):
    """Base of layers whose kernel can be adapted; subclasses say which weight that is.

    `build` ends with `_adapt()`, `call` reads `_adapted()`.
    """

    adapted_name = "kernel"
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_enabled = False

    def _take_rank(self, rank: int | None, alpha: float | None) -> None:
        if rank and not self.adapted_name:
            raise ArgumentError(f"Unrecognized keyword arguments passed to {type(self).__name__}: lora_rank={rank}")
        if rank is not None and (not isinstance(rank, int) or rank < 0):
            raise ArgumentError(
                f"Layer {self.name!r} ({type(self).__name__}): `lora_rank` is a positive integer. Received: {rank!r}"
            )
        self.lora_rank, self.lora_alpha = rank, rank if alpha is None else alpha

    def _adapt(self) -> None:
        if self.lora_rank:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def enable_lora(self, rank, lora_alpha=None, a_initializer="he_uniform", b_initializer="zeros") -> None:
        """Freeze the kernel and train a product of rank `rank` on top; once, and after `build`."""
        who = f"Layer {self.name!r} ({type(self).__name__})"
        if not self.adapted_name:
            raise ArgumentError(f"{who} has no kernel that can be adapted")
        kernel = getattr(self, self.adapted_name, None)
        if not isinstance(kernel, Variable):
            raise ArgumentError(f"{who}: cannot enable lora on a layer that isn't yet built: call `build` first")
        if self.lora_enabled:
            raise ArgumentError(f"{who}: lora is already enabled. This can only be done once per layer.")
        if getattr(self, f"{self.adapted_name}_constraint") is not None:
            raise ArgumentError(
                f"{who}: lora is incompatible with kernel constraints. Remove `{self.adapted_name}_constraint`."
            )
        own = {"dtype": "float32", "regularizer": getattr(self, f"{self.adapted_name}_regularizer")}
        a, b = (f"lora_{self.adapted_name}_{part}" for part in "ab")
        self._lora = (
            self.add_weight(name=a, shape=(*kernel.shape[:-1], rank), initializer=a_initializer, **own),
            self.add_weight(name=b, shape=(rank, kernel.shape[-1]), initializer=b_initializer, **own),
        )
        vars(self).update({a: self._lora[0], b: self._lora[1]})
        kernel.trainable = False
        self.lora_enabled, self.lora_rank, self.lora_alpha = True, rank, rank if lora_alpha is None else lora_alpha
        # how files hold this layer from now on
        vars(self).update(save_own_variables=self._save_merged, load_own_variables=self._load_merged)

    def _adapted(self) -> Any:
        """The kernel in use."""
        kernel = getattr(self, self.adapted_name)
        if not self.lora_enabled:
            return kernel
        return ops.cast(ops.add(kernel, self._on_top()), self.compute_dtype)

    def _on_top(self) -> Any:
        return ops.matmul(*self._lora) * (self.lora_alpha / self.lora_rank)

    def _save_merged(self, store) -> None:
        """Write the weights, the kernel as it is used."""
        kernel, own = getattr(self, self.adapted_name), self._without_lora()
        for position, variable in enumerate(own):
            value = ops.add(kernel, self._on_top()) if variable is kernel else variable
            store[str(position)] = np.asarray(ops.convert_to_numpy(value))

    def _load_merged(self, store) -> None:
        """Read what `_save_merged` wrote; nothing is left on top."""
        own = self._without_lora()
        if len(store) != len(own):
            raise ArgumentError(
                f"Layer '{self.name}' expected {len(own)} variables, but received {len(store)} during loading."
            )
        for position, variable in enumerate(own):
            variable.assign(np.asarray(store[str(position)]))
        for variable in self._lora:
            variable.assign(np.zeros(variable.shape, "float32"))

    def _without_lora(self) -> list[Variable]:
        return [v for v in self._own_variables() if not any(v is one for one in self._lora)]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if not self.lora_rank:
            config.pop("lora_rank", None)
            config.pop("lora_alpha", None)
        return config
