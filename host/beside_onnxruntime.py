"""Compare a quantised ONNX model with onnxruntime layer by layer, and explain each difference.

Every layer of ours is given onnxruntime's own inputs, so that what differs there begins there: an origin. It is
explained when binary32, in which onnxruntime computes, cannot tell the exact value from the tie that lies between the
two integers (`host.binary32`); every other one is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.host.binary32 import Layer, Reach, Reaches, reaches, saturated
from intaglio.host.onnxruntime_oracle import Observed, Oracle
from intaglio.quantizer import ops
from intaglio.quantizer.errors import IntaglioError, ToolError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Graph, Node, TensorType
from intaglio.quantizer.ops.base import context
from intaglio.quantizer.passes.lower import lower
from intaglio.quantizer.pipeline import Options, run_until
from intaglio.quantizer.reference import Evaluator, Mode, surviving

Array = NDArray[Any]
Index = tuple[int, ...]


@dataclass
class LayerRow:
    """One layer over all samples.

    Attributes:
        layer, op, source: name, operator, and the node of the model.
        elements: how many integers were compared.
        differ, explained: how many differ on onnxruntime's own inputs, and how many of those are explained.
        nearest_tie: how far the exact value lies from the tie, in steps of the output: of the explained difference
            that needs the largest part of its bound. None without a difference.
        bound: how far binary32 may be off there.
        fault: the first difference that is not explained.
    """

    layer: str
    op: str
    source: str
    elements: int = 0
    differ: int = 0
    explained: int = 0
    nearest_tie: float | None = None
    bound: float | None = None
    fault: str | None = None


@dataclass
class Comparison:
    """A model beside one kind of session of onnxruntime.

    Attributes:
        session: of onnxruntime.
        samples: how many.
        layers: those compared, in order.
        not_compared: those that onnxruntime does not have under a name that both sides know.
        outputs, outputs_differ: integers of the model's outputs, and how many of them differ at the end.
        fault: what is not explained; None when all is.
        skipped: why nothing was compared; None when it was.
    """

    session: str
    samples: int = 0
    layers: list[LayerRow] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    outputs: int = 0
    outputs_differ: int = 0
    fault: str | None = None
    skipped: str | None = None

    @property
    def elements(self) -> int:
        return sum(row.elements for row in self.layers)

    @property
    def origins(self) -> int:
        """How many integers differ on equal inputs."""
        return sum(row.differ for row in self.layers)

    def facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "elements": self.elements, "origins": self.origins}


def beside_onnxruntime(
    path: Path, graph: Graph, samples: Sequence[Sequence[Array]], done: Callable[[str], None] = lambda route: None
) -> Iterator[Comparison]:
    """Yield a comparison per session: without graph optimisations; of models with integer operators, the default too.

    Args:
        path: the model, QDQ or QOperator.
        graph: compiled from it.
        samples: per sample one integer array per input.
        done: called with the name of each comparison when it begins.
    """
    plain = "onnxruntime without graph optimisations"
    try:
        judge = _Judge(path, graph)
    except IntaglioError as error:
        # Not installed; or the model as it was read, dead channels and all, is beyond what can be proven.
        yield Comparison(plain, skipped=f"{error.what}: {error.hint}")
        return
    integer = any(source.integer_kernel for source in judge.oracle.sources.values())
    for optimised, session in ((False, plain), (True, "onnxruntime by default"))[: 1 + integer]:
        done(session)
        try:
            yield judge.compare(session, samples, optimised=optimised)
        except ToolError as error:
            yield Comparison(session, skipped=error.what)


class _Judge:
    """A compiled graph beside the model as it was read, all channels alive: of that one the bounds are taken."""

    def __init__(self, path: Path, graph: Graph) -> None:
        self.graph = graph
        self.whole = lower(run_until(path, Options(), "canonicalise"))
        self.oracle = Oracle(path, self.whole)
        self.made_by = self.whole.producers()
        self.upstream = {out: _upstream(graph, out) for out in graph.outputs}

    def compare(self, session: str, samples: Sequence[Sequence[Array]], *, optimised: bool) -> Comparison:
        """Compare all samples.

        Raises:
            ToolError: onnxruntime does not take the model.
        """
        rows = {n.name: LayerRow(n.name, n.op, n.source) for n in self.graph.nodes if self._mapped(n)}
        result = Comparison(session, layers=list(rows.values()))
        known = self._known()
        result.not_compared = [str(n) for n in self.graph.nodes if not known.issuperset(n.outputs)]
        defined, integer = Evaluator(self.graph, Mode.DEFINED), Evaluator(self.graph, Mode.INTEGER)
        for number, (sample, observed) in enumerate(
            zip(samples, self.oracle.run(samples, optimised=optimised), strict=True)
        ):
            given = self._narrowed(observed)
            computed = defined.run(sample, given)
            origins = self._layers(rows, sample, observed, given, computed, number)
            ours = integer.run(sample)
            result.samples += 1
            for out in self.graph.outputs:
                theirs = given.get(out, computed[out])
                differ = int(np.count_nonzero(ours[out] != theirs))
                result.outputs += theirs.size
                result.outputs_differ += differ
                # By induction over the layers: equal inputs, and no origin, make equal outputs.
                if differ and known.issuperset(self.graph.outputs) and not origins & self.upstream[out]:
                    result.fault = f"output '{out}' of sample {number} differs, and no layer before it does"
        missing = [out for out in self.graph.outputs if out not in known]
        result.fault = next((row.fault for row in rows.values() if row.fault), result.fault)
        if missing and result.fault is None:
            result.fault = f"onnxruntime's value of output '{missing[0]}' is not known"
        return result

    def _mapped(self, node: Node) -> bool:
        return bool(node.outputs) and all(out in self.oracle.sources for out in node.outputs)

    def _known(self) -> set[str]:
        """Tensors whose integers onnxruntime gives, or that only move such."""
        known = {*self.graph.inputs, *self.graph.constants, *self.oracle.sources}
        for node in self.graph.nodes:
            op = ops.operator(node.op)
            moves = op.alias or (op.same_scale and node.op != "Resize")
            if moves and known.issuperset(name for name in node.inputs if name):
                known.update(node.outputs)
        return known

    def _narrowed(self, observed: Observed) -> dict[str, Array]:
        """onnxruntime's integers of the tensors and channels that the compiled graph kept."""
        graph = self.graph
        return {
            name: surviving(value, name, graph).reshape(graph.types[name].shape)
            for name, value in observed.items()
            if name in graph.types
        }

    def _layers(
        self,
        rows: dict[str, LayerRow],
        sample: Sequence[Array],
        observed: Observed,
        given: dict[str, Array],
        computed: dict[str, Array],
        number: int,
    ) -> set[str]:
        """Count one sample into the rows; return the names of the layers where a difference begins."""
        origins = set()
        for node in self.graph.nodes:
            if node.name not in rows:
                continue
            row = rows[node.name]
            for out in node.outputs:
                row.elements += given[out].size
                places = np.argwhere(given[out] != computed[out])
                if not len(places):
                    continue
                origins.add(node.name)
                ours = _reaches(self.graph, node, {**computed, **given})
                model = self._model_reaches(out, sample, observed)
                for place in places:
                    index = tuple(int(i) for i in place)
                    theirs, mine = int(given[out][index]), int(computed[out][index])
                    where = f"{node} sample {number} element {list(index)}: {mine}, onnxruntime {theirs}"
                    self._judge(row, out, index, (mine, theirs), where, ours, model)
        return origins

    def _model_reaches(self, out: str, sample: Sequence[Array], observed: Observed) -> Reaches | None:
        """The bounds of the model's own layer, whose channels are all alive."""
        node = self.made_by.get(out)
        if node is None:
            return None
        values = observed
        if not observed.keys() >= set(self.whole.runtime_inputs(node)):
            values = {**Evaluator(self.whole, Mode.DEFINED).run(sample, observed), **observed}
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        return _reaches(
            self.whole,
            node,
            values,
            integer_kernel=self.oracle.sources[out].integer_kernel,
            real_bias=bias in self.oracle.real_biases,
        )

    def _judge(
        self,
        row: LayerRow,
        out: str,
        index: Index,
        integers: tuple[int, int],
        where: str,
        ours: Reaches | None,
        model: Reaches | None,
    ) -> None:
        row.differ += 1
        if ours is None or model is None:
            row.fault = row.fault or f"UNEXPLAINED at {where}; no bound of binary32 is stated for {row.op} there"
            return
        live = self.graph.live.get(out)
        bounds = model(index if live is None else (*index[:-1], live[index[-1]]))
        reach = Reach(ours(index).value, bounds.below, bounds.above, bounds.own)
        distance, bound, explained = weigh(reach, *integers, self.graph.types[out])
        if not explained:
            row.fault = row.fault or (
                f"UNEXPLAINED at {where}; exact value {float(reach.value):.9g} steps from zero point, "
                f"{float(distance):.3g} from the tie, binary32 is off by at most {float(bound):.3g}"
            )
            return
        row.explained += 1
        if (
            row.bound is None
            or row.nearest_tie is None
            or distance * Fraction(row.bound) > Fraction(row.nearest_tie) * bound
        ):
            row.nearest_tie, row.bound = float(distance), float(bound)


