"""kcompile: lowers Keras models to optimised native CPU code.

`from kcompile import keras` is the whole public surface; it is loaded on first use so that
`import kcompile` stays cheap.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "keras":
        import importlib  # lazily: `import kcompile` must not load the front

        return importlib.import_module("kcompile.keras")
    raise AttributeError(f"module 'kcompile' has no attribute {name!r}")
