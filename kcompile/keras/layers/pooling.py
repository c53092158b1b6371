"""Pooling of any rank: the largest or the mean element of windows, or of everything."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import config, ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.ops.windows import per_axis
from kcompile.keras.registry import register


class _Pooling(Layer):
    """Pool windows of `pool_size`, moved by `strides` (default: the window's size)."""

    rank: int

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.pool_size = per_axis(pool_size, self.rank, "pool_size")
        self.strides = self.pool_size if strides is None else per_axis(strides, self.rank, "strides")
        self.padding = str(padding).lower()
        if self.padding not in ("valid", "same"):
            raise ArgumentError(
                f"The `padding` argument must be one of ('valid', 'same'). Received: padding={padding!r}"
            )
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)


class _MaxPooling(_Pooling):
    def call(self, inputs):
        return ops.max_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class _AveragePooling(_Pooling):
    def call(self, inputs):
        return ops.average_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


@register(aliases=("MaxPool1D",))
class MaxPooling1D(_MaxPooling):
    """The largest element of windows along time."""

    rank = 1


@register(aliases=("MaxPool2D",))
class MaxPooling2D(_MaxPooling):
    """The largest element of windows of an image; with `"same"`, padding never wins."""

    rank = 2


@register(aliases=("MaxPool3D",))
class MaxPooling3D(_MaxPooling):
    """The largest element of windows of a volume."""

    rank = 3


@register(aliases=("AvgPool1D",))
class AveragePooling1D(_AveragePooling):
    """The mean of windows along time; padding is not counted."""

    rank = 1


@register(aliases=("AvgPool2D",))
class AveragePooling2D(_AveragePooling):
    """The mean of windows of an image; padding is not counted."""

    rank = 2


@register(aliases=("AvgPool3D",))
class AveragePooling3D(_AveragePooling):
    """The mean of windows of a volume; padding is not counted."""

    rank = 3


class _GlobalPooling(Layer):
    """Reduce all spatial axes."""

    rank: int

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.keepdims = keepdims
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def axes(self) -> tuple[int, ...]:
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs):
        return ops.max(inputs, axis=self.axes, keepdims=self.keepdims)


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs):
        return ops.mean(inputs, axis=self.axes, keepdims=self.keepdims)


@register(aliases=("GlobalMaxPool1D",))
class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The largest element over time."""

    rank = 1


@register(aliases=("GlobalMaxPool2D",))
class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest element of an image."""

    rank = 2


@register(aliases=("GlobalMaxPool3D",))
class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest element of a volume."""

    rank = 3


@register(aliases=("GlobalAvgPool1D",))
class GlobalAveragePooling1D(_GlobalAveragePooling):
    """The mean over time; masked steps are not counted."""

    rank = 1

    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, keepdims, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is None:
            return super().call(inputs)
        steps = self.axes[0]
        kept = ops.expand_dims(ops.cast(mask, ops.dtype(inputs)), 2 if steps == 1 else 1)
        total = ops.sum(inputs * kept, axis=steps, keepdims=self.keepdims)
        return ops.divide(total, ops.sum(kept, axis=steps, keepdims=self.keepdims))

    def compute_mask(self, inputs, previous_mask=None):
        return None


@register(aliases=("GlobalAvgPool2D",))
class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of an image."""

    rank = 2


@register(aliases=("GlobalAvgPool3D",))
class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of a volume."""

    rank = 3


class _AdaptivePooling(Layer):
    """Pool to `output_size` windows per axis, whatever the size of the input."""

    rank: int

    def __init__(self, output_size, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.output_size = per_axis(output_size, self.rank, "output_size")
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)


class _AdaptiveMaxPooling(_AdaptivePooling):
    def call(self, inputs):
        return ops.adaptive_max_pool(inputs, self.output_size, self.data_format)


class _AdaptiveAveragePooling(_AdaptivePooling):
    def call(self, inputs):
        return ops.adaptive_average_pool(inputs, self.output_size, self.data_format)


@register
class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """The largest element of windows that divide time."""

    rank = 1


@register
class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """The largest element of windows that divide an image."""

    rank = 2


@register
class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """The largest element of windows that divide a volume."""

    rank = 3


@register
class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """The mean of windows that divide time."""

    rank = 1


@register
class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """The mean of windows that divide an image."""

    rank = 2


@register
class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """The mean of windows that divide a volume."""

    rank = 3
