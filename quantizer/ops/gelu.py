"""Gelu: x times the normal distribution function of x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intaglio.quantizer.ir import Attrs
from intaglio.quantizer.ops.base import register
from intaglio.quantizer.ops.lookup import EIGHT_BITS, UnaryOperator
from intaglio.quantizer.realmath import Arithmetic

_ROOT_OF_2_OVER_PI = 0.7978845608028654


@dataclass(frozen=True)
class GeluAttrs(Attrs):
    """approximate: by tanh."""

    approximate: bool = False


@register
class Gelu(UnaryOperator[GeluAttrs]):
    """Input: x. Output: x times the normal distribution function of x.

    Contract tflite: of 8 bits; LiteRT's table for int16 is what the platform's erfcf and tanhf give.
    """

    name = "Gelu"
    attrs = GeluAttrs
    litert = EIGHT_BITS

    def function(self, attrs: Any, x: Any, m: Arithmetic) -> Any:
        if attrs.approximate:
            inner = m.number(_ROOT_OF_2_OVER_PI) * (x + m.number(0.044715) * x * x * x)
            return m.number(0.5) * x * (1 + m.tanh(inner))
        return m.number(0.5) * x * m.erfc(x * -m.sqrt(m.number(0.5)))

    def example_attrs(self) -> list[Any]:
        return [GeluAttrs(), GeluAttrs(approximate=True)]
