"""Constants of an ONNX file: stored tensors, attributes, and nodes whose inputs are all known."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import IntaglioError, ModelError, UnsupportedError
from intaglio.quantizer.frontends.onnx_values import MAX_ELEMENTS, REALS, Builder, Constant

FOLDS = frozenset(
    (
        *("Constant", "ConstantOfShape", "Shape", "Size", "Range", "Expand", "Tile", "Where", "Trilu", "EyeLike"),
        *("Cast", "CastLike", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not"),
        *("Mod", "Sign", "ReduceProd", "CumSum", "GatherND", "GatherElements", "ScatterND", "OneHot", "NonZero"),
    )
)
"""Operators that only occur among constants, beside those that have a translator."""


def short(error: Exception) -> str:
    """An exception of a library in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def array(where: str, tensor: Any, onnx: Any) -> NDArray[Any]:
    """The value of a TensorProto.

    Raises:
        ModelError: data and shape do not fit together.
        UnsupportedError: neither integers nor reals, or they lie in another file.
    """
    where = f"{where}: '{tensor.name}'" if tensor.name else where
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise UnsupportedError(where, "lies in another file", "save the model as one file")
    if any(d < 0 for d in tensor.dims) or prod(tensor.dims) > MAX_ELEMENTS:
        raise ModelError(where, f"shape {list(tensor.dims)[:8]}", "no microcontroller holds such a tensor")
    try:
        value = np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(where, f"is malformed ({short(error)})", "export it again") from error
    if not _is_number(value.dtype):
        raise UnsupportedError(where, f"type {value.dtype}", "integers and floats are supported")
    return value


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iub" or str(dtype) in REALS


def attribute(where: str, given: Any, onnx: Any) -> Any:
    """The value of an attribute: number, text, list or array.

    Raises:
        ModelError: its type is unknown, or it is not a finite number (the bounds of a Clip may be infinite).
        UnsupportedError: it is a tensor of a type that is not supported.
    """
    try:
        value = onnx.helper.get_attribute_value(given)
    except Exception as error:
        raise ModelError(where, f"attribute '{given.name}' is malformed ({short(error)})", "export it again") from error
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto):
        return array(where, value, onnx)
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if any(isinstance(v, float) and not isfinite(v) for v in numbers) and (
        given.name not in ("min", "max") or value != value
    ):
        raise ModelError(where, f"attribute '{given.name}' is {value}", "export the model again")
    return value


def fold(b: Builder, where: str, node: Any, opsets: Sequence[Any], onnx: Any) -> None:
    """Evaluate a node of constants with onnx's own reference implementation.

    Raises:
        ModelError: it cannot be evaluated.
        UnsupportedError: its result is too large, or neither integers nor reals.
    """
    feeds = {n: b.constants[n].data for n in dict.fromkeys(node.input) if n}
    helper = onnx.helper
    single = helper.make_model(
        helper.make_graph(
            [node],
            "constant",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for n, v in feeds.items()
            ],
            [onnx.ValueInfoProto(name=o) for o in node.output if o],
        ),
        opset_imports=opsets,
    )
    try:
        b.spend(8 * _elements(single, feeds, onnx))
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            results: Any = ReferenceEvaluator(single).run(None, feeds)
    except IntaglioError:
        raise
    except Exception as error:
        raise ModelError(where, f"constant cannot be evaluated ({short(error)})", "export it again") from error
    for name, result in zip([o for o in node.output if o], results, strict=True):
        value = np.asarray(result)
        if not _is_number(value.dtype):
            raise UnsupportedError(where, f"makes a constant of type {value.dtype}", "export the model again")
        b.constants[name] = Constant(value)


def _elements(single: Any, feeds: dict[str, NDArray[Any]], onnx: Any) -> int:
    """How many elements a node will make."""
    # Values that decide shapes are small; the rest need not be copied.
    for name, value in feeds.items():
        if value.size <= 64:
            single.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True)
    del single.graph.initializer[:]
    total = 0
    for port in inferred.graph.output:
        dims = port.type.tensor_type.shape.dim
        if port.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            total += prod(d.dim_value for d in dims)
        else:
            # What has no shape beforehand (NonZero) gives at most an index per axis and element.
            total += sum(max(v.ndim, 1) * v.size for v in feeds.values())
    return total
