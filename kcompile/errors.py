"""Every exception class kcompile raises.

An error speaks to the person who can mend it: what was wrong, where (layer, script line), what to
do. The classes derive from what Keras raises (`ValueError`, `TypeError`), so scripts that catch
those keep working.
"""

from __future__ import annotations


class KcompileError(Exception):
    """Base of everything raised on purpose."""


class ShapeError(KcompileError, ValueError):
    """Operands whose shapes do not fit an op or a layer."""


class DTypeError(KcompileError, TypeError):
    """Operands whose dtypes an op does not take."""


class ArgumentError(KcompileError, ValueError):
    """An argument with an unusable value; names the argument, what was expected and received."""


class UnknownNameError(KcompileError, ValueError):
    """A string that names no known layer, loss, metric, ...; carries a suggestion."""


class NotSupportedError(KcompileError, NotImplementedError):
    """A thing that is missing from kcompile; names it."""


class MissingNameError(NotSupportedError, AttributeError):
    """A name of Keras's API that a module here does not have."""


class LoweringError(KcompileError, RuntimeError):
    """A graph holds nodes with no native lowering; lists all of them."""


class SavedFileError(KcompileError, ValueError):
    """A file that is damaged, hostile, or not of the expected kind."""


class PluginError(KcompileError, RuntimeError):
    """Two packages claim one name, or a plugin breaks its contract."""


class LinkerError(KcompileError, RuntimeError):
    """No usable linker, or the linker failed; carries its output."""


class CompilerBug(KcompileError, AssertionError):
    """A broken invariant inside the compiler: names the stage and how to dump it."""


def suggestion(name: str, known) -> str:
    """Return `" Did you mean 'x'?"` for the closest known name, or an empty string."""
    import difflib  # only on the error path

    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
