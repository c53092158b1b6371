"""Imports go down, never up: the shortest description of who may know whom."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kcompile"

# from the ground up; a module may import its own floor and the ones below
FLOORS = [
    ("kcompile.flags", "kcompile.errors", "kcompile.plugins", "kcompile.target", "kcompile.__version__"),
    ("kcompile.ir", "kcompile.forms", "kcompile.autodiff"),
    ("kcompile.ops",),
    ("kcompile.passes",),
    ("kcompile.codegen",),
    ("kcompile.runtime", "kcompile.observe"),
    ("kcompile.pipeline", "kcompile.assemble", "kcompile.inspection"),
    ("kcompile.export",),
    ("kcompile.keras.tracing", "kcompile.keras.config", "kcompile.keras.dtype_policies", "kcompile.keras.absent"),
    ("kcompile.keras",),
    ("kcompile.testing", "kcompile.cli"),
]

# who alone may import a heavy package
OWNERS = {
    "llvmlite": ("kcompile.codegen", "kcompile.runtime.link"),
    "h5py": ("kcompile.keras.saving",),
    "networkx": ("kcompile.ir.graph", "kcompile.passes"),
}


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, module: str) -> set[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            known = modules()
            names |= {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
    return names


def floor(name: str) -> int | None:
    best = None
    for number, members in enumerate(FLOORS):
        for member in members:
            if (name == member or name.startswith(member + ".")) and (best is None or len(member) > best[0]):
                best = (len(member), number)
    return None if best is None else best[1]


@pytest.mark.parametrize("module", [m for m in modules() if m != "kcompile"])
def test_imports_go_down(module):
    own = floor(module)
    assert own is not None, f"{module} has no floor: enter it in FLOORS"
    for name in imports(modules()[module], module):
        if name.startswith("kcompile."):
            other = floor(name)
            assert other is None or other <= own, f"{module} (floor {own}) imports {name} (floor {other})"


@pytest.mark.parametrize("heavy", OWNERS)
def test_heavy_packages_have_one_owner(heavy):
    for module, path in modules().items():
        used = any(n == heavy or n.startswith(heavy + ".") for n in imports(path, module))
        allowed = any(module == o or module.startswith(o + ".") for o in OWNERS[heavy])
        assert not used or allowed, f"{module} imports {heavy}"


def test_codegen_knows_no_ops():
    for module, path in modules().items():
        if module.startswith("kcompile.codegen"):
            forbidden = {n for n in imports(path, module) if n.startswith(("kcompile.ops", "kcompile.passes"))}
            assert not forbidden, f"{module} imports {forbidden}"


def test_only_the_front_knows_keras():
    for module, path in modules().items():
        if not module.startswith(("kcompile.keras", "kcompile.cli", "kcompile.testing")) and module != "kcompile":
            front = {n for n in imports(path, module) if n.startswith("kcompile.keras")}
            assert not front, f"{module} imports {front}"


def test_the_front_loads_what_it_needs_and_no_more():
    """LLVM comes with the first program, networkx with the verifier, the network with files that are fetched."""
    late = ("llvmlite", "h5py", "networkx", "importlib.metadata", "urllib.request", "ssl", "multiprocessing", "logging")
    code = f"import sys; from kcompile import keras; keras.Sequential; print([m for m in {late} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert loaded.stdout.strip() == "[]"
