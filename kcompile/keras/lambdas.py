"""Lambdas in configs: written as Keras writes them, known again to the process that wrote them.

Code in a file is never run. A config made by this process names its lambda by a token, and whoever builds from such
a config (`clone_model`, `from_config`, a copy, a file saved a moment ago) gets the very same function. Elsewhere the
token says nothing, and whoever loads passes the function in `custom_objects`.
"""

from __future__ import annotations

import base64
import json
import marshal
import uuid
from collections.abc import Callable
from typing import Any

_TOKEN = "_kcompile_token"
_known: dict[str, Callable] = {}  # tokens are unique among processes: a fork may write its own


def is_lambda(function: Any) -> bool:
    """True for functions without a name of their own."""
    return getattr(function, "__name__", None) == "<lambda>" and hasattr(function, "__code__")


def lambda_config(function: Callable) -> dict[str, Any]:
    """Return the entry of a lambda: Keras's, for readers that are told to run it, and our token."""
    token = vars(function).get(_TOKEN)
    if _known.get(token) is not function:  # functools.wraps copies the attribute
        token = uuid.uuid4().hex
        setattr(function, _TOKEN, token)
        _known[token] = function
    code = base64.encodebytes(marshal.dumps(function.__code__)).decode("ascii")
    defaults, closure = _surroundings(function)
    inner = {"code": code, "defaults": defaults, "closure": closure, "value": [code, defaults, closure]}
    return {"class_name": "__lambda__", "config": {**inner, "token": token}}


def known_lambda(config: Any) -> Callable | None:
    """Return the function whose entry this process wrote, or None."""
    inner = config.get("config") if isinstance(config, dict) and config.get("class_name") == "__lambda__" else None
    token = inner.get("token") if isinstance(inner, dict) else None
    return _known.get(token) if isinstance(token, str) else None


def _surroundings(function: Callable) -> tuple[Any, Any]:
    """Default values and what the function closes over, where JSON can say them; else None."""
    try:
        closure = [cell.cell_contents for cell in function.__closure__ or ()] or None
        json.dumps([function.__defaults__, closure])
    except (TypeError, ValueError):
        return None, None
    return function.__defaults__, closure
