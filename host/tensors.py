"""Tensors as a device describes them, and their integers as bytes: little-endian, in C order, one after the other."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")
"""numpy's names of the element types, in the order of `enum intaglio_dtype`."""


@dataclass(frozen=True)
class TensorMeta:
    """A tensor as the device describes it: real value = scale * (integer - zero_point).

    Attributes:
        dtype: one of `DTYPES`.
        scale_bits: the scale's IEEE 754 binary32 bits; 0 when the tensor has none.
        nbytes: bytes of its values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale_bits: int
    zero_point: int
    nbytes: int

    @property
    def scale(self) -> float | None:
        """The scale, exactly: every binary32 number is a binary64 number."""
        if self.scale_bits == 0:
            return None
        value: float = struct.unpack("<f", struct.pack("<I", self.scale_bits))[0]
        return value

    @property
    def consistent(self) -> bool:
        """Whether `nbytes` is what dtype and shape need, and no extent is below 1."""
        size = math.prod(self.shape) * _little(self.dtype).itemsize
        return all(extent >= 1 for extent in self.shape) and self.nbytes == size


def split(tensors: Sequence[TensorMeta], data: bytes) -> Iterator[tuple[TensorMeta, bytes]]:
    """Each tensor with its bytes."""
    offset = 0
    for meta in tensors:
        yield meta, data[offset : offset + meta.nbytes]
        offset += meta.nbytes


def to_array(meta: TensorMeta, data: bytes) -> npt.NDArray[Any]:
    """A tensor's integers, of its dtype and shape."""
    import numpy as np

    return np.frombuffer(data, _little(meta.dtype)).astype(meta.dtype).reshape(meta.shape)


def to_bytes(meta: TensorMeta, array: npt.NDArray[Any]) -> bytes:
    """The bytes of an array of a tensor's dtype and shape."""
    return array.astype(_little(meta.dtype)).tobytes()


def _little(dtype: str) -> np.dtype[Any]:
    import numpy as np

    return np.dtype(dtype).newbyteorder("<")
