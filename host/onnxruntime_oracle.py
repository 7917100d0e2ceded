"""onnxruntime as an oracle of quantised ONNX models: the integers of every tensor that both sides know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import MissingToolError, ToolError
from intaglio.quantizer.frontends.onnx import translate
from intaglio.quantizer.frontends.onnx_values import Builder, Layout, Value
from intaglio.quantizer.ir import DType, Graph, TensorType

Array = NDArray[Any]
Observed = dict[str, Array]
"""One sample: our tensors, int64, of our shapes, all channels."""

INTEGER_KERNELS = ("QLinear", "QGemm")
"""How the names of operators begin that accumulate integers and rescale in binary32."""


@dataclass(frozen=True)
class Source:
    """Where onnxruntime has a tensor of ours.

    Attributes:
        value: name of the ONNX value.
        shape: of the ONNX value, and how ours is laid out.
        kind: of our tensor, with all channels.
        by: operator type of the ONNX node that makes the value; "" for an input of the model.
    """

    value: str
    shape: Value
    kind: TensorType
    by: str

    @property
    def integer_kernel(self) -> bool:
        """Whether the integers were rescaled, not quantised from a binary32 result."""
        return self.by.startswith(INTEGER_KERNELS)

    def ours(self, theirs: Array) -> Array:
        """onnxruntime's array as the integers of our tensor; reals are quantised as by QuantizeLinear, in binary32."""
        if theirs.dtype.kind == "f":
            scaled = np.rint(theirs.astype(np.float32) / np.float32(self.kind.scale)) + self.kind.zero_point
            theirs = np.clip(scaled, self.kind.dtype.low, self.kind.dtype.high)
        return stored(theirs.astype(np.int64), self.shape).reshape(self.kind.shape)

    def theirs(self, ours: Array, shape: Sequence[int], real: bool) -> Array:
        """An input of ours as onnxruntime's array: dequantised in binary32, as DequantizeLinear does, when `real`."""
        value = original(ours.reshape(self.kind.shape), self.shape).reshape(shape)
        if not real:
            return np.ascontiguousarray(value)
        centred = value.astype(np.int64) - self.kind.zero_point
        return np.ascontiguousarray(centred.astype(np.float32) * np.float32(self.kind.scale))


def stored(value: Array, shape: Value) -> Array:
    """From ONNX's order of elements to that of the stored tensor."""
    if shape.layout is Layout.LAST:
        return np.moveaxis(value.reshape(shape.shape), 1, -1)
    if shape.layout is Layout.FLAT and shape.image is not None:
        h, w, c = shape.image
        return np.moveaxis(value.reshape(-1, c, h, w), 1, -1)
    return value


def original(value: Array, shape: Value) -> Array:
    """The inverse of `stored`."""
    if shape.layout is Layout.LAST:
        n, c, *rest = shape.shape
        return np.moveaxis(value.reshape(n, *rest, c), -1, 1)
    if shape.layout is Layout.FLAT and shape.image is not None:
        return np.moveaxis(value.reshape(-1, *shape.image), -1, 1)
    return value


