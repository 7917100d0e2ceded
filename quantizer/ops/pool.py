"""What average and maximum pooling share: windows clipped to the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Kernel, streaming_lead


def pool_shape(
    node: Node, inputs: Sequence[TensorType | None], dilation: tuple[int, int]
) -> tuple[tuple[int, ...], ...]:
    """The shape rule of a pooling over an NHWC image."""
    a, x = node.attrs, inputs[0]
    if x is None or len(x.shape) != 4:
        raise UnsupportedError(str(node), "the input is not an image (1, H, W, C)", "re-export the model")
    ho, wo = acc.window_shape(x.shape, a.kernel, a.stride, dilation, a.pads)
    if ho < 1 or wo < 1:
        raise UnsupportedError(str(node), f"window {a.kernel} is larger than the image", "re-export the model")
    return ((1, ho, wo, x.shape[3]),)


def window_counts(shape: Sequence[int], attrs: Any) -> Ints:
    """How many pixels of the image each window covers: int64 (Ho, Wo)."""
    ones = np.ones((1, *shape[1:3], 1), np.int64)
    win = acc.windows(ones, attrs.kernel, attrs.stride, (1, 1), attrs.pads, 0)
    return np.asarray(win.sum(axis=(2, 3, 4)), np.int64)


def pool_lead(k: Kernel) -> tuple[int | None, ...]:
    """Each output is written when its window has been read; the channels of a pixel follow each other."""
    first = acc.window_reads(k.attrs.kernel, k.attrs.stride, k.attrs.pads, k.x.shape, k.y.shape)
    reads = (first[:, None] + np.arange(k.y.shape[3])).ravel() * k.x.dtype.bytes
    ends = (np.arange(len(reads)) + 1) * k.y.dtype.bytes
    return (streaming_lead(ends, reads),)
