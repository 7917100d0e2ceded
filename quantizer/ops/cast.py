"""Cast: integers in another integer type, as C converts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, DType, Graph, Node, TensorType
from intaglio.quantizer.ops.base import Context, Operator, Reals, Variant, elementwise_lead, limit, register
from intaglio.quantizer.ops.build import quantised, single


@dataclass(frozen=True)
class CastAttrs(Attrs):
    """None: the output's type says which."""


@register
class Cast(Operator[CastAttrs, tuple[()]]):
    """Input: x, any integer type without scale. Output: the same numbers, reduced modulo the type's range."""

    name = "Cast"
    attrs = CastAttrs
    variants = (Variant("portable", "cast.c.j2", lead=elementwise_lead),)

    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        if inputs[0] is None:
            raise UnsupportedError(str(node), "has no input", "re-export the model")
        return (inputs[0].shape,)

    @limit
    def integers(self, ctx: Context) -> bool:
        """Input and output are integers; a scale, where there is one, is the same on both sides."""
        x, out = ctx.input(0), ctx.output
        return not x.dtype.is_float and not out.dtype.is_float and x.qparams == out.qparams

    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        assert inputs[0] is not None
        return [inputs[0]]

    def lower(self, ctx: Context) -> tuple[()]:
        return ()

    def evaluate(self, ctx: Context, params: tuple[()], inputs: Sequence[Ints | None]) -> list[Ints]:
        assert inputs[0] is not None
        if ctx.output.dtype is DType.BOOL:
            return [(inputs[0] != 0).astype(np.int64)]
        return [inputs[0].astype(ctx.output.dtype.numpy).astype(np.int64)]

    def examples(self) -> Iterator[Graph]:
        kinds = ("int8", "uint8", "int16", "uint16", "int32")
        for i, source in enumerate(kinds):
            target = kinds[(i + 2) % len(kinds)]
            yield single(self.name, CastAttrs(), [quantised(source, (1, 7))], [(target, None, 0)])
