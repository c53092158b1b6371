"""The public API: `from kcompile import keras`."""
