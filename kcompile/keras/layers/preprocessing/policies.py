"""RandAugment and AugMix: a few of eleven changes, drawn anew for each batch. Pipeline: layers one after the other.

Which layer comes at a step is a number the program draws. Each layer is the body of a loop that runs once or not at
all, so that only the one chosen is computed.
"""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import ops, random
from kcompile.keras.layers.calling import mask_of, signature_of
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.preprocessing.colours import (
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomPosterization,
    RandomSharpness,
    Solarization,
)
from kcompile.keras.layers.preprocessing.histograms import AutoContrast, Equalization
from kcompile.keras.layers.preprocessing.image_layer import ColourLayer, bounds
from kcompile.keras.layers.preprocessing.warps import RandomRotation, RandomShear, RandomTranslation
from kcompile.keras.registry import register
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object

_KEY_STEP = np.uint32(0x9E3779B9)  # odd, so that multiples of it differ


class _Seeds(random.SeedGenerator):
    """The seeds that follow from one, by number: drawn again they are the same."""

    def __init__(self, first, start):
        self._first, self._next = first, start

    def next(self, ordered=True):
        self._next = self._next + 1
        key = self._first[0] + ops.cast(self._next, "uint32") * _KEY_STEP
        return ops.stack([key, self._first[1]])


def one_of(number, branches, values):
    """Return `branches[number](values)`; the values themselves for a number out of range."""
    for n, branch in enumerate(branches):
        is_next = ops.equal(number, n)
        state = ops.while_loop(
            lambda going, values: going,
            lambda going, values, branch=branch: (ops.zeros_like(going), branch(values)),
            (is_next, values),
            maximum_iterations=1,
        )
        values = state[1]
    return values


