"""Imports go down, never up: the shortest description of who may know whom."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kcompile"

# from the ground up; a module may import its own floor and the ones below
FLOORS = [
    (
        "kcompile.flags",
        "kcompile.forks",
        "kcompile.errors",
        "kcompile.plugins",
        "kcompile.target",
        "kcompile.__version__",
    ),
    ("kcompile.ir", "kcompile.forms", "kcompile.autodiff"),
    ("kcompile.ops",),
    ("kcompile.passes",),
    ("kcompile.codegen",),
    ("kcompile.runtime", "kcompile.observe"),
    ("kcompile.pipeline", "kcompile.ready", "kcompile.assemble", "kcompile.inspection"),
    ("kcompile.export",),
    ("kcompile.keras.tracing", "kcompile.keras.settings", "kcompile.keras.dtype_policies", "kcompile.keras.absent"),
    ("kcompile.keras",),
    ("kcompile.testing", "kcompile.cli"),
]

# imports inside functions: only of what loads one of these packages, which a script may never need ...
HEAVY = ("llvmlite", "h5py", "networkx", "PIL", "sklearn")
# ... and (module, what it imports) where a class that users hold leads to files that are built on it
LATE = {
    ("kcompile.keras.models.model", "kcompile.keras.models.functional"): "Model(inputs, outputs) makes a subclass",
    ("kcompile.keras.models.shortcuts", "kcompile.keras.models.summary"): "a method of models",
    ("kcompile.keras.models.shortcuts", "kcompile.keras.saving"): "methods of models",
    ("kcompile.keras.models.shortcuts", "kcompile.keras.saving.pickled"): "a method of models",
    ("kcompile.keras.models", "kcompile.keras.saving"): "keras.models.load_model, as Keras has it",
    ("kcompile.keras.utils", "kcompile.keras.models.feature_space"): "keras.utils.FeatureSpace, as Keras has it",
}

# who alone may import a heavy package
OWNERS = {
    "llvmlite": ("kcompile.codegen", "kcompile.runtime.link"),
    "h5py": ("kcompile.keras.hdf5",),
    "networkx": ("kcompile.ir.graph", "kcompile.passes"),
}


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def import_statements(path: Path, module: str) -> list[tuple[str, bool]]:
    """Modules that a module imports, and whether inside a function; not those for type hints alone."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.extend((a.name, late) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            names = [f"{base}.{a.name}" for a in node.names]
            found.extend((name if name in modules() else base, late) for name in names)
        elif isinstance(node, ast.stmt | ast.Module | ast.ExceptHandler | ast.match_case):
            for inner in ast.iter_child_nodes(node):
                visit(inner, late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(tree, False)
    return found


def imports(path: Path, module: str) -> set[str]:
    return {name for name, _ in import_statements(path, module)}


@functools.cache
def loaded_by(module: str) -> set[str]:
    """What importing a module loads, directly or not: modules of the package, with their packages, and others."""
    seen: set[str] = set()
    stack = [module]
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in modules():
            stack += [inner for inner, late in import_statements(modules()[name], name) if not late]
            stack.append(name.rpartition(".")[0])
    return seen


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


def test_imports_stand_at_the_top():
    """Inside functions only what is heavy, or listed with its reason; so circles cannot hide there."""
    found = {
        (module, name)
        for module, path in modules().items()
        for name, late in import_statements(path, module)
        if late and name in modules() and not any(n.split(".")[0] in HEAVY for n in loaded_by(name))
    }
    assert found == set(LATE)


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


def test_files_that_texts_name_are_there():
    """Those in the docstrings of folders, in other docstrings and comments with their folder, and in the map."""
    texts = {path: path.read_text(encoding="utf-8") for path in (*modules().values(), PACKAGE / "README.md")}
    absent = []
    for path, text in texts.items():
        named = set(re.findall(r"(?<![\w/.])(?:[a-z_]\w*/)+\w+\.py\b", text))
        if path.name == "__init__.py":
            named |= set(re.findall(r"(?<![\w/.])[a-z]\w*\.py\b", ast.get_docstring(ast.parse(text)) or ""))
        roots = (path.parent, PACKAGE, PACKAGE / "keras", PACKAGE.parent)
        absent += [f"{path.relative_to(PACKAGE)}: {n}" for n in named if not any((r / n).exists() for r in roots)]
    assert not absent


def test_the_front_loads_what_it_needs_and_no_more():
    """LLVM comes with the first program, networkx with the verifier, the network with files that are fetched."""
    late = ("llvmlite", "h5py", "networkx", "importlib.metadata", "urllib.request", "ssl", "multiprocessing", "logging")
    code = f"import sys; from kcompile import keras; keras.Sequential; print([m for m in {late} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert loaded.stdout.strip() == "[]"
