"""Reshape: the same elements under another shape; also Flatten, Squeeze, Unsqueeze and ExpandDims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Node, TensorType
from intaglio.quantizer.ops.base import Context, Operator, Reals, register
from intaglio.quantizer.requant import Interval


@dataclass(frozen=True)
class ReshapeAttrs(Attrs):
    """shape: of the output, every dimension given."""

    shape: tuple[int, ...]


@register
class Reshape(Operator[ReshapeAttrs, tuple[()]]):
    """Input: x. Output: x under another shape. No code: the bytes are shared."""

    name = "Reshape"
    attrs = ReshapeAttrs
    alias = True
    same_scale = True

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        x, shape = inputs[0], tuple(node.attrs.shape)
        if x is None or prod(shape) != x.elements:
            have = "nothing" if x is None else list(x.shape)
            raise UnsupportedError(str(node), f"{have} cannot take shape {list(shape)}", "re-export the model")
        return (shape,)

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [inputs[0].reshape(ctx.output.shape)]

    def lower(self, ctx: Context) -> tuple[()]:
        return ()

    def evaluate(self, ctx: Context, params: tuple[()], inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        return [inputs[0].reshape(ctx.output.shape)]

    def output_ranges(self, ctx: Context, params: tuple[()]) -> tuple[Interval, ...]:
        return (ctx.ranges[0],)
