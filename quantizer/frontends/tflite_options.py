"""The options of the builtin operators, as typed records.

The fields of each class stand in the order of their numbers in schema.fbs, so the order is the format; `UNION` is
the class's number in the union BuiltinOptions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias, TypeVar

from flatbuffers import number_types as numbers

from intaglio.quantizer.errors import ModelError
from intaglio.quantizer.frontends.tflite_reader import Table
from intaglio.quantizer.frontends.tflite_schema import Operator

Byte: TypeAlias = int
"""An enum, stored in one byte."""


@dataclass(frozen=True)
class Options:
    """Base: an operator without options of interest."""

    UNION: ClassVar[int] = 0


Kind = TypeVar("Kind", bound=Options)

_SCALARS: dict[str, Any] = {
    "Byte": numbers.Int8Flags,
    "int": numbers.Int32Flags,
    "float": numbers.Float32Flags,
    "bool": numbers.BoolFlags,
}


def read_options(kind: type[Kind], operator: Operator, where: str) -> Kind:
    """Read an operator's options; a file may leave them out, then the schema's defaults hold.

    Raises:
        ModelError: the operator carries options of another kind.
    """
    table = operator.options
    if table is None or operator.options_type == 0:
        return kind()
    if operator.options_type != kind.UNION:
        raise ModelError(where, f"options of kind {operator.options_type}, not {kind.UNION}", "the file is damaged")
    return kind(**{f.name: _field(table, number, str(f.type), f.default) for number, f in enumerate(fields(kind))})


def _field(table: Table, number: int, kind: str, default: Any) -> Any:
    if kind == "str":
        return table.text(number)
    if kind.startswith("tuple"):
        return table.integers(number) or ()
    return table.number(number, _SCALARS[kind], default)


@dataclass(frozen=True)
class Conv2DOptions(Options):
    UNION = 1
    padding: Byte = 0
    stride_w: int = 0
    stride_h: int = 0
    activation: Byte = 0
    dilation_w: int = 1
    dilation_h: int = 1


@dataclass(frozen=True)
class DepthwiseConv2DOptions(Options):
    UNION = 2
    padding: Byte = 0
    stride_w: int = 0
    stride_h: int = 0
    depth_multiplier: int = 0
    activation: Byte = 0
    dilation_w: int = 1
    dilation_h: int = 1


@dataclass(frozen=True)
class Pool2DOptions(Options):
    UNION = 5
    padding: Byte = 0
    stride_w: int = 0
    stride_h: int = 0
    kernel_w: int = 0
    kernel_h: int = 0
    activation: Byte = 0


@dataclass(frozen=True)
class SVDFOptions(Options):
    UNION = 6
    rank: int = 0
    activation: Byte = 0


@dataclass(frozen=True)
class FullyConnectedOptions(Options):
    UNION = 8
    activation: Byte = 0
    weights_format: Byte = 0
    keep_num_dims: bool = False


@dataclass(frozen=True)
class SoftmaxOptions(Options):
    UNION = 9
    beta: float = 0.0


@dataclass(frozen=True)
class ConcatenationOptions(Options):
    UNION = 10
    axis: int = 0
    activation: Byte = 0


@dataclass(frozen=True)
class AddOptions(Options):
    UNION = 11
    activation: Byte = 0
    pot_scale_int16: bool = True


@dataclass(frozen=True)
class ResizeBilinearOptions(Options):
    UNION = 15
    new_height: int = 0
    new_width: int = 0
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class ReshapeOptions(Options):
    UNION = 17
    new_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class SpaceToDepthOptions(Options):
    UNION = 19
    block_size: int = 0


@dataclass(frozen=True)
class MulOptions(Options):
    UNION = 21
    activation: Byte = 0


@dataclass(frozen=True)
class GatherOptions(Options):
    UNION = 23
    axis: int = 0
    batch_dims: int = 0


@dataclass(frozen=True)
class ReducerOptions(Options):
    UNION = 27
    keep_dims: bool = False


@dataclass(frozen=True)
class SubOptions(Options):
    UNION = 28
    activation: Byte = 0
    pot_scale_int16: bool = True


@dataclass(frozen=True)
class DivOptions(Options):
    UNION = 29
    activation: Byte = 0


@dataclass(frozen=True)
class SqueezeOptions(Options):
    UNION = 30
    squeeze_dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class StridedSliceOptions(Options):
    UNION = 32
    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0
    offset: bool = False


@dataclass(frozen=True)
class TransposeConvOptions(Options):
    UNION = 49
    padding: Byte = 0
    stride_w: int = 0
    stride_h: int = 0
    activation: Byte = 0


@dataclass(frozen=True)
class PackOptions(Options):
    UNION = 59
    values_count: int = 0
    axis: int = 0


@dataclass(frozen=True)
class UnpackOptions(Options):
    UNION = 64
    num: int = 0
    axis: int = 0


@dataclass(frozen=True)
class ResizeNearestNeighborOptions(Options):
    UNION = 74
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class LeakyReluOptions(Options):
    UNION = 75
    alpha: float = 0.0


@dataclass(frozen=True)
class MirrorPadOptions(Options):
    UNION = 77
    mode: Byte = 0


@dataclass(frozen=True)
class DepthToSpaceOptions(Options):
    UNION = 94
    block_size: int = 0


@dataclass(frozen=True)
class BatchMatMulOptions(Options):
    UNION = 101
    adj_x: bool = False
    adj_y: bool = False


@dataclass(frozen=True)
class CallOnceOptions(Options):
    UNION = 103
    subgraph: int = 0


@dataclass(frozen=True)
class VarHandleOptions(Options):
    UNION = 111
    container: str = ""
    shared_name: str = ""


@dataclass(frozen=True)
class GeluOptions(Options):
    UNION = 116
    approximate: bool = False
