"""Methods of a model whose work is done by files that are built on models: showing, saving, exporting, profiling.

Each imports its file when it is called: that file knows models, and most bring h5py or the compiler.
"""

from __future__ import annotations


class Shortcuts:
    """`model.save(path)` for `keras.saving.save_model(model, path)`, and the like."""

    # looking --------------------------------------------------------------------------------------

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
    ) -> None:
        """Print the table of layers, output shapes and parameter counts."""
        from kcompile.keras.models.summary import print_summary

        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def profile(self, x, y=None, batch_size=32):
        """Time each kernel of one step on the first `batch_size` rows; returns a Profile, `print` it.

        With `y` it is the training step (the test step if there is no optimizer), without it prediction.
        Weights, optimizer and metrics stay as they are. `profile(...).html()` is a page with the timeline.
        """
        from kcompile.keras.training.profiling import profile

        return profile(self, x, y, batch_size)

    def memory_plan(self, x=None, y=None):
        """What a step keeps in memory, by batch size, before it runs; returns a MemoryPlan, `print` it.

        `x`, `y`: a few rows, as for `fit`; without `y` the step is prediction. `memory_plan(...).picture(32)` draws
        the arena over time, `.largest_batch(limit_bytes)` says what fits.
        """
        from kcompile.keras.training.memory import memory_plan

        return memory_plan(self, x, y)

    # files ----------------------------------------------------------------------------------------

    def save(
        self,
        filepath,
        overwrite=True,
        include_optimizer=True,
        save_format=None,
        signatures=None,
        options=None,
        save_traces=True,
        **kwargs,
    ) -> None:
        """Save the model to `.keras`, `.h5` or a folder; see `keras.saving.save_model`."""
        from kcompile.keras.saving import save_model

        save_model(
            self, filepath, overwrite, include_optimizer, save_format, signatures, options, save_traces, **kwargs
        )

    def save_weights(self, filepath, overwrite=True, save_format=None) -> None:
        """Save the weights; see `keras.saving.save_weights`."""
        from kcompile.keras.saving import save_weights

        save_weights(self, filepath, overwrite, save_format)

    def load_weights(self, filepath, by_name=False, skip_mismatch=False, options=None) -> None:
        """Set the weights from a file; see `keras.saving.load_weights`."""
        from kcompile.keras.saving import load_weights

        load_weights(self, filepath, by_name, skip_mismatch, options)

    def __reduce__(self):  # pickles and copies hold what a saved file holds, and no compiled program
        from kcompile.keras.saving import pickled

        return pickled.reduce(self)

    def to_json(self, layout="keras3", **kwargs) -> str:
        """Return the structure as JSON, in the layout of Keras 3 or ("classic") of tf.keras 2."""
        from kcompile.keras.saving import model_to_json

        return model_to_json(self, layout, **kwargs)

    def to_yaml(self, **kwargs) -> str:
        """Return the structure as YAML (the text is also JSON)."""
        from kcompile.keras.saving import model_to_yaml

        return model_to_yaml(self, **kwargs)

    def export(self, filepath, **kwargs):
        """Write the model as a shared library with a C header; see `keras/models/exporting.py`."""
        from kcompile.keras.models.exporting import export_model

        return export_model(self, filepath, **kwargs)
