"""Names -> objects, by group; entry points are loaded on first use and fail softly.

A group is a mapping such as "layers": {"Dense": <class Dense>, ...}. Built-in modules and third-party
packages come through one door: an entry point of group `kcompile.<group>` names a *module*, and
importing that module registers what it holds by decorator (see `kcompile.keras.registry`). The first
`get` or `names` of a group imports its modules: our own first, then the others in a fixed order.

A module that raises while loading costs one warning that names its distribution and entry point, and
nothing else. Two distributions that claim one name are an error that names both.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kcompile import forks
from kcompile.errors import PluginError, UnknownNameError, suggestion

GROUPS = (
    "layers",
    "losses",
    "optimizers",
    "metrics",
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "callbacks",
    "ops",
    "passes",
    "targets",
)

BUILTIN = "kcompile"  # the distribution name of our own entry points

# What pyproject.toml declares as `builtin` in each group; used when the package runs from a source
# tree without installed metadata. tests/test_plugins.py keeps the two in step.
BUILTIN_MODULES = {
    "layers": "kcompile.keras.layers",
    "losses": "kcompile.keras.losses",
    "optimizers": "kcompile.keras.optimizers",
    "metrics": "kcompile.keras.metrics",
    "activations": "kcompile.keras.activations",
    "initializers": "kcompile.keras.initializers",
    "regularizers": "kcompile.keras.regularizers",
    "constraints": "kcompile.keras.constraints",
    "callbacks": "kcompile.keras.callbacks",
    "ops": "kcompile.ops",
}


@dataclass(frozen=True)
class Entry:
    """One registered object: who brought it, and whether the name is an alias of another."""

    name: str
    obj: Any
    distribution: str
    is_alias: bool = False


_entries: dict[str, dict[str, Entry]] = {group: {} for group in GROUPS}
_loaded: set[str] = set()
_modules: dict[str, str] = {}  # module an entry point names -> its distribution
_lock = forks.rlock()
_loading: list[str] = []  # distributions whose module is being imported, innermost last


def register(group: str, name: str, obj: Any, aliases: Iterable[str] = ()) -> Any:
    """Enter `obj` under `name` (and `aliases`) in `group`; returns `obj`.

    Registering the same object again, or a newer definition of it from the same module (a notebook
    cell run twice), replaces the entry.

    Raises: PluginError naming both distributions if another one holds the name.
    """
    table = _table(group)
    distribution = _distribution_of(obj)
    for position, label in enumerate((name, *aliases)):
        with _lock:
            held = table.get(label)
            if held is not None and held.obj is not obj and not _same_definition(held.obj, obj):
                raise PluginError(
                    f"the name {label!r} in {group} is claimed twice: by {_where(held.obj)} "
                    f"(package {held.distribution}) and by {_where(obj)} (package {distribution}). "
                    "Rename one of them or uninstall one package."
                )
            table[label] = Entry(label, obj, distribution, is_alias=position > 0)
    return obj


def get(group: str, name: str) -> Any:
    """Return what is registered as `name` in `group`.

    Raises: UnknownNameError with the closest known name.
    """
    table = _table(group)
    found = table.get(name)
    if found is None:
        load(group)
        found = table.get(name)
    if found is None:
        raise UnknownNameError(
            f"Unknown {_singular(group)}: {name!r}.{suggestion(name, table)} "
            "One of your own: register it, or pass it in `custom_objects`. "
            f"Known: {', '.join(sorted(n for n, e in table.items() if not e.is_alias))}"
        )
    return found.obj


def find(group: str, name: str) -> Any | None:
    """Return what is registered as `name` in `group`, or None."""
    table = _table(group)
    if name not in table:
        load(group)
    return table[name].obj if name in table else None


def names(group: str, aliases: bool = True) -> list[str]:
    """Return the names known in `group`, sorted; with `aliases=False` one name per object."""
    load(group)
    return sorted(n for n, e in _table(group).items() if aliases or not e.is_alias)


def entries(group: str) -> list[Entry]:
    """Return the entries of `group`, sorted by name: for listings that show where a name comes from."""
    load(group)
    return [e for _, e in sorted(_table(group).items())]


def load(group: str) -> None:
    """Import the modules that the entry points of `kcompile.<group>` name, once per process."""
    _table(group)
    with _lock:
        if group in _loaded:
            return
        _loaded.add(group)
        for distribution, label, module in _modules_of(group):
            _load_module(group, distribution, label, module)


# finding and importing modules ------------------------------------------------------------------


def _modules_of(group: str) -> list[tuple[str, str, str]]:
    """(distribution, entry point name, module) of a group: ours first, others by package and name."""
    import importlib.metadata  # with the readers of e-mail headers; no built-in name needs it

    declared: list[tuple[str, str, str]] = []
    for point in importlib.metadata.entry_points(group=f"kcompile.{group}"):
        distribution = point.dist.name if point.dist is not None else point.module
        if distribution != BUILTIN:
            declared.append((distribution, point.name, point.module))
    own = BUILTIN_MODULES.get(group)
    return ([(BUILTIN, "builtin", own)] if own else []) + sorted(set(declared))


def _load_module(group: str, distribution: str, label: str, module: str) -> None:
    _modules.setdefault(module, distribution)
    _loading.append(distribution)
    try:
        importlib.import_module(module)
    except PluginError:
        raise  # a name clash: the message names both sides already
    except Exception as error:
        if distribution == BUILTIN:
            raise
        warnings.warn(
            f"kcompile plugin {distribution!r} (entry point {label!r} of kcompile.{group}, module {module}) "
            f"could not be loaded and is left out: {type(error).__name__}: {error}",
            stacklevel=2,
        )
    finally:
        _loading.pop()


def _table(group: str) -> dict[str, Entry]:
    try:
        return _entries[group]
    except KeyError:
        raise UnknownNameError(
            f"Unknown plugin group: {group!r}.{suggestion(group, GROUPS)} Known: {', '.join(GROUPS)}"
        ) from None


def _distribution_of(obj: Any) -> str:
    module = _module_name(obj)
    if module == "kcompile" or module.startswith("kcompile."):
        return BUILTIN
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        found = _modules.get(".".join(parts[:end]))
        if found is not None:
            return found
    return _loading[-1] if _loading and _loading[-1] != BUILTIN else module or "unknown"


def _module_name(obj: Any) -> str:
    return getattr(obj, "__module__", None) or type(obj).__module__


def _where(obj: Any) -> str:
    return f"{_module_name(obj)}.{getattr(obj, '__qualname__', type(obj).__qualname__)}"


def _same_definition(old: Any, new: Any) -> bool:
    return _where(old) == _where(new)


def _singular(group: str) -> str:
    return {"losses": "loss function", "activations": "activation function", "passes": "pass"}.get(
        group, group.rstrip("s")
    )
