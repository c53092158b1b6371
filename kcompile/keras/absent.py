"""Names of Keras's API that are missing here, each with the reason an error gives."""

from __future__ import annotations

from kcompile.errors import MissingNameError

INTEGERS = "integer weights are missing; for less memory traffic use the dtype policy 'mixed_bfloat16'"
_OTHER = "it runs models of another framework, and a program here holds none of its operations"
_MESH = "a program runs on one CPU and its cores (KCOMPILE_NUM_THREADS); there is nothing to distribute over"
_PLOT = "galleries need a plotting library; draw_bounding_boxes and draw_segmentation_masks return the images"

# module -> {names: reason}
_TABLE = {
    "": {
        "Function Operation": "parts of Keras's own tracing; `keras.Model` and `keras.Layer` stand for them",
        "StatelessScope SymbolicScope": "parts of Keras's own tracing; there are `stateless_call`, `stateless_apply`",
        "RematScope": "the planner decides what is computed again; `keras.remat` marks a function and changes nothing",
        "Quantizer quantizers": INTEGERS,
        "distillation": "a Model with a `train_step` or `compute_loss` of its own trains on a teacher's outputs",
        "device": "there is one device, the CPU",
        "export": "`Model.export` writes a shared library with a C header",
    },
    "layers": {
        "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper": _OTHER,
        "DenseFeatures SequenceFeatures": "feature columns ended with tf.keras 2; preprocessing layers do their work",
        "RandomHeight RandomWidth": "results of random size need a program for each size; RandomZoom keeps it",
    },
    "callbacks": {"OrbaxCheckpoint": "checkpoints of JAX's library; ModelCheckpoint and BackupAndRestore write files"},
    "saving": {"KerasFileEditor": "not written yet: a .keras file is a zip archive with an HDF5 file of weights"},
    "config": {"max_steps_per_epoch set_max_steps_per_epoch": "give `fit` its `steps_per_epoch`"},
    "dtype_policies": {
        "AWQDTypePolicy GPTQDTypePolicy Int4DTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy": INTEGERS,
        "DTypePolicyMap": "give each layer its `dtype`",
    },
    "applications": {
        "NASNetLarge NASNetMobile nasnet": "not written yet",
    },
    "distribution": {
        "DataParallel DeviceMesh LayoutMap ModelParallel TensorLayout distribute_tensor initialize": _MESH,
    },
    "visualization": {
        "plot_bounding_box_gallery plot_image_gallery plot_segmentation_mask_gallery": _PLOT,
    },
}
ABSENT = {
    (f"{module}.{name}" if module else name): reason
    for module, rows in _TABLE.items()
    for names, reason in rows.items()
    for name in names.split()
}


def missing(module: str, name: str, hint: str = "") -> MissingNameError:
    """Return the error for a name that `keras.<module>` does not have."""
    path = f"{module}.{name}" if module else name
    reason = ABSENT.get(path)
    return MissingNameError(f"keras.{path} is missing from kcompile{f': {reason}.' if reason else '.'}{hint}")
