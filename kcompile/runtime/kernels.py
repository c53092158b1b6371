"""Forms -> kernels with object code, from the disk cache where they are there.

look up     by the form's text: a hit needs neither emission nor LLVM
emit        LLVM IR of the forms that are missing
compile     object code of those, kept for next time; long lists by several processes, beginning while kernels
            are still being emitted, and going on while the program around them is put together
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kcompile.codegen import emit, stored
from kcompile.codegen.fingerprint import fingerprint
from kcompile.codegen.kernel import Kernel
from kcompile.forms.digest import canonical_text, digest
from kcompile.forms.records import Form
from kcompile.observe import Observer
from kcompile.runtime import cache
from kcompile.runtime.compilers import Compilers, helpers
from kcompile.target import Target


@dataclass(frozen=True)
class Made:
    """A kernel and its object file."""

    kernel: Kernel
    object_code: bytes
    is_new: bool  # False: it was in the disk cache


@dataclass(frozen=True)
class Work:
    """Kernels that are being compiled."""

    kernels: dict[Form, Kernel]
    finish: Callable[[], dict[Form, Made]]  # takes a share of what is left, waits for the rest


@contextmanager
def making(forms: Iterable[Form], target: Target, observer: Observer) -> Iterator[Work]:
    """A kernel for each distinct form, looked up or emitted; helpers compile while the block runs."""
    distinct = list(dict.fromkeys(forms))
    found = observer.stage("look up", _look_up, distinct, target)
    missing = [f for f in distinct if f not in found]

    def finish() -> dict[Form, Made]:
        made = dict(found)
        for form, compiled in zip(missing, observer.stage("LLVM", compilers.results)):
            cache.counters.compiles += 1
            kernel = kernels[form]
            cache.put(kernel_key(form, target), stored.to_bytes(kernel, compiled.object_code))
            made[form] = Made(kernel, compiled.object_code, True)
            observer.compiled(kernel.name, compiled.seconds, len(compiled.object_code))
        return {form: made[form] for form in distinct}

    with Compilers(target, helpers(len(missing))) as compilers:
        emitted = {form: _emit(form, target, compilers, observer) for form in missing}
        kernels = {form: emitted[form] if form in emitted else found[form].kernel for form in distinct}
        yield Work(kernels, finish)


def _emit(form: Form, target: Target, compilers: Compilers, observer: Observer) -> Kernel:
    name = kernel_name(form)
    kernel = observer.emitted(name, emit.emit, form, target, name)
    compilers.submit(kernel.ir_text)
    return kernel


def kernel_name(form: Form) -> str:
    """The symbol of a form's kernel."""
    return f"kc_{form.name}_{digest(form)}"


def kernel_key(form: Form, target: Target) -> str:
    """The name under which a form's kernel is kept."""
    return cache.key("\n".join((kernel_name(form), fingerprint(), canonical_text(form))), target)


def _look_up(forms: list[Form], target: Target) -> dict[Form, Made]:
    found: dict[Form, Made] = {}
    for form in forms:
        data = cache.get(kernel_key(form, target))
        if data is None:
            continue
        name = kernel_name(form)
        try:
            kernel, object_code = stored.from_bytes(data, name, _emits(form, target, name))
        except ValueError:
            cache.counters.damaged += 1  # whole, but not ours: compiled again and written over
            continue
        found[form] = Made(kernel, object_code, False)
    return found


def _emits(form: Form, target: Target, name: str):
    return lambda: emit.emit(form, target, name).ir_text
