"""From the bytes of an ONNX file to a checked model all of whose operators have a translator."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

from intaglio.quantizer.errors import ModelError, UnsupportedError
from intaglio.quantizer.frontends.onnx_folds import FOLDS, short

DOMAINS = ("", "ai.onnx", "com.microsoft")

MAX_NODES = 10_000

RECURRENT = frozenset(("LSTM", "GRU", "RNN", "Scan", "Loop", "If", "SequenceMap"))


def parse(data: bytes, where: str, translated: Collection[str], onnx: Any) -> Any:
    """Return the ModelProto.

    An operator that is not supported is named before anything else is found fault with: exporters write operators
    that the model's opset does not have, and the checker then only says that the file is malformed.

    Args:
        data: the file's content.
        where: the file, for messages.
        translated: names of the operators that can be computed at run time.
        onnx: the package.

    Raises:
        ModelError: not an ONNX model, or malformed.
        UnsupportedError: an operator that is not supported; weights in other files; functions of the model's own.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise ModelError(where, f"is not an ONNX model ({short(error)})", "export the model again") from error
    if not model.graph.node:
        raise ModelError(where, "is not an ONNX model, or an empty one", "export the model again")
    if len(model.graph.node) > MAX_NODES:
        raise UnsupportedError(where, f"{len(model.graph.node)} nodes", "no microcontroller runs that many")
    try:
        readable = all(isinstance(name, str) for name in _names(model.graph))
    except UnicodeDecodeError:
        readable = False
    if not readable:
        raise ModelError(where, "holds a name that is not UTF-8", "export the model again")
    if model.functions:
        raise UnsupportedError(where, "holds functions of its own", "inline them with onnx.inliner")
    if any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in model.graph.initializer):
        raise UnsupportedError(where, "weights lie in other files", "save the model as one file")
    if model.graph.sparse_initializer:
        raise UnsupportedError(where, "holds sparse weights", "export the model with dense ones")
    _admit_operators(model.graph, where, translated)
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise ModelError(where, f"is malformed: {short(error)}", "export the model again") from error
    return model


def _names(graph: Any) -> Iterator[Any]:
    """Every name that is looked at; protobuf gives bytes, or an error, for what is not text."""
    for node in graph.node:
        yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
        yield from (a.name for a in node.attribute)
    for port in (*graph.input, *graph.output, *graph.initializer):
        yield port.name


def place(where: str, index: int, node: Any) -> str:
    """A node, for messages."""
    return f"{where}: {node.op_type} #{index}" + (f" '{node.name}'" if node.name else "")


def _admit_operators(graph: Any, where: str, translated: Collection[str]) -> None:
    """Refuse the first operator without a translator, unless it is a constant of the model."""
    known = {t.name for t in graph.initializer} | {""}
    for index, node in enumerate(graph.node):
        ours = node.domain in DOMAINS
        constant = all(name in known for name in node.input) and (bool(node.input) or node.op_type == "Constant")
        if constant or node.op_type == "Shape":
            known.update(node.output)
        if ours and (node.op_type in translated or (constant and node.op_type in FOLDS) or node.op_type == "Shape"):
            continue
        raise _refusal(graph.node, where, index, translated, foldable=ours and node.op_type in FOLDS)


def _refusal(nodes: Any, where: str, index: int, translated: Collection[str], *, foldable: bool) -> UnsupportedError:
    """The error about an operator: its name, place, neighbours and the nearest names."""
    node = nodes[index]
    op = node.op_type if node.domain in DOMAINS[:2] else f"{node.domain}.{node.op_type}"
    before = f"after {nodes[index - 1].op_type} #{index - 1}" if index else "first"
    after = f"before {nodes[index + 1].op_type} #{index + 1}" if index + 1 < len(nodes) else "last"
    what = f"operator {op} (node {index}, {before}, {after}) is not supported"
    at = place(where, index, node)
    if foldable:
        return UnsupportedError(at, f"{what} on values computed at run time", "re-export with constant shapes")
    if node.op_type in RECURRENT:
        return UnsupportedError(at, f"{what} yet", "recurrent layers and control flow come later")
    held = [t for t in sorted(translated, key=len, reverse=True) if len(t) > 3 and t in node.op_type]
    near = list(dict.fromkeys([*held, *get_close_matches(node.op_type, translated, 3, 0.6)]))[:3]
    return UnsupportedError(at, what, f"nearest: {', '.join(near)}" if near else "see docs/operators.md")
