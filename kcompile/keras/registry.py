"""Decorators that register Keras pieces, for built-ins and plugins alike.

    @register                        the group follows from the base class
    class Swish(Layer): ...

    @register_activation("swish")    functions say their name, or take the function's own
    def silu(x): ...

Names are case-sensitive as in Keras; a class is also found by its snake-case name where Keras does so
(losses, optimizers, metrics, initializers, regularizers, constraints).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kcompile import plugins
from kcompile.errors import PluginError
from kcompile.keras.tracing.names import snake_case

_SNAKE_CASE_GROUPS = {"losses", "optimizers", "metrics", "initializers", "regularizers", "constraints"}


def registrar(group: str) -> Callable:
    """Return the decorator that registers in `group`: `@d`, `@d("Name")` or `@d("Name", "alias", ...)`."""

    def decorator(*given: Any, aliases: Iterable[str] = ()):
        if len(given) == 1 and not isinstance(given[0], str):
            return enter(given[0], given[0].__name__, tuple(aliases))
        labels = (*given, *aliases)
        return lambda obj: enter(obj, labels[0] if labels else obj.__name__, tuple(labels[1:]))

    def enter(obj: Any, name: str, others: tuple[str, ...]) -> Any:
        if isinstance(obj, type) and group in _SNAKE_CASE_GROUPS and snake_case(name) != name:
            others = (*others, snake_case(name))
        return plugins.register(group, name, obj, dict.fromkeys(o for o in others if o != name))

    decorator.__name__ = f"register_{group}"
    return decorator


register_layer = registrar("layers")
register_loss = registrar("losses")
register_optimizer = registrar("optimizers")
register_metric = registrar("metrics")
register_activation = registrar("activations")
register_initializer = registrar("initializers")
register_regularizer = registrar("regularizers")
register_constraint = registrar("constraints")
register_callback = registrar("callbacks")


def register(*given: Any, aliases: Iterable[str] = ()):
    """Register a class in the group of its base class (which says `plugin_group = "layers"`)."""

    def enter(obj: Any, labels: tuple[str, ...]) -> Any:
        group = getattr(obj, "plugin_group", None)
        if group is None:
            raise PluginError(
                f"@register does not know what {obj!r} is: derive from Layer, Loss, Optimizer, Metric, ... "
                "or use register_layer, register_loss, ..."
            )
        return registrar(group)(*(labels or (obj.__name__,)), aliases=aliases)(obj)

    if len(given) == 1 and not isinstance(given[0], str):
        return enter(given[0], ())
    return lambda obj: enter(obj, tuple(given))
