"""Layers around a layer: every timestep of a sequence, weights of spectral norm 1."""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.dim import Dim
from kcompile.keras import initializers, ops
from kcompile.keras.layers import calling
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import name_scope


@register
class Wrapper(Layer):
    """Base of layers that hold a layer."""

    def __init__(self, layer, **kwargs):
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"Layer {layer} supplied to {type(self).__name__} isn't a supported layer type. Please ensure "
                "wrapped layer is a valid Keras layer."
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape=None):
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True


@register
class TimeDistributed(Wrapper):
    """The same layer on every timestep: [batch, time, ...] -> [batch, time, ...].

    Timesteps become rows of one large batch, so that the layer is one piece of work whatever the number of
    timesteps. A layer with a state (moving averages) or that adds losses sees them one after the other instead,
    as in Keras.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape=None):
        if not isinstance(input_shape, (list, tuple)) or len(input_shape) < 3:
            raise ShapeError(
                "`TimeDistributed` Layer should be passed an `input_shape` with at least 3 dimensions, received: "
                f"{input_shape}"
            )
        super().build((input_shape[0], *input_shape[2:]))

    def call(self, inputs, training=None, mask=None):
        if mask is not None:
            _check_mask(mask, inputs)
        if (_has_state(self.layer) and training) or _adds_losses(self.layer):
            return self._step_by_step(inputs, training, mask)
        batch, time, *rest = ops.shape(inputs)
        rows = ops.reshape(inputs, (batch * time, *rest))
        flat_mask = None if mask is None else ops.reshape(mask, (batch * time, *ops.shape(mask)[2:]))
        outputs = self._inner(rows, training, flat_mask)
        if _adds_losses(self.layer):  # the first call tells: what it adds is of each timestep
            self.layer._clear_losses()
            return self._step_by_step(inputs, training, mask)
        return tree.map_structure(lambda y: ops.reshape(y, (batch, time, *ops.shape(y)[1:])), outputs)

    def _step_by_step(self, inputs, training, mask):
        time = ops.shape(inputs)[1]
        if isinstance(time, Dim):
            return self._loop(inputs, training, mask)
        steps = [self._inner(inputs[:, i], training, None if mask is None else mask[:, i]) for i in range(time)]
        flat = zip(*(tree.flatten(s) for s in steps))
        return tree.pack_sequence_as(steps[0], [ops.stack(list(parts), axis=1) for parts in flat])

    def _loop(self, inputs, training, mask):
        """The same for any number of timesteps."""

        def step(_, at):
            rows, given = (at, None) if mask is None else at
            return (), self._inner(rows, training, given)

        def turned(x):
            return ops.swapaxes(x, 0, 1)

        sequence = turned(inputs) if mask is None else (turned(inputs), turned(mask))
        return tree.map_structure(turned, ops.scan(step, (), sequence)[1])

    def _inner(self, rows, training, mask):
        """Run the layer's own `call`: penalties on its activations do not count here, as in Keras."""
        signature = calling.signature_of(type(self.layer).call)
        given = {}
        if signature.has_training:
            given["training"] = training
        if signature.has_mask and mask is not None:
            given["mask"] = mask
        with name_scope(self.layer.name):
            return self.layer.call(rows, **given)


def _has_state(layer: Layer) -> bool:
    """Whether calls may change the layer: it holds variables that are never trained."""
    return any(not v.trainable_when_made for v in layer.weights)


def _adds_losses(layer: Layer) -> bool:
    """Whether calls of the layer, or of one within it, are known to add losses."""
    return any(inner._adds_losses for inner in layer._flatten_layers())


def _check_mask(mask, inputs) -> None:
    if len(mask.shape) < 2:
        raise ShapeError(
            "The `mask` passed to the `TimeDistributed` layer must be at least 2D (e.g., `(batch_size, timesteps)`), "
            f"but it has {len(mask.shape)} dimension(s) with shape {tuple(mask.shape)}."
        )
    if any(isinstance(m, int) and isinstance(n, int) and m != n for m, n in zip(mask.shape[:2], inputs.shape[:2])):
        raise ShapeError(
            f"The `mask` passed to the `TimeDistributed` layer has a shape {tuple(mask.shape)} that is incompatible "
            f"with the input shape {tuple(inputs.shape)}."
        )


@register
class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by (an estimate of) its largest singular value; training refines the estimate.

    Weights: those of the layer, vector_u [1, filters] (not trained).
    Source:  Miyato et al. 2018, one round of power iteration per step.
    """

    def __init__(self, layer, power_iterations=1, **kwargs):
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ArgumentError(
                f"`power_iterations` should be greater than zero. Received: `power_iterations={power_iterations}`"
            )
        self.power_iterations = power_iterations

    def build(self, input_shape=None):
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        self.kernel = self._found_kernel()  # this layer's too: files keep it in both places
        self.vector_u = self.add_weight(
            name="vector_u",
            shape=(1, self.kernel.shape[-1]),
            initializer=initializers.TruncatedNormal(stddev=0.02),
            dtype=self.kernel.dtype,
            trainable=False,
        )

    def _found_kernel(self):
        for name in ("kernel", "embeddings"):
            if hasattr(self.layer, name):
                return getattr(self.layer, name)
        raise ArgumentError(f"{type(self.layer).__name__} object has no attribute 'kernel' nor 'embeddings'")

    def call(self, inputs, training=False):
        if training:
            self._normalize()
        output = self.layer(inputs)
        return ops.cast(output, ops.dtype(inputs))

    def _normalize(self) -> None:
        weights = ops.reshape(self.kernel, (-1, self.kernel.shape[-1]))
        u = self.vector_u.value
        for _ in range(self.power_iterations):
            v = ops.normalize(ops.matmul(u, ops.transpose(weights)), axis=None)
            u = ops.normalize(ops.matmul(v, weights), axis=None)
        u, v = ops.stop_gradient(u), ops.stop_gradient(v)
        sigma = ops.matmul(ops.matmul(v, weights), ops.transpose(u))
        is_zero = ops.all(ops.equal(weights, 0))  # such a kernel has no direction: it stays as it is
        sigma = ops.where(is_zero, ops.ones_like(sigma), sigma)
        self.vector_u.assign(ops.where(is_zero, self.vector_u.value, u))
        self.kernel.assign(ops.reshape(ops.divide(weights, sigma), self.kernel.shape))
