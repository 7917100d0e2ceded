"""Samples for calibration and evaluation, read one at a time from a file or a folder.

.npz    one array per graph input by its name; for a single input also `x`, or the only array that fits;
        labels under `y` or `labels`
.npy    one array, a single input
.csv    one sample a line, numbers separated by commas; with one number more than the input has elements, the
        last is the label; a first line that is not numeric is a heading
folder  of images (any format that Pillow reads), resized to the input; labels when the images lie in
        subfolders, numbered in sorted order; or of .npy files, one sample each

Values are reals, as the model takes them; integers are converted. Only integers of the very type of a quantised
model's input are taken for stored ones. Images are scaled to `pixels`.
"""

from __future__ import annotations

import csv
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import CalibrationError, ToolError
from intaglio.quantizer.ir import Graph, TensorType
from intaglio.quantizer.reference import dequantise

Array = NDArray[Any]
Sample = list[NDArray[np.float64]]
Rows = Iterator[tuple[Sequence[Array], int | None]]

# What zipfile, zlib, lzma and numpy's heading parser raise on damaged files.
DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    struct.error,
)
LABELS = ("y", "labels")
IMAGE_SUFFIXES = frozenset({".bmp", ".png", ".jpg", ".jpeg", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class DataSource:
    """Samples of a model's inputs.

    Attributes:
        path: of the file or folder, for messages.
        inputs: name and type of each graph input.
        rows: opens the data: yields raw arrays, one per input, and a label or None.
    """

    path: Path
    inputs: tuple[tuple[str, TensorType], ...]
    rows: Callable[[], Rows]

    def samples(self, count: int | None = None) -> Iterator[tuple[Sample, int | None]]:
        """Yield each sample, one float64 array of the input's shape per graph input, and its label.

        Args:
            count: at most so many.

        Raises:
            CalibrationError: there is none, a shape is wrong, or a value is NaN or infinite.
        """
        index = -1
        for index, (arrays, label) in enumerate(islice(self.rows(), count)):
            yield (
                [self._conform(a, name, kind, index) for a, (name, kind) in zip(arrays, self.inputs, strict=True)],
                label,
            )
        if index < 0:
            raise CalibrationError(str(self.path), "holds no samples", "give at least one")

    def _conform(self, value: Array, name: str, kind: TensorType, index: int) -> NDArray[np.float64]:
        where = f"{self.path}, sample {index}"
        if value.dtype.kind not in "iufb":
            raise CalibrationError(where, f"'{name}' holds {value.dtype}", "give numbers")
        if value.size != kind.elements:
            raise CalibrationError(
                where, f"'{name}' has shape {list(value.shape)}", f"the model wants {list(kind.shape[1:])}"
            )
        arranged = channels_last(value, kind.shape)
        stored = kind.qparams is not None and value.dtype == kind.dtype.numpy
        real = dequantise(arranged, kind) if stored else arranged.astype(np.float64)
        if not np.all(np.isfinite(real)):
            raise CalibrationError(where, f"'{name}' holds NaN or infinity", "remove the sample")
        return real


def channels_last(value: Array, shape: tuple[int, ...]) -> Array:
    """Return one sample in a tensor's shape; images with channels first are transposed where only that fits."""
    squeezed = value.reshape(value.shape[1:]) if value.ndim == len(shape) and value.shape[0] == 1 else value
    if len(shape) == 4 and squeezed.ndim == 3 and squeezed.shape != shape[1:]:
        moved = squeezed.transpose(1, 2, 0)
        if moved.shape == shape[1:]:
            return moved.reshape(shape)
    return value.reshape(shape)


def open_data(path: Path, graph: Graph, pixels: tuple[float, float] = (0.0, 1.0)) -> DataSource:
    """Find out how to read a file or folder; nothing but headings is read yet.

    Args:
        pixels: what the darkest and the brightest pixel of an image stand for.

    Raises:
        CalibrationError: it does not exist, is of no known kind, or holds nothing for an input.
        ToolError: images without Pillow.
    """
    inputs = tuple((name, graph.types[name]) for name in graph.inputs)
    if not path.exists():
        raise CalibrationError(str(path), "does not exist", "give a .npz, .npy or .csv file or a folder")
    if path.is_dir():
        return DataSource(path, inputs, _folder(path, inputs, pixels))
    readers = {".npz": _npz, ".npy": _npy, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CalibrationError(
            str(path), f"unknown format '{path.suffix}'", "give a .npz, .npy or .csv file or a folder of images"
        )
    return DataSource(path, inputs, reader(path, inputs))


Inputs = tuple[tuple[str, TensorType], ...]


def _single(path: Path, inputs: Inputs) -> TensorType:
    """The type of the only input."""
    if len(inputs) != 1:
        names = ", ".join(name for name, _ in inputs)
        raise CalibrationError(str(path), f"gives one input, the model has {len(inputs)}", f"give a .npz with {names}")
    return inputs[0][1]


def _unreadable(path: Path, error: Exception) -> CalibrationError:
    what = str(error) or type(error).__name__
    return CalibrationError(str(path), f"cannot be read ({what})", "write the file again")


def _npy(path: Path, inputs: Inputs) -> Callable[[], Rows]:
    _single(path, inputs)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    if array.ndim == 0:
        raise CalibrationError(str(path), "holds a single number", "give an array with a leading axis of samples")
    return lambda: (((np.array(row),), None) for row in array)


@dataclass(frozen=True)
class _Member:
    """One array of a .npz: its name, and what its heading says."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def _npz(path: Path, inputs: Inputs) -> Callable[[], Rows]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.name: m for m in (_heading(archive, n) for n in archive.namelist())}
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    chosen = [_choose(path, members, name, kind, alone=len(inputs) == 1) for name, kind in inputs]
    counts = {m.shape[0] for m in chosen}
    if len(counts) != 1:
        raise CalibrationError(str(path), f"inputs of {sorted(counts)} samples", "give one per sample for each input")
    label = next((members[key] for key in LABELS if key in members and key not in {m.name for m in chosen}), None)
    if label is not None and (label.shape != chosen[0].shape[:1] or label.dtype.kind not in "iuf"):
        label = None

    def rows() -> Rows:
        try:
            with zipfile.ZipFile(path) as archive:
                columns = [_stream(archive, m) for m in chosen]
                labels = iter(lambda: None, 0) if label is None else (int(v) for v in _stream(archive, label))
                yield from zip(zip(*columns, strict=True), labels, strict=False)
        except DAMAGED as error:
            raise _unreadable(path, error) from error

    return rows


def _heading(archive: zipfile.ZipFile, entry: str) -> _Member:
    with archive.open(entry) as file:
        shape, fortran, dtype = _read_heading(file)
    return _Member(entry.removesuffix(".npy"), shape, dtype, fortran)


def _read_heading(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _choose(path: Path, members: Mapping[str, _Member], name: str, kind: TensorType, *, alone: bool) -> _Member:
    """The array for an input."""
    found = members.get(name)
    if found is None and alone:
        fitting = [m for m in members.values() if m.shape and int(np.prod(m.shape[1:])) == kind.elements]
        numeric = [m for m in fitting if m.dtype.kind in "iufb" and m.name not in LABELS]
        found = members.get("x") or (numeric[0] if len(numeric) == 1 else None)
    if found is None:
        held = ", ".join(members) or "nothing"
        raise CalibrationError(str(path), f"holds no array for input '{name}'", f"name one so; it holds {held}")
    if not found.shape:
        raise CalibrationError(str(path), f"'{found.name}' is a single number", "give a leading axis of samples")
    return found


def _stream(archive: zipfile.ZipFile, member: _Member) -> Iterator[Array]:
    """Yield the rows of an array as they are decompressed."""
    if member.dtype.hasobject:
        raise ValueError(f"'{member.name}' holds Python objects")
    with archive.open(f"{member.name}.npy") as file:
        if member.fortran and len(member.shape) > 1:
            # Rows are scattered over the whole array: only here it is held whole.
            yield from np.lib.format.read_array(file, allow_pickle=False)
            return
        _read_heading(file)
        size = int(np.prod(member.shape[1:])) * member.dtype.itemsize
        for _ in range(member.shape[0]):
            data = file.read(size)
            if len(data) != size:
                raise ValueError(f"'{member.name}' is cut short")
            yield np.frombuffer(data, member.dtype).reshape(member.shape[1:])


def _csv(path: Path, inputs: Inputs) -> Callable[[], Rows]:
    elements = _single(path, inputs).elements

    def rows() -> Rows:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for number, fields in enumerate(csv.reader(file), 1):
                    if not any(field.strip() for field in fields):
                        continue
                    try:
                        values = np.array([float(field) for field in fields])
                    except ValueError:
                        if number == 1:
                            continue
                        raise CalibrationError(f"{path}, line {number}", "is not numeric", "give numbers") from None
                    if len(values) == elements + 1 and np.isfinite(values[-1]):
                        yield (values[:-1],), int(values[-1])
                    else:
                        yield (values,), None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _unreadable(path, error) from error

    return rows


def _folder(path: Path, inputs: Inputs, pixels: tuple[float, float]) -> Callable[[], Rows]:
    kind = _single(path, inputs)
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in {*IMAGE_SUFFIXES, ".npy"} and f.is_file())
    if not files:
        raise CalibrationError(str(path), "holds no images or .npy files", "give a folder of images")
    classes = {name: i for i, name in enumerate(sorted({f.relative_to(path).parts[0] for f in files}))}
    labelled = all(len(f.relative_to(path).parts) > 1 for f in files)
    read = _image_reader(path, kind, pixels) if any(f.suffix.lower() != ".npy" for f in files) else None

    def rows() -> Rows:
        for file in files:
            label = classes[file.relative_to(path).parts[0]] if labelled else None
            try:
                if file.suffix.lower() == ".npy":
                    value = np.load(file, allow_pickle=False)
                else:
                    assert read is not None
                    value = read(file)
            except DAMAGED as error:
                raise _unreadable(file, error) from error
            yield (value,), label

    return rows


def _image_reader(path: Path, kind: TensorType, pixels: tuple[float, float]) -> Callable[[Path], Array]:
    """A function that reads an image as reals of an input's height, width and channels."""
    try:
        from PIL import Image
    except ImportError:
        raise ToolError(str(path), "images need Pillow", "pip install pillow") from None
    if len(kind.shape) != 4 or kind.shape[3] not in (1, 3):
        raise CalibrationError(
            str(path), f"images for an input of shape {list(kind.shape)}", "give a .npz of the input's shape"
        )
    _, height, width, channels = kind.shape
    dark, bright = pixels

    def read(file: Path) -> Array:
        with Image.open(file) as image:
            plain = image.convert("L" if channels == 1 else "RGB")
            if plain.size != (width, height):
                plain = plain.resize((width, height), Image.Resampling.BILINEAR)
            values = np.asarray(plain, np.float64).reshape(height, width, channels)
        return dark + values * ((bright - dark) / 255.0)

    return read