class Oracle:
    """An ONNX model of contract `onnx` in onnxruntime, every tensor of ours exposed that it knows.

    Args:
        path: the model.
        graph: as our frontend reads it, with all channels: tensors are found by the names that survived the passes.

    Attributes:
        sources: of each tensor found, where.
        real_biases: tensors of ours that are biases which the model holds as reals.
    """

    def __init__(self, path: Path, graph: Graph) -> None:
        try:
            import onnx
            import onnxruntime  # noqa: F401
        except ImportError:
            raise MissingToolError("onnxruntime", "not installed", "pip install onnxruntime") from None
        data = path.read_bytes()
        self.graph = graph
        self._model: Any = onnx.load_model_from_string(data)
        self._plain = [output.name for output in self._model.graph.output]
        builder, _ = translate(data, str(path))
        self.sources = find_sources(self._model.graph, builder, graph)
        self.real_biases = frozenset(name for name, kind in builder.types.items() if kind.dtype.is_float)
        self._ports = {name: builder.values[name] for name in graph.inputs}
        self._exposed = list(dict.fromkeys(s.value for s in self.sources.values() if s.by))
        self._model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in self._exposed if n not in self._plain)

    def run(self, samples: Sequence[Sequence[Array]], *, optimised: bool) -> Iterator[Observed]:
        """Run samples, in one thread.

        Args:
            samples: per sample one integer array per graph input.
            optimised: with the graph optimisations of a default session, which choose integer kernels for operators
                that are integer in the model. Without them every node is computed as it stands there: they would fuse
                QuantizeLinear and DequantizeLinear around a float operator into another arithmetic, and the tensors
                between them would be gone.

        Raises:
            ToolError: onnxruntime does not take the model, or exposing its tensors changes its outputs.
        """
        session, bare = self._session(optimised, exposed=True), self._session(optimised, exposed=False)
        for sample in samples:
            feeds = {}
            for port, value, name in zip(self._inputs(session), sample, self.graph.inputs, strict=True):
                real = port.type == "tensor(float)"
                shape = [n if isinstance(n, int) else 1 for n in port.shape]
                feeds[name] = Source(name, self._ports[name], self.graph.types[name], "").theirs(value, shape, real)
            named = [output.name for output in session.get_outputs()]
            values = dict(zip(named, _call(session.run, None, feeds), strict=True))
            for name, value in zip(self._plain, _call(bare.run, self._plain, feeds), strict=True):
                if not np.array_equal(value, values[name]):
                    raise ToolError("onnxruntime", f"'{name}' changes when tensors are exposed", "report this model")
            observed = dict(zip(self.graph.inputs, (np.asarray(v, np.int64) for v in sample), strict=True))
            observed = {n: v.reshape(self.graph.types[n].shape) for n, v in observed.items()}
            observed |= {n: s.ours(values[s.value]) for n, s in self.sources.items() if s.by}
            yield observed

    def _inputs(self, session: Any) -> list[Any]:
        ports = {port.name: port for port in session.get_inputs()}
        return [ports[name] for name in self.graph.inputs]

    def _session(self, optimised: bool, *, exposed: bool) -> Any:
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        if all(source.kind.dtype is not DType.INT8 for source in self.sources.values()):
            # x86 without VNNI: else products of uint8 and int8 saturate at 16 bits, which no definition allows. The
            # weights become uint8 for that, and kernels of int8 activations do not know those.
            options.add_session_config_entry("session.x64quantprecision", "1")
        model = self._model
        if not exposed:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            del model.graph.output[len(self._plain) :]
        data = model.SerializeToString()
        return _call(onnxruntime.InferenceSession, data, options, providers=["CPUExecutionProvider"])


def _call(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call onnxruntime, whose exceptions have no common base.

    Raises:
        ToolError: says what it said.
    """
    try:
        return function(*given, **named)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ToolError("onnxruntime", f"refuses the model: {said}", "compare with the definition instead") from error


def find_sources(model: Any, builder: Builder, graph: Graph) -> dict[str, Source]:
    """Find the ONNX value of each tensor of a graph.

    A tensor that is real in the model and read by a QuantizeLinear of our type is what that node makes. One that no
    QuantizeLinear reads (a moving operator stands between) is the real value, to be quantised as it would be.
    """
    makers = {out: node.op_type for node in model.node for out in node.output}
    makers |= {port.name: "" for port in model.input}
    quantised: dict[str, list[str]] = {}
    for node in model.node:
        if node.op_type == "QuantizeLinear":
            quantised.setdefault(node.input[0], []).append(node.output[0])
    names: dict[str, list[str]] = {}
    for value, made in builder.values.items():
        if value in makers:
            names.setdefault(made.tensor, []).append(value)
    sources: dict[str, Source] = {}
    for tensor in dict.fromkeys((*graph.inputs, *(out for node in graph.nodes for out in node.outputs))):
        kind = graph.types[tensor]
        for value in names.get(tensor, []):
            fits = [q for q in quantised.get(value, []) if builder.types[q].qparams == kind.qparams]
            found, by = (fits[0], "QuantizeLinear") if fits else (value, makers[value])
            known = sources.get(tensor)
            if known is None or (fits and known.by != "QuantizeLinear"):
                sources[tensor] = Source(found, builder.values[value], kind, by)
    return sources