def weigh(reach: Reach, ours: int, theirs: int, kind: TensorType) -> tuple[Fraction, Fraction, bool]:
    """Whether binary32 may have made one integer of a value of which the definition makes another.

    Args:
        reach: of the element.
        ours, theirs: the integers of the definition and of onnxruntime.
        kind: of the tensor.

    Returns:
        How far the value lies from the tie beyond which it becomes theirs, how far binary32 may be off on that side,
        and whether both integers are accounted for.
    """
    zero = kind.zero_point

    def rounded(value: Fraction) -> int:
        return min(max(round(value) + zero, kind.dtype.low), kind.dtype.high)

    up = theirs > ours
    half = Fraction(1, 2)
    distance = (theirs - zero - half) - reach.value if up else reach.value - (theirs - zero + half)
    possible = rounded(reach.value - reach.below) <= theirs <= rounded(reach.value + reach.above)
    inside = saturated(reach.value, kind)
    defined = rounded(inside - reach.own) <= ours <= rounded(inside + reach.own)
    return distance, reach.above if up else reach.below, possible and defined


def _reaches(
    graph: Graph, node: Node, values: dict[str, Array], *, integer_kernel: bool = False, real_bias: bool = False
) -> Reaches | None:
    def stored(name: str) -> Ints | None:
        if not name:
            return None
        return np.asarray(graph.constants[name] if name in graph.constants else values[name], np.int64)

    inputs = [stored(name) for name in node.inputs]
    return reaches(Layer(ops.operator(node.op), context(graph, node), inputs, integer_kernel, real_bias))


def _upstream(graph: Graph, tensor: str) -> set[str]:
    """The names of the nodes that a tensor depends on."""
    needed, names = {tensor}, set()
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            names.add(node.name)
            needed.update(node.inputs)
    return names
