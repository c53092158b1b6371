"""The registry: names, suggestions, clashes, and plugins that fail to load."""

import importlib.metadata
import sys
import types
import warnings
from pathlib import Path

import pytest

from kcompile import plugins
from kcompile.errors import PluginError, UnknownNameError


@pytest.fixture
def table(monkeypatch):
    """A registry without entries, of which nothing leaks out."""
    monkeypatch.setattr(plugins, "_entries", {g: {} for g in plugins.GROUPS})
    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr(plugins, "_modules", {})
    monkeypatch.setattr(plugins, "BUILTIN_MODULES", {})
    return plugins


def offer(monkeypatch, *points):
    """Pretend that these (distribution, entry point name, module) are installed, in group kcompile.layers."""

    class Point:
        def __init__(self, distribution, name, module):
            self.dist, self.name, self.module = types.SimpleNamespace(name=distribution), name, module

    found = [Point(*p) for p in points]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found if group == "kcompile.layers" else [])


def module_of(monkeypatch, name, body):
    """Make an importable module that runs `body(module)` when imported."""

    class Finder:
        def find_spec(self, wanted, path=None, target=None):
            if wanted != name:
                return None
            import importlib.machinery

            return importlib.machinery.ModuleSpec(wanted, self)

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            body(module)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, name, raising=False)


def layer_class(name, module):
    return type(name, (), {"__module__": module})


def test_get_suggests_the_closest_name(table):
    table.register("layers", "Dense", layer_class("Dense", "kcompile.keras.layers.core"))
    with pytest.raises(UnknownNameError, match=r"Unknown layer: 'Dens'. Did you mean 'Dense'"):
        table.get("layers", "Dens")


def test_unknown_group(table):
    with pytest.raises(UnknownNameError, match="Did you mean 'layers'"):
        table.get("layer", "Dense")


def test_aliases_name_the_same_object(table):
    cls = layer_class("MaxPooling2D", "kcompile.keras.layers.pooling")
    table.register("layers", "MaxPooling2D", cls, aliases=("MaxPool2D",))
    assert table.get("layers", "MaxPool2D") is cls
    assert table.names("layers", aliases=False) == ["MaxPooling2D"]


def test_same_definition_may_be_registered_again(table):
    table.register("layers", "Mine", layer_class("Mine", "__main__"))
    newer = layer_class("Mine", "__main__")
    table.register("layers", "Mine", newer)
    assert table.get("layers", "Mine") is newer


def test_two_distributions_with_one_name(table, monkeypatch):
    def swish_of(module_name):
        def body(module):
            table.register("layers", "Swish", layer_class("Swish", module_name))

        module_of(monkeypatch, module_name, body)

    swish_of("first_swish")
    swish_of("second_swish")
    offer(monkeypatch, ("first-package", "swish", "first_swish"), ("second-package", "swish", "second_swish"))
    with pytest.raises(PluginError, match=r"'Swish'.*first-package.*second-package"):
        table.get("layers", "Swish")


def test_a_broken_plugin_costs_one_warning(table, monkeypatch):
    def breaks(module):
        raise ZeroDivisionError("oops")

    module_of(monkeypatch, "broken_plugin", breaks)
    module_of(
        monkeypatch, "good_plugin", lambda m: table.register("layers", "Good", layer_class("Good", "good_plugin"))
    )
    offer(monkeypatch, ("broken-package", "bad", "broken_plugin"), ("good-package", "fine", "good_plugin"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert table.names("layers") == ["Good"]
        assert table.names("layers") == ["Good"]
    (only,) = caught
    for part in ("broken-package", "'bad'", "broken_plugin", "ZeroDivisionError: oops"):
        assert part in str(only.message)
    (entry,) = table.entries("layers")
    assert entry.distribution == "good-package"


def test_pyproject_declares_what_a_source_tree_falls_back_to():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    for group, module in plugins.BUILTIN_MODULES.items():
        assert f'[project.entry-points."kcompile.{group}"]\nbuiltin = "{module}"' in text


def test_built_in_layers_come_through_the_door():
    assert plugins.get("layers", "Dense").__name__ == "Dense"
    assert {e.distribution for e in plugins.entries("activations")} == {"kcompile"}
