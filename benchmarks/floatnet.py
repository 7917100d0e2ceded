"""A network over the reals, read from a quantised TFLite file independently of the compiler that is measured.

Only what the benchmark's networks use: convolutions, fully connected, add, average pooling, reshape, softmax.
Tensors are NHWC; weights are dequantised to binary32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intaglio.quantizer.errors import ModelError, UnsupportedError

Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]

# The fused activations of TFLite as bounds.
_BOUNDS = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


@dataclass(frozen=True)
class Port:
    """An input or output of the network, quantised at the interface: real = scale * (integer - zero_point)."""

    tensor: int
    shape: Shape
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Layer:
    """One operation.

    Attributes:
        kind: `conv`, `depthwise`, `dense`, `add`, `average`, `softmax` or `reshape`.
        inputs: tensor ids; output: tensor id.
        weights: conv (O, kh, kw, I), depthwise (1, kh, kw, O), dense (O, K); else None.
        window, stride, dilation: rows, columns; pads: rows above, columns left.
        bounds: of the fused activation.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    weights: Floats | None = None
    bias: Floats | None = None
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    bounds: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class FloatNet:
    """Layers in execution order; `shapes` of all tensors by id."""

    layers: tuple[Layer, ...]
    shapes: dict[int, Shape]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_tflite(path: Path) -> FloatNet:
    """Read a quantised TFLite model.

    Raises:
        ModelError: not a TFLite file.
        UnsupportedError: an operator outside the list above, or an interface that is not quantised.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ModelError(str(path), "is not a TFLite file", "give one of the benchmark's models")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    shapes = {i: tuple(int(d) for d in tensor.shape) for i, tensor in enumerate(graph.tensors)}
    layers = []
    for number, op in enumerate(graph.operators):
        code = model.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        reader = _READERS.get(name)
        if reader is None:
            raise UnsupportedError(f"{path.name}: {name} #{number}", "is not in the float baseline", "leave it out")
        layers.append(reader(model, op, shapes))
    return FloatNet(
        tuple(layers),
        shapes,
        tuple(_port(graph.tensors[i], int(i), path) for i in graph.inputs),
        tuple(_port(graph.tensors[i], int(i), path) for i in graph.outputs),
    )


def _port(tensor: Any, index: int, path: Path) -> Port:
    dtypes = {3: "uint8", 9: "int8", 7: "int16"}
    q = tensor.quantization
    if tensor.type not in dtypes or q is None or q.scale is None:
        raise UnsupportedError(f"{path.name}: {tensor.name.decode()}", "is not quantised", "give an int8 model")
    shape = tuple(int(d) for d in tensor.shape)
    return Port(index, shape, dtypes[tensor.type], float(q.scale[0]), int(q.zeroPoint[0]))


def _constant(model: Any, index: int) -> Floats | None:
    """A weight or bias, dequantised; None for an absent bias."""
    if index < 0:
        return None
    tensor = model.subgraphs[0].tensors[index]
    raw = np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes()
    dtype = {0: np.float32, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}[tensor.type]
    values = np.frombuffer(raw, dtype).reshape([int(d) for d in tensor.shape])
    if dtype is np.float32:
        return values
    q = tensor.quantization
    scale, zero = np.asarray(q.scale, np.float64), np.asarray(q.zeroPoint, np.float64)
    if scale.size > 1:
        view = [1] * values.ndim
        view[q.quantizedDimension] = scale.size
        scale, zero = scale.reshape(view), zero.reshape(view)
    return (scale * (values - zero)).astype(np.float32)


def _pads(options: Any, size: Shape, out: Shape, window: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Rows above and columns left of SAME padding; zero for VALID."""
    if options.padding == 1:
        return (0, 0)
    pads = []
    for axis, stride in ((0, options.strideH), (1, options.strideW)):
        reach = (out[1 + axis] - 1) * stride + (window[axis] - 1) * dilation[axis] + 1
        pads.append(max(0, reach - size[1 + axis]) // 2)
    return (pads[0], pads[1])


def _window(kind: str) -> Callable[[Any, Any, dict[int, Shape]], Layer]:
    def read(model: Any, op: Any, shapes: dict[int, Shape]) -> Layer:
        o, x, y = op.builtinOptions, int(op.inputs[0]), int(op.outputs[0])
        weights = bias = None
        dilation = (1, 1)
        if kind == "average":
            window = (o.filterHeight, o.filterWidth)
        else:
            weights, bias = _constant(model, op.inputs[1]), _constant(model, op.inputs[2])
            assert weights is not None
            window = (weights.shape[1], weights.shape[2])
            dilation = (o.dilationHFactor, o.dilationWFactor)
        return Layer(
            kind,
            (x,),
            y,
            weights,
            bias,
            window,
            (o.strideH, o.strideW),
            dilation,
            _pads(o, shapes[x], shapes[y], window, dilation),
            _BOUNDS[o.fusedActivationFunction],
        )

    return read


def _dense(model: Any, op: Any, shapes: dict[int, Shape]) -> Layer:
    return Layer(
        "dense",
        (int(op.inputs[0]),),
        int(op.outputs[0]),
        _constant(model, op.inputs[1]),
        _constant(model, op.inputs[2]),
        bounds=_BOUNDS[op.builtinOptions.fusedActivationFunction],
    )


def _add(model: Any, op: Any, shapes: dict[int, Shape]) -> Layer:
    a, b = (int(i) for i in op.inputs)
    if shapes[a] != shapes[b]:
        raise UnsupportedError("ADD", "broadcasts, which the float baseline does not", "leave it out")
    return Layer("add", (a, b), int(op.outputs[0]), bounds=_BOUNDS[op.builtinOptions.fusedActivationFunction])


def _plain(kind: str) -> Callable[[Any, Any, dict[int, Shape]], Layer]:
    return lambda model, op, shapes: Layer(kind, (int(op.inputs[0]),), int(op.outputs[0]))


_READERS: dict[str, Callable[[Any, Any, dict[int, Shape]], Layer]] = {
    "CONV_2D": _window("conv"),
    "DEPTHWISE_CONV_2D": _window("depthwise"),
    "AVERAGE_POOL_2D": _window("average"),
    "FULLY_CONNECTED": _dense,
    "ADD": _add,
    "RESHAPE": _plain("reshape"),
    "SOFTMAX": _plain("softmax"),
}
