"""Config: a dict whose keys are attributes, until it is frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kcompile.errors import ArgumentError, suggestion


class Config:
    """Settings by name, as attributes and as items.

    >>> settings = Config(rate=0.1)
    >>> settings.steps = 5
    >>> settings["steps"], settings.rate
    (5, 0.1)
    """

    def __init__(self, **kwargs):
        vars(self).update(_values=dict(kwargs), _frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether settings may not change."""
        return self._frozen

    def freeze(self) -> None:
        """Allow no changes from here on."""
        vars(self)["_frozen"] = True

    def unfreeze(self) -> None:
        """Allow changes again."""
        vars(self)["_frozen"] = False

    def _changed(self) -> dict[str, Any]:
        if self._frozen:
            raise ArgumentError("Cannot mutate attribute(s) because the config is frozen.")
        return self._values

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of the settings."""
        return dict(self._values)

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(self._values)

    def keys(self):
        return self._values.keys()

    def values(self):
        return self._values.values()

    def items(self):
        return self._values.items()

    def get(self, keyname: str, value: Any = None) -> Any:
        return self._values.get(keyname, value)

    def pop(self, *args):
        return self._changed().pop(*args)

    def update(self, *args, **kwargs) -> None:
        self._changed().update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._values:
            raise AttributeError(f"Unknown attribute: '{name}'.{suggestion(name, self._values)}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._changed()[name] = value

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, item: Any) -> None:
        self._changed()[key] = item

    def __delitem__(self, key: str) -> None:
        del self._changed()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, item: str) -> bool:
        return item in self._values

    def __repr__(self) -> str:
        return f"<Config {self._values}>"
