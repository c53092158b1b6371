"""What image functions share: single images as a batch of one, channels brought to the end and back."""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import ShapeError
from kcompile.keras.config import standardize_data_format
from kcompile.keras.ops.function import rank, tensor


class Layout:
    """Images as the user gave them, and as [batch, *spatial, channels]."""

    def __init__(self, images, data_format: str | None, spatial: int = 2):
        x = tensor(images)
        if rank(x) not in (spatial + 1, spatial + 2):
            raise ShapeError(
                f"Invalid images rank: expected rank {spatial + 1} (single image) or rank {spatial + 2} (batch of "
                f"images). Received input with shape: images.shape={tuple(x.shape)}"
            )
        self.single = rank(x) == spatial + 1
        self.first = standardize_data_format(data_format) == "channels_first"
        if self.single:
            x = prim.reshape(x, shape=(1, *x.shape))
        self.images = prim.transpose(x, perm=(0, *range(2, spatial + 2), 1)) if self.first else x

    def restored(self, x):
        """The same way back; axes added behind the channels stay where they are."""
        if self.first:
            spatial = rank(self.images) - 2
            x = prim.transpose(x, perm=(0, spatial + 1, *range(1, spatial + 1), *range(spatial + 2, rank(x))))
        return prim.reshape(x, shape=tuple(x.shape[1:])) if self.single else x
