"""Optimizer: how weights move along their gradients.

A built-in optimizer is two things: the slots it keeps per weight, and a pure function
`update(w, g, slots, lr, step)` without loop or assignment. While `elementwise` holds, training calls it
once on the whole arena of weights (one flat loop in the program); otherwise, and outside a program, once
per variable. Optimizers written the Keras way (`build`, `update_step`, `assign`) work as they are.

The order of one step: unscale, clip, decay, update, constraints, averages, iterations + 1.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kcompile import autodiff, plugins
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.ir import op as op_table
from kcompile.keras import ops
from kcompile.keras.optimizers import schedules
from kcompile.keras.optimizers.clipping import clipped
from kcompile.keras.optimizers.state import OptimizerState
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.scope import current_scope, unwrap
from kcompile.keras.tracing.trace import trace
from kcompile.keras.tracing.variable import Variable
from kcompile.runtime.interpreted import InterpretedProgram


class Slots:
    """The values an optimizer keeps for one weight (or for a whole arena), by name: `slots.momentum`."""

    def __init__(self, **values):
        vars(self).update(values)

    def __repr__(self) -> str:
        return f"Slots({', '.join(vars(self))})"


@dataclass(frozen=True)
class FlatWeights:
    """An arena of weights and, by slot name, the arenas of the same layout that hold its slots."""

    weights: VariableArena
    slots: dict[str, VariableArena]


class Optimizer(OptimizerState):
    """Base class of optimizers.

    Args:
        learning_rate: a number, a `LearningRateSchedule`, or a function without arguments made of ops.
        weight_decay: share of the weight, times the rate, taken off before each update.
        clipnorm, clipvalue, global_clipnorm: at most one; bound each gradient's norm, each element, or the
            norm of all gradients together.
        use_ema, ema_momentum, ema_overwrite_frequency: keep a moving average of the weights.
        loss_scale_factor: gradients are those of a loss multiplied by it.
        gradient_accumulation_steps: move the weights only every so many steps, by the mean of their gradients.
        name: by default made from the class.
        lr: older name of learning_rate. decay: older argument, rate / (1 + decay * iterations).

    A subclass states `slots` (names) and `update`; `elementwise = False` if it looks at a weight's shape.
    """

    plugin_group = "optimizers"
    elementwise = True

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        learning_rate = kwargs.pop("lr", learning_rate)
        self.decay = kwargs.pop("decay", None) or 0.0
        for accepted in ("gradient_aggregator", "gradient_transformers", "jit_compile"):
            if kwargs.pop(accepted, None) not in (None, True, False):
                raise NotSupportedError(f"{type(self).__name__}({accepted}=...) is missing from kcompile.")
        if kwargs:
            raise ArgumentError(f"{type(self).__name__}: argument(s) not recognized: {kwargs}")
        if gradient_accumulation_steps and not gradient_accumulation_steps >= 2:
            raise ArgumentError(
                "`gradient_accumulation_steps` must be an integer >= 2. Received: "
                f"gradient_accumulation_steps={gradient_accumulation_steps}"
            )
        if sum(limit is not None for limit in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ArgumentError(
                "Only one of `clipnorm`, `clipvalue` and `global_clipnorm` can be set. Received: "
                f"clipnorm={clipnorm}, clipvalue={clipvalue}, global_clipnorm={global_clipnorm}"
            )
        if use_ema and not 0 <= ema_momentum <= 1:
            raise ArgumentError(f"`ema_momentum` must be in the range [0, 1]. Received: ema_momentum={ema_momentum}")
        self.name = name or auto_name(type(self).__name__)
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = loss_scale_factor
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self._undecayed: set[int] = set()
        self._undecayed_names: list[str] = []
        self._begin(learning_rate)

    def flat_weights(self, weights: VariableArena) -> FlatWeights | None:
        """Move the slots of an arena's weights into arenas of the same layout; None if updates are per variable."""
        if not self.is_flat or any(id(v) not in self._index for v in weights.variables):
            return None
        arenas = {}
        for slot, variables in self._slot_variables.items():
            held = [variables[self._index[id(v)]] for v in weights.variables]
            owner = held[0]._arena
            if owner is None or not owner.holds(held):
                owner = VariableArena(f"{self.name}_{slot}", held, trainable=False)
            arenas[slot] = owner
        return FlatWeights(weights, arenas)

    @property
    def is_flat(self) -> bool:
        """True if whole arenas can be updated at once."""
        decays_all = not self.weight_decay or not (self._undecayed or self._undecayed_names)
        return self.elementwise and decays_all and type(self).update_step is Optimizer.update_step

    # updating --------------------------------------------------------------------------------------------

    def update(self, w, g, slots: Slots, lr, step) -> tuple[Any, Slots]:
        """Return the new weight and its new slots.

        Shapes: w, g and every slot alike; lr and step scalars of the same dtype, step counted from 1.
        """
        raise NotSupportedError(f"{type(self).__name__} must implement `update` (or, as in Keras, `update_step`).")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """Move one variable; optimizers written the Keras way override this and call `assign`."""
        slots = Slots(**{n: self._slot_variables[n][self._index[id(variable)]].value for n in self._slot_variables})
        rate, step = self._scalars(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        new, after = self.update(variable.value, gradient, slots, rate, step)
        self.assign(variable, new)
        for name, value in vars(after).items():
            self.assign(self._slot_variables[name][self._index[id(variable)]], value)

    def begin_step(self) -> None:
        """Called once before the weights of a step move; state shared by all of them changes here."""

    def _scalars(self, learning_rate, dtype):
        return ops.cast(learning_rate, dtype), ops.cast(self._updates() + 1, dtype)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]], name=None, **kwargs) -> Variable:
        """Make one update from (gradient, variable) pairs; returns `iterations`."""
        pairs = list(grads_and_vars)
        if pairs:
            self.apply([g for g, _ in pairs], [v for _, v in pairs])
        return self._iterations

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[Variable] | None = None,
        flat: Sequence[FlatWeights] | None = None,
    ) -> None:
        """Make one update.

        Args:
            grads: one per variable; None leaves the variable alone.
            trainable_variables: by default those the optimizer was built with.
            flat: arenas whose variables are all among them, each is updated at once; by default those of the trace.
        """
        grads = list(grads)
        if not grads:
            return
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if not self.built:
            if trainable_variables is None:
                raise ArgumentError(
                    "When passing `grads` without `variables`, the optimizer must already be built on a list of "
                    "variables. Call `optimizer.build(trainable_variables)` first."
                )
            self.build(variables)
            self.built = True
        self._check_known(variables)
        if len(grads) != len(variables):
            raise ArgumentError(f"received {len(grads)} gradients for {len(variables)} variables")
        grads, variables = _without_none(grads, variables)
        flat = self._flat_in_trace(variables) if flat is None else flat
        if self.loss_scale_factor is not None:
            grads = [g / self.loss_scale_factor for g in grads]
        if self.gradient_accumulation_steps:
            self._accumulate(grads, variables, flat)
        else:
            self._move(grads, variables, flat)
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable.value))
        if self.use_ema:
            self._average(variables)
        self._iterations.assign_add(1)

    def _flat_in_trace(self, variables: list[Variable]) -> list[FlatWeights]:
        """The arenas of the trace in progress that hold only these; the trace remembers who moved what."""
        scope = current_scope()
        if scope is None or scope.abstract:
            return []
        scope.updates.append((self, variables))
        moved = {id(v) for v in variables}
        inside = [a for a in scope.arenas if a.trainable and all(id(v) in moved for v in a.variables)]
        return [f for f in map(self.flat_weights, inside) if f is not None]

    def _move(self, grads, variables, flat) -> None:
        grads = clipped(grads, self.clipnorm, self.global_clipnorm, self.clipvalue)
        rate = self._current_rate()
        self.begin_step()
        self._update_all(grads, variables, rate, flat)

    def _accumulate(self, grads, variables, flat) -> None:
        """Add to the totals; every so many steps move by their mean and start over."""
        steps = self.gradient_accumulation_steps
        is_update = ops.equal(ops.mod(self._iterations.value + 1, steps), 0)
        held = [self._accumulated[self._index[id(v)]] for v in variables]
        totals = [ops.cast(g, a.dtype) + a.value for g, a in zip(grads, held)]
        means = [t / steps for t in totals]
        self.only_if(is_update, variables, flat, lambda: self._move(means, variables, flat))
        for accumulated, total in zip(held, totals):
            accumulated.assign(ops.where(is_update, ops.zeros_like(total), total))

    def only_if(self, condition, variables, flat, move: Callable[[], None]) -> None:
        """Run `move` and keep what it did to weights and state only where `condition` holds.

        There are no branches in a program: both values exist, and a selection fused into the update keeps one.
        """
        owners: list[Any] = [a for f in flat for a in (f.weights, *f.slots.values())] if self.is_flat else []
        inside = {id(v) for owner in owners for v in owner.variables}
        owners += [v for v in (*variables, *self.variables) if id(v) not in inside]
        before = [owner.value for owner in owners]
        move()
        for owner, old in zip(owners, before):
            new = owner.value
            if new is not old:
                owner.assign(ops.where(condition, new, old))

    def _update_all(self, grads, variables, rate, flat) -> None:
        gradient_of = {id(v): g for v, g in zip(variables, grads)}
        for part in flat if self.is_flat else ():
            if any(id(v) not in gradient_of for v in part.weights.variables):
                continue
            self._update_arena(part, [gradient_of.pop(id(v)) for v in part.weights.variables], rate)
        for variable in variables:
            if id(variable) not in gradient_of:
                continue
            decay = self._decay_of(variable)
            if decay:
                step = ops.cast(rate, variable.dtype) * decay
                variable.assign(variable.value - variable.value * step)
            self.update_step(gradient_of[id(variable)], variable, rate)

    def _update_arena(self, part: FlatWeights, grads, rate) -> None:
        arena = part.weights
        pieces = [unwrap(ops.reshape(ops.cast(g, arena.dtype), (-1,))) for g in grads]
        g = op_table.get("pack")(*pieces, offsets=tuple(arena.offsets), size=arena.size)
        rate, step = self._scalars(rate, arena.dtype)
        w = arena.value
        if self.weight_decay:
            w = w - w * (rate * self.weight_decay)
        slots = Slots(**{n: a.value for n, a in part.slots.items()})
        new, after = self.update(w, g, slots, rate, step)
        arena.assign(new)
        for name, value in vars(after).items():
            part.slots[name].assign(value)

    def assign(self, variable: Variable, value: Any) -> None:
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        variable.assign_sub(value)

    # clipping, decay, averages -----------------------------------------------------------------------------

    def exclude_from_weight_decay(self, var_list=None, var_names=None) -> None:
        """Leave these variables, or those whose path contains one of the names, out of weight decay."""
        self._undecayed |= {id(v) for v in var_list or ()}
        self._undecayed_names += list(var_names or ())

    def decay_of(self, variable: Variable) -> float | None:
        """Return the weight decay of a variable that is not excluded from it."""
        return self.weight_decay

    def _decay_of(self, variable: Variable) -> float | None:
        is_excluded = id(variable) in self._undecayed or any(n in variable.path for n in self._undecayed_names)
        return None if is_excluded else self.decay_of(variable)

    def _average(self, variables) -> None:
        updates = self._updates()
        first = ops.equal(updates, 0)
        momentum = ops.where(first, 0.0, self.ema_momentum)
        overwrite = None
        if self.ema_overwrite_frequency:
            overwrite = ops.equal(ops.mod(updates + 1, self.ema_overwrite_frequency), 0)
        for variable in variables:
            average = self._averages[self._index[id(variable)]]
            new = momentum * average.value + (1.0 - momentum) * variable.value
            average.assign(new)
            if overwrite is not None:
                variable.assign(ops.where(overwrite, new, variable.value))

    def finalize_variable_values(self, var_list) -> None:
        """Replace the weights by their moving averages (end of `fit`), if these are kept."""
        if self.use_ema:
            for variable in var_list:
                variable.assign(self._averages[self._index[id(variable)]].value)

    def scale_loss(self, loss):
        """Return the loss that gradients are taken of."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Return (weights, state) after an update of the values given; what the optimizer holds stays as it is."""
        if not self.built:
            raise ArgumentError(
                f"To call `stateless_apply`, {type(self).__name__} must be built. "
                "You can build it via `optimizer.build(trainable_variables)`."
            )
        weights, state = list(self._trainable_variables), self.variables
        for given, held, what in ((trainable_variables, weights, "weights"), (optimizer_variables, state, "state")):
            if len(given) != len(held):
                raise ArgumentError(f"stateless_apply: received {len(given)} values for {len(held)} arrays of {what}")
        held = [*weights, *state]
        before = [v.value for v in held]
        try:
            for variable, value in zip(held, [*trainable_variables, *optimizer_variables]):
                variable.assign(value)
            self.apply(grads, weights)
            return [v.value for v in weights], [v.value for v in state]
        finally:
            for variable, value in zip(held, before):
                variable.assign(value)

    # older and further ways in -------------------------------------------------------------------------------

    def get_gradients(self, loss: Callable[[], Any], params: Sequence[Variable]) -> list[Any]:
        """Return the gradients of `loss()` with respect to variables."""

        def gradients(_):
            return autodiff.grad(unwrap(ops.sum(loss())), [v.value for v in params])

        traced = trace(gradients, {}, name="gradients")
        found = InterpretedProgram(traced.graph).run({}, traced.arrays())
        return [ops.convert_to_tensor(g) for g in traced.pack(found)]

    def minimize(self, loss: Callable[[], Any], var_list: Sequence[Variable], tape=None, **kwargs) -> Variable:
        """Make one update that lowers `loss()`, a function without arguments written with keras.ops."""
        if not callable(loss):
            raise ArgumentError(
                "`minimize` expects `loss` as a function without arguments; a number carries no gradient here. "
                f"Received: {loss!r}"
            )
        variables = list(var_list() if callable(var_list) else var_list)
        return self.apply_gradients(zip(self.get_gradients(loss, variables), variables))

    # config ----------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names: list[str] = []
        for cls in type(self).__mro__:
            if "__init__" in vars(cls) and cls is not object:
                parameters = inspect.signature(cls.__init__).parameters.values()
                names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        kept = [n for n in dict.fromkeys(names) if n not in ("self", "learning_rate") and hasattr(self, n)]
        config = {n: getattr(self, n) for n in kept}
        if self.decay:
            config["decay"] = self.decay
        return {"name": config.pop("name"), "learning_rate": self._rate_config(), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Optimizer:
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = schedules.deserialize(config["learning_rate"], custom_objects)
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def register_optimizer(cls: type[Optimizer]) -> type[Optimizer]:
    """Enter an optimizer class under its name and the name in lower case."""
    plugins.register("optimizers", cls.__name__, cls, aliases=(cls.__name__.lower(),))
    return cls


def _without_none(grads, variables):
    if all(g is not None for g in grads):
        return grads, variables
    kept = [(g, v) for g, v in zip(grads, variables) if g is not None]
    missing = [v.path for g, v in zip(grads, variables) if g is None]
    if not kept:
        raise ArgumentError("No gradients provided for any variable.")
    warnings.warn(f"Gradients do not exist for variables {missing} when minimizing the loss.", stacklevel=3)
    return [g for g, _ in kept], [v for _, v in kept]
