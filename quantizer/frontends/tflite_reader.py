"""Checked reading of a FlatBuffer: every offset, size and count in the file may be hostile.

The values are decoded by the `flatbuffers` package; what it does not do, and this module does, is to make sure
that each one lies within the file and that the file cannot make us build more objects than it deserves.
Source: the FlatBuffers internals document (tables, vtables, vectors).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from flatbuffers import encode
from flatbuffers import number_types as numbers
from numpy.typing import NDArray

from intaglio.quantizer.errors import ModelError

MAX_VALUES = 500_000
"""Python objects that reading one file may make: tables may be shared, so the file's size bounds nothing."""

MAX_TEXT = 4096


class File:
    """The bytes of a model and the budget of reading it.

    Args:
        data: the file's content.
        where: the file, for messages.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self._left = MAX_VALUES

    def fail(self, position: int, what: str) -> ModelError:
        """The error about a byte of the file."""
        return ModelError(f"{self.where}, byte {position}", what, "the file is damaged: export or download it again")

    def get(self, flags: Any, position: int) -> Any:
        """Decode one number."""
        if not 0 <= position <= len(self.data) - flags.bytewidth:
            raise self.fail(position, f"a value lies outside the file of {len(self.data)} bytes")
        return encode.Get(flags.packer_type, self.data, position)

    def follow(self, position: int) -> int:
        """The position that the unsigned offset at `position` points to."""
        return position + int(self.get(numbers.UOffsetTFlags, position))

    def spend(self, count: int, position: int) -> None:
        """Account for values that are about to be made.

        Raises:
            ModelError: the budget is used up.
        """
        self._left -= count
        if self._left < 0:
            raise self.fail(position, f"more than {MAX_VALUES} values are described")

    def vector(self, position: int, width: int) -> tuple[int, int]:
        """Return (position of the first element, count) of a vector that lies within the file."""
        start = position + numbers.UOffsetTFlags.bytewidth
        count = int(self.get(numbers.UOffsetTFlags, position))
        if start + count * width > len(self.data):
            raise self.fail(position, f"a vector of {count} elements does not fit into the file")
        return start, count

    def root(self) -> Table:
        """The table that the file starts with."""
        return Table(self, self.follow(0))


class Table:
    """One table; its fields are read by number.

    Args:
        file: that holds it.
        position: of its first byte.
    """

    def __init__(self, file: File, position: int) -> None:
        self.file = file
        self.position = position
        self._vtable = position - int(file.get(numbers.SOffsetTFlags, position))
        self._bytes = int(file.get(numbers.VOffsetTFlags, self._vtable))
        file.spend(1, position)

    def _field(self, number: int) -> int | None:
        """Where a field's value lies; None when the table does not have it."""
        entry = 4 + 2 * number
        if entry + 2 > self._bytes:
            return None
        offset = int(self.file.get(numbers.VOffsetTFlags, self._vtable + entry))
        return self.position + offset if offset else None

    def number(self, number: int, flags: Any, default: Any = 0) -> Any:
        """A scalar field."""
        position = self._field(number)
        return default if position is None else self.file.get(flags, position)

    def table(self, number: int) -> Table | None:
        """A field that is a table."""
        position = self._field(number)
        return None if position is None else Table(self.file, self.file.follow(position))

    def tables(self, number: int) -> Iterator[Table]:
        """A field that is a vector of tables."""
        position = self._field(number)
        if position is None:
            return
        start, count = self.file.vector(self.file.follow(position), 4)
        for i in range(count):
            yield Table(self.file, self.file.follow(start + 4 * i))

    def array(self, number: int, dtype: str) -> NDArray[Any] | None:
        """A field that is a vector of numbers, as a view of the file.

        Args:
            dtype: numpy's name of the element type, little-endian.
        """
        position = self._field(number)
        if position is None:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self.file.vector(self.file.follow(position), kind.itemsize)
        return np.frombuffer(self.file.data, kind, count, start)

    def integers(self, number: int) -> tuple[int, ...] | None:
        """A field that is a vector of int32, as Python integers."""
        values = self.array(number, "int32")
        if values is None:
            return None
        self.file.spend(len(values), self.position)
        return tuple(values.tolist())

    def text(self, number: int) -> str:
        """A field that is a string; what cannot be printed becomes '?'."""
        position = self._field(number)
        if position is None:
            return ""
        start, count = self.file.vector(self.file.follow(position), 1)
        if count > MAX_TEXT:
            raise self.file.fail(start, f"a name of {count} bytes")
        self.file.spend(1 + count // 16, start)
        decoded = self.file.data[start : start + count].decode("utf-8", errors="replace")
        return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in decoded)
