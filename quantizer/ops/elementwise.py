"""What elementwise operators of two inputs share: broadcasting, loops, and constants that fold into tables or lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, DType, Graph, Node, TensorType
from intaglio.quantizer.ops import accumulate as acc
from intaglio.quantizer.ops.base import Context, Kernel, Operator, Variant, elementwise_lead, limit
from intaglio.quantizer.ops.build import quantised, single
from intaglio.quantizer.ops.lines import Lines, fit
from intaglio.quantizer.ops.lookup import EIGHT_BITS, ChannelTables, Table, is_table, stored_values
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)


@dataclass(frozen=True)
class ClampAttrs(Attrs):
    """clamp: the fused activation."""

    clamp: acc.Clamp = acc.NO_CLAMP


@dataclass(frozen=True)
class Loop:
    """One loop of a broadcast kernel: extent, and the strides of the inputs in elements (0: repeated)."""

    extent: int
    strides: tuple[int, ...]


def loops(kernel: Kernel) -> list[Loop]:
    """The fewest nested loops that walk the output in order, outermost first."""
    rank = len(kernel.y.shape)
    shapes = [(1,) * (rank - len(t.shape)) + t.shape for t in kernel.inputs if t is not None]
    result: list[Loop] = []
    steps = [1] * len(shapes)
    for axis in reversed(range(rank)):
        extent = kernel.y.shape[axis]
        if extent == 1:
            continue
        strides = tuple(step if s[axis] > 1 else 0 for step, s in zip(steps, shapes, strict=True))
        if result and all(
            inner * result[0].extent == outer for inner, outer in zip(result[0].strides, strides, strict=True)
        ):
            result[0] = Loop(result[0].extent * extent, result[0].strides)
        else:
            result.insert(0, Loop(extent, strides))
        steps = [step * s[axis] for step, s in zip(steps, shapes, strict=True)]
    return result or [Loop(1, (1,) * len(shapes))]


def is_lines(kernel: Kernel) -> bool:
    """Whether the node is a line per channel of one input."""
    return isinstance(kernel.params, Lines)


def every_value(kind: TensorType) -> Ints:
    """Every integer of an 8-bit type, ascending."""
    return np.arange(kind.dtype.low, kind.dtype.high + 1, dtype=np.int64)


def is_channel_tables(kernel: Kernel) -> bool:
    """Whether the node is a table per channel of one input."""
    return isinstance(kernel.params, ChannelTables)


CHANNEL_VARIANTS = (
    Variant("lines", "lines.c.j2", accepts=is_lines, lead=elementwise_lead),
    Variant("tables", "channel_tables.c.j2", accepts=is_channel_tables, lead=elementwise_lead),
)


def channel_params(
    tables: Ints, x: TensorType, clip: Interval, slopes: Sequence[float], operand: int = 0
) -> Lines | ChannelTables:
    """Lines that equal the maps of an 8-bit input, else the maps themselves.

    Args:
        tables: int64 (channels, 256), for the integers of x in ascending order.
        slopes: the real slopes, one per channel.
    """
    lines = fit(tables, x.dtype.low, *clip, slopes, operand)
    return lines or ChannelTables(tables[:, stored_values(x) - x.dtype.low], operand)


class BinaryOperator(Operator[A, Any]):
    """x . y, element by element, with numpy's broadcasting.

    8-bit operators of one constant are folded: one constant value gives a table of the other input, one value per
    channel a line per channel where that is exact.
    """

    variants: ClassVar[tuple[Variant, ...]] = (
        Variant("table", "lookup.c.j2", accepts=is_table, lead=elementwise_lead),
        *CHANNEL_VARIANTS,
    )

    constant_only: ClassVar[bool] = False
    """There is no kernel of two computed inputs."""

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        if len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
            raise UnsupportedError(str(node), "two inputs are needed", "re-export the model")
        shapes = inputs[0].shape, inputs[1].shape
        try:
            return (tuple(int(n) for n in np.broadcast_shapes(*shapes)),)
        except ValueError:
            listed = " and ".join(str(list(s)) for s in shapes)
            raise UnsupportedError(str(node), f"shapes {listed} do not broadcast", "re-export the model") from None

    @limit
    def types(self, ctx: Context) -> bool:
        """Inputs and output are all int8, all uint8 or all int16."""
        kinds = {ctx.input(0).dtype, ctx.input(1).dtype, ctx.output.dtype}
        return len(kinds) == 1 and kinds.pop() in (*EIGHT_BITS, DType.INT16)

    @limit
    def quantised(self, ctx: Context) -> bool:
        """Inputs and output are quantised per tensor."""
        kinds = (ctx.input(0), ctx.input(1), ctx.output)
        return all(t.qparams is not None and len(t.qparams.scale) == 1 for t in kinds)

    @limit
    def computed(self, ctx: Context) -> bool:
        """At least one input is computed; what is constant altogether is folded before."""
        return len(ctx.constants) < 2

    @abstractmethod
    def meaning(self, ctx: Context, x: Ints, y: Ints) -> Ints:
        """The contract's outputs for stored integers that broadcast."""

    @abstractmethod
    def slopes(self, ctx: Context, operand: int, constants: Ints) -> list[float] | None:
        """Output steps per step of the operand, for each value of the other input; None: not a line."""

    @abstractmethod
    def lower_pair(self, ctx: Context) -> Any:
        """The parameters of a node that is not folded; they have `apply(x, y)`."""

    def clip(self, ctx: Context) -> Interval:
        """The clip of the output's integers."""
        clamp: acc.Clamp = ctx.node.attrs.clamp
        return clamp.integers(ctx.output, ctx.contract)

    def lower(self, ctx: Context) -> Any:
        return self.folded(ctx) or self.lower_pair(ctx)

    def folded(self, ctx: Context) -> Table | Lines | ChannelTables | None:
        """The table or the lines of an 8-bit node with a constant operand; None when it has neither."""
        if len(ctx.constants) != 1:
            return None
        (constant,) = ctx.constants
        operand = 1 - constant
        x, other = ctx.input(operand), ctx.input(constant)
        if x.dtype not in EIGHT_BITS or x.shape != ctx.output.shape:
            return None
        values = ctx.integers(constant).ravel()
        if len(values) == 1:
            return Table(self._beside(ctx, operand, stored_values(x), values), operand)
        if not x.shape or not len(values) == other.shape[-1] == x.shape[-1]:
            return None
        slopes = self.slopes(ctx, operand, values)
        if slopes is None:
            return None
        tables = self._beside(ctx, operand, every_value(x), values[:, None])
        params = channel_params(tables, x, self.clip(ctx), slopes, operand)
        return params if isinstance(params, Lines) or self.constant_only else None

    def _beside(self, ctx: Context, operand: int, x: Ints, constants: Ints) -> Ints:
        return self.meaning(ctx, x, constants) if operand == 0 else self.meaning(ctx, constants, x)

    def evaluate(self, ctx: Context, params: Any, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, y = inputs
        assert x is not None and y is not None
        if isinstance(params, Table | Lines | ChannelTables):
            return [params.apply((x, y)[params.operand])]
        return [params.apply(x, y)]

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        x, y = inputs
        assert x is not None and y is not None
        return [self.meaning(ctx, x, y)]

    def output_ranges(self, ctx: Context, params: Any) -> tuple[Interval, ...]:
        return (self.clip(ctx),)


def binary_examples(op: str, attrs: Any, *, out_scale: float = 0.06, zero: int = 3) -> Iterator[Graph]:
    """Broadcast shapes, types, contracts and constant operands."""
    rng = np.random.default_rng(5)
    whole = (1, 4, 3, 5)

    def example(
        contract: Contract,
        left: tuple[int, ...],
        right: tuple[int, ...],
        dtype: str = "int8",
        constant: int = -1,
        scales: tuple[float, float] = (0.0413272, 0.0671893),
    ) -> Graph:
        wide, shift = dtype == "int16", 128 if dtype == "uint8" else 0
        kinds = [
            quantised(dtype, left, scales[0] / 137 if wide else scales[0], 0 if wide else shift - 5),
            quantised(dtype, right, scales[1] / 335 if wide else scales[1], 0 if wide else shift + 9),
        ]
        operands: list[Any] = list(kinds)
        if constant >= 0:
            kind = kinds[constant]
            values = rng.integers(kind.dtype.low, kind.dtype.high, kind.shape, endpoint=True)
            operands[constant] = (kind, values)
        out = (dtype, out_scale / 150 if wide else out_scale, 0 if wide else shift + zero)
        return single(op, attrs, operands, [out], contract)

    yield example(Contract.TFLITE, whole, whole)
    yield example(Contract.EXACT, whole, whole)
    yield example(Contract.ONNX, (1, 1, 3, 1), whole, scales=(0.041, 0.067))
    # The output's scale is a multiple of both inputs': halves abound.
    yield example(Contract.ONNX, whole, whole, scales=(out_scale / 2, out_scale / 4))
    yield example(Contract.TFLITE, (1, 6), (1, 1), "uint8", scales=(0.041, 0.067))
    yield example(Contract.TFLITE, whole, (5,), constant=1)
    yield example(Contract.EXACT, (1, 1, 1, 5), whole, constant=0)
    yield example(Contract.ONNX, whole, (1,), constant=1)
    yield example(Contract.TFLITE, whole, (1, 4, 1, 5), constant=1)
    yield example(Contract.TFLITE, whole, whole, "int16")
    yield example(Contract.EXACT, whole, (1, 4, 1, 1), "int16")
    yield example(Contract.ONNX, whole, (3, 1), "int16", constant=1)
