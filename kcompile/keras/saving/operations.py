"""Functions of keras.ops in a model's config: our `FunctionCall` entries, and Keras's operation classes.

Keras names the class after the function (`expand_dims` -> `ExpandDims`) and keeps what is no operand in
the class's config; here the function is named, and the call holds every argument.
"""

from __future__ import annotations

import inspect
from typing import Any

from kcompile.keras.ops.function import PUBLIC
from kcompile.keras.serialization import get_registered_object
from kcompile.keras.tracing.names import snake_case

# parameters that stay in the call; all others are arguments of the class's constructor
_OPERANDS = frozenset(
    "x x1 x2 y xs a inputs kernel indices key target output query value bias mask scale start stop step fill_value "
    "weights condition constant_values operands rtol atol values updates start_indices variable data segment_ids "
    "depthwise_kernel pointwise_kernel images image1 image2 transform coordinates start_points end_points translation "
    "array b q sorted_sequence sequence_lengths target_length output_length targets predictions elems elements".split()
)
# ... except here, where they are the constructor's
_OPTIONS = {
    **dict.fromkeys(
        ("affine_transform", "map_coordinates", "perspective_transform", "resize", "unique"), ("fill_value",)
    ),
    "allclose": ("rtol", "atol"),
    "bincount": ("weights",),
    "trapezoid": ("x",),
}

# where Keras defines the class: keras.src.ops.numpy unless listed
_MODULES = {
    "nn": (
        "adaptive_average_pool adaptive_max_pool average_pool binary_crossentropy categorical_crossentropy celu conv "
        "conv_transpose ctc_decode ctc_loss depthwise_conv "
        "dot_product_attention elu gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid "
        "log_softmax max_pool moments multi_hot normalize one_hot psnr relu relu6 selu separable_conv sigmoid silu "
        "soft_shrink softmax softplus softsign sparse_categorical_crossentropy sparse_plus sparse_sigmoid sparsemax "
        "squareplus tanh_shrink threshold depth_to_space space_to_depth"
    ),
    "math": (
        "cdist erf erfc erfinv extract_sequences fft fft2 ifft2 in_top_k irfft istft logdet logsumexp rfft rsqrt "
        "segment_max segment_min segment_prod segment_sum stft top_k"
    ),
    "core": (
        "associative_scan cast cond convert_to_tensor fori_loop map saturate_cast scan scatter scatter_update slice "
        "slice_update stop_gradient switch unstack vectorized_map while_loop"
    ),
    "linalg": (
        "cholesky cholesky_inverse det eigh inv lstsq lu_factor matrix_rank norm pinv qr solve solve_triangular svd"
    ),
    "image": (
        "affine_transform crop_images extract_patches gaussian_blur hsv_to_rgb map_coordinates pad_images "
        "perspective_transform resize rgb_to_grayscale rgb_to_hsv scale_and_translate sobel_edges ssim"
    ),
}
_MODULE_OF = {function: module for module, functions in _MODULES.items() for function in functions.split()}
_CLASS_OF = {n: n.upper() for n in "psnr fft fft2 ifft2 rfft irfft stft istft svd ssim".split()}
_CLASS_OF |= {"allclose": "AllClose", "cdist": "CDist", "isin": "IsIn", "searchsorted": "SearchSorted"}
_CLASS_OF |= {"ctc_decode": "CTCDecode", "ctc_loss": "CTCLoss"}
_CLASS_OF |= {"hsv_to_rgb": "HSVToRGB", "rgb_to_grayscale": "RGBToGrayscale", "rgb_to_hsv": "RGBToHSV"}
_BY_SQUEEZED_NAME: dict[str, str] = {}


def is_operation(entry: dict[str, Any]) -> bool:
    """Whether an entry of a functional config is one of Keras's operations."""
    module = entry.get("module")
    if get_registered_object(entry["class_name"]) is not None:
        return False  # a custom layer of that name
    if module:
        return module.startswith("keras.src.ops.") and _function_of(entry["class_name"]) is not None
    # HDF5 files do not say the module; only layers say whether they are trainable
    unnamed = "inbound_nodes" in entry and "trainable" not in entry["config"] and entry["class_name"] != "FunctionCall"
    return unnamed and _function_of(entry["class_name"]) is not None


def _function_of(class_name: str) -> str | None:
    if not _BY_SQUEEZED_NAME:
        _BY_SQUEEZED_NAME.update((name.replace("_", ""), name) for name in PUBLIC)
    return _BY_SQUEEZED_NAME.get(snake_case(class_name).replace("_", ""))


def from_keras(entry: dict[str, Any]) -> dict[str, Any]:
    """Return Keras's operation as a call of the function of the same name."""
    options = dict(entry["config"])
    name = options.pop("name", None) or entry.get("name")
    function = _function_of(entry["class_name"])
    known = inspect.signature(PUBLIC[function]).parameters
    options = {k: v for k, v in options.items() if k in known or v not in (None, False)}
    nodes = []
    for node in entry.get("inbound_nodes", ()):
        given = dict(options)
        first = [given.pop("subscripts")] if "subscripts" in given else []
        kwargs = {k: v for k, v in {**given, **node.get("kwargs", {})}.items() if k in known or v is not None}
        args = [*first, *node["args"]]
        if function == "get_item":  # JSON has no tuples: a list of keys is one
            args = [tuple(a) if isinstance(a, list) else a for a in args]
        nodes.append({"args": args, "kwargs": kwargs})
    return {
        "module": "keras.ops",
        "class_name": "FunctionCall",
        "config": {"function": function, "name": name},
        "registered_name": None,
        "name": entry.get("name", name),
        "inbound_nodes": nodes,
    }


def to_keras(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a function as Keras's operation; one that Keras has no class for stays as it is."""
    function, name = entry["config"]["function"], entry["config"]["name"]
    nodes = entry.get("inbound_nodes", ())
    if function not in PUBLIC or "custom" in entry["config"] or len(nodes) != 1:
        return entry
    signature = inspect.signature(PUBLIC[function])
    try:
        bound = signature.bind(*nodes[0]["args"], **nodes[0]["kwargs"])
    except TypeError:
        return entry
    bound.apply_defaults()
    args, options = [], {}
    for parameter in signature.parameters.values():
        value = bound.arguments[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            options.update(value)
        elif parameter.name in _OPERANDS and parameter.name not in _OPTIONS.get(function, ()):
            args.append(value)
        else:
            options[parameter.name] = value
    while args and args[-1] is None:
        args.pop()
    class_name = _CLASS_OF.get(function) or "".join(part.capitalize() for part in function.split("_"))
    return {
        "module": f"keras.src.ops.{_MODULE_OF.get(function, 'numpy')}",
        "class_name": class_name,
        "config": {"name": name, **options},
        "registered_name": class_name,
        "name": entry.get("name", name),
        "inbound_nodes": [{"args": args, "kwargs": {}}],
    }