class _Policy(ColourLayer):
    """Base: the layers to choose from."""

    names = (
        "random_shear",
        "random_translation",
        "random_rotation",
        "random_brightness",
        "random_color_degeneration",
        "random_contrast",
        "random_sharpness",
        "random_posterization",
        "solarization",
        "auto_contrast",
        "equalization",
    )

    def __init__(self, value_range, factor, interpolation, seed, data_format, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor, self.interpolation = bounds(factor, low=0.0), interpolation
        common = {"data_format": self.data_format, "dtype": self.dtype_policy}
        common["bounding_box_format"] = self.bounding_box_format
        drawn = {**common, "seed": seed}
        warp = {**drawn, "interpolation": interpolation}
        colour = {**drawn, "value_range": value_range}
        f = self.factor
        self.random_shear = RandomShear(f, f, **warp)
        self.random_translation = RandomTranslation(f, f, **warp)
        self.random_rotation = RandomRotation(f, **warp)
        self.random_brightness = RandomBrightness(f, **colour)
        self.random_color_degeneration = RandomColorDegeneration(f, **colour)
        self.random_contrast = RandomContrast(f, **colour)
        self.random_sharpness = RandomSharpness(f, **colour)
        self.solarization = Solarization(f, f, **colour)
        self.random_posterization = RandomPosterization(max(1, int(8 * f[1])), **colour)
        self.auto_contrast = AutoContrast(value_range=value_range, **common)
        self.equalization = Equalization(value_range=value_range, **common)

    @property
    def choices(self) -> list[ColourLayer]:
        """The layers, in the order of their numbers."""
        return [getattr(self, name) for name in self.names]


@register
class RandAugment(_Policy):
    """`num_ops` random changes one after the other, the same for all images of the batch.

    Args: factor: limits of how strong they are.

    Source: Cubuk, Zoph, Shlens, Le 2020.
    """

    def __init__(
        self,
        value_range=(0, 255),
        num_ops=2,
        factor=0.5,
        interpolation="bilinear",
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_ops = num_ops

    def drawn(self, images, seed):
        numbers = random.randint((self.num_ops,), 0, len(self.names), seed=seed)
        transforms = {name: layer.drawn(images, seed) for name, layer in zip(self.names, self.choices)}
        return {"transforms": transforms, "layer_idxes": numbers}

    def _in_turn(self, values, transformation, method: str):
        def branch(name, layer):
            drawn = transformation["transforms"][name]
            return lambda values: getattr(layer, method)(values, {} if drawn is None else drawn)

        branches = [branch(*pair) for pair in zip(self.names, self.choices)]
        numbers = transformation["layer_idxes"]

        def step(turn, values):
            return one_of(ops.take(numbers, turn), branches, values)

        return ops.fori_loop(0, self.num_ops, step, values)

    def changed(self, images, transformation):
        return self._in_turn(images, transformation, "transform_images")

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        if not training or transformation is None:
            return segmentation_masks
        masks = ops.cast(segmentation_masks, self.compute_dtype)
        return self._in_turn(masks, transformation, "transform_segmentation_masks")

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training or transformation is None:
            return bounding_boxes
        boxes = {**bounding_boxes, "boxes": ops.cast(bounding_boxes["boxes"], "float32")}
        return self._in_turn(boxes, transformation, "transform_bounding_boxes")


@register
class AugMix(_Policy):
    """Each image mixed with a mixture of `num_chains` chains of up to `chain_depth` random changes.

    Which changes a chain holds is drawn for every batch (Keras draws when a program is traced).

    Args:
        factor: limits of how strong changes are.
        alpha: parameter of the distributions of the mixtures' weights.
        all_ops: False leaves out changes of colour.

    Source: Hendrycks et al. 2020.
    """

    plain = (
        "random_shear",
        "random_translation",
        "random_rotation",
        "random_posterization",
        "solarization",
        "auto_contrast",
        "equalization",
    )

    def __init__(
        self,
        value_range=(0, 255),
        num_chains=3,
        chain_depth=3,
        factor=0.3,
        alpha=1.0,
        all_ops=True,
        interpolation="bilinear",
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, factor, interpolation, seed, data_format, **kwargs)
        self.num_chains, self.chain_depth, self.alpha, self.all_ops = num_chains, chain_depth, alpha, all_ops
        self.names = type(self).names if all_ops else self.plain

    def drawn(self, images, seed):
        shares = random.gamma((self.num_chains,), self.alpha, dtype="float32", seed=seed)
        return {
            "chain_mixing_weights": shares / ops.sum(shares),
            "weight_sample": random.beta((), self.alpha, self.alpha, dtype="float32", seed=seed),
            # one number more than there are layers: nothing is changed
            "choices": random.randint((self.num_chains * self.chain_depth,), 0, len(self.names) + 1, seed=seed),
            "seed": random.draw_seed(seed),
        }

    def _mixture(self, values, transformation, method: str):
        first, choices = ops.convert_to_tensor(transformation["seed"]), transformation["choices"]
        shares = ops.cast(transformation["chain_mixing_weights"], values.dtype)

        def step(turn, state):
            chain, total = state
            chain = ops.where(ops.equal(ops.mod(turn, self.chain_depth), 0), values, chain)

            def branch(layer):
                return lambda v: getattr(layer, method)(v, layer.drawn(v, _Seeds(first, turn * 16)))

            chain = one_of(ops.take(choices, turn), [*map(branch, self.choices)], chain)
            is_end = ops.equal(ops.mod(turn + 1, self.chain_depth), 0)
            share = ops.take(shares, turn // self.chain_depth)
            return chain, ops.where(is_end, total + share * chain, total)

        start = values, ops.zeros_like(values)
        mixed = ops.fori_loop(0, self.num_chains * self.chain_depth, step, start)[1]
        own = ops.cast(transformation["weight_sample"], values.dtype)
        return own * values + (1 - own) * mixed

    def changed(self, images, transformation):
        return self.limited(self._mixture(images, transformation, "transform_images"))

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        if not training or transformation is None:
            return segmentation_masks
        masks = ops.cast(segmentation_masks, self.compute_dtype)
        return self._mixture(masks, transformation, "transform_segmentation_masks")


@register
class Pipeline(Layer):
    """Layers called one after the other, each with `training` and the mask of the one before if it takes them."""

    def __init__(self, layers, name=None, **kwargs):
        if not isinstance(layers, (list, tuple)):
            raise ArgumentError(f"Pipeline needs a list of layers. Received: layers={layers}")
        super().__init__(name=name, **kwargs)
        self._pipeline_layers = list(layers)

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order."""
        return list(self._pipeline_layers)

    def call(self, inputs, training=True, mask=None):
        for layer in self._pipeline_layers:
            signature, given = signature_of(type(layer).call), {}
            if signature.has_mask:
                given["mask"] = mask
            if signature.has_training and training is not None:
                given["training"] = training
            inputs = layer(inputs, **given)
            mask = mask_of(inputs)
        return inputs

    def get_config(self):
        return {"name": self.name, "layers": [serialize_keras_object(layer) for layer in self._pipeline_layers]}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        layers = [
            v if isinstance(v, Layer) else deserialize_keras_object(v, custom_objects, group="layers")
            for v in config.get("layers", ())
        ]
        return cls(**{**config, "layers": layers})
