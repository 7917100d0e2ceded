"""What an operator is: one class in one module of this folder, and one C template.

An operator states, and is the only place that states,
  attrs      its attributes, a frozen dataclass
  infer      its shape rule
  reference  its meaning over the reals, in float64
  lower      the integers that the device needs, with the proof that they are enough
  evaluate   its meaning over those integers: the integer reference, equal to the C to the bit
  define     its meaning by contract, in exact arithmetic, from the stored integers and scales alone
  limits     methods marked @limit: what is refused; the docstring is the message and the documentation
  variants   its C kernels: template, what the core must have, scratch, and how input and output may overlap
  examples   graphs of one node that the tests sweep
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.errors import UnsupportedError
from intaglio.quantizer.fixedpoint import Ints
from intaglio.quantizer.ir import Attrs, Contract, Graph, Node, QParams, TensorType, Variable
from intaglio.quantizer.requant import Interval

A = TypeVar("A", bound=Attrs)
P = TypeVar("P")
Reals = NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., bool])


@dataclass(frozen=True, eq=False)
class Context:
    """What an operator may look at when it is lowered, defined or measured: its node and the tensors around it.

    Attributes:
        node: the node.
        inputs: types of node.inputs; None for an absent optional input.
        outputs: types of node.outputs.
        constants: values of the inputs that are constant, by position.
        ranges: the integers that each input can hold, by position; the dtype's range unless proven smaller.
        contract: of the graph.
        state: the variable that attrs.variable or attrs.state_variable names.
    """

    node: Node
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    constants: Mapping[int, NDArray[Any]]
    ranges: Mapping[int, Interval]
    contract: Contract
    state: Variable | None = None

    def input(self, index: int) -> TensorType:
        """The type of an input that must be there."""
        kind = self.inputs[index] if index < len(self.inputs) else None
        if kind is None:
            raise UnsupportedError(str(self.node), f"input {index} is missing", "re-export the model")
        return kind

    @property
    def output(self) -> TensorType:
        """The type of the only output."""
        return self.outputs[0]

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def integers(self, index: int) -> Ints:
        """A constant input as int64."""
        return self.constants[index].astype(np.int64)


def context(graph: Graph, node: Node, ranges: Mapping[str, Interval] | None = None) -> Context:
    """Gather a node's context from its graph."""
    ranges = ranges or {}
    inputs = tuple(graph.types[name] if name else None for name in node.inputs)
    return Context(
        node=node,
        inputs=inputs,
        outputs=tuple(graph.types[name] for name in node.outputs),
        constants={i: graph.constants[name] for i, name in enumerate(node.inputs) if name in graph.constants},
        ranges={
            i: ranges.get(name, (kind.dtype.low, kind.dtype.high))
            for i, (name, kind) in enumerate(zip(node.inputs, inputs, strict=True))
            if kind is not None and not kind.dtype.is_float
        },
        contract=graph.contract or Contract.EXACT,
        state=graph.variables.get(
            getattr(node.attrs, "variable", None) or getattr(node.attrs, "state_variable", None) or ""
        ),
    )


@dataclass(frozen=True, eq=False)
class Kernel:
    """What a template and the planner see of a lowered node.

    Attributes:
        node, attrs, params: of the operator.
        inputs: types of node.inputs (None where absent).
        outputs: types of node.outputs.
        constants: values of constant inputs, by position.
        contract: of the graph.
        backwards: the kernel has to run from the last element to the first.
        tail: what is done to each element before it is stored; None: nothing.
    """

    node: Node
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    constants: Mapping[int, NDArray[Any]]
    contract: Contract = Contract.EXACT
    backwards: bool = False
    tail: Tail | None = None

    @property
    def attrs(self) -> Any:
        return self.node.attrs

    @property
    def params(self) -> Any:
        return self.node.params

    @property
    def x(self) -> TensorType:
        """The type of input 0."""
        return cast(TensorType, self.inputs[0])

    @property
    def y(self) -> TensorType:
        """The type of output 0."""
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class Tail:
    """An elementwise node of two inputs that runs within the kernel of the node before it.

    The kernel's own output is not stored: each element of it meets the element of the other input at the same place.

    Attributes:
        kernel: of the elementwise node.
        variant: its, with `is_tail`.
        operand: the input that the kernel before it makes.
        distance: from where an element is stored to that of the other input, in elements; known once memory is planned.
    """

    kernel: Kernel
    variant: Variant
    operand: int
    distance: int = 0


def _no_scratch(kernel: Kernel) -> int:
    return 0


def _disjoint(kernel: Kernel) -> tuple[int | None, ...]:
    return (None,) * len(kernel.inputs)


def _always(kernel: Kernel) -> bool:
    return True


@dataclass(frozen=True)
class Variant:
    """One C kernel of an operator.

    Attributes:
        name: short; shown in the manifest and in comments.
        template: file in codegen/templates with the macros `function(k, fn)` and `call(k, fn, x, y, scratch)`.
        requires: features the core must have, of: thumb2, long_multiply, dsp, mve.
        accepts: whether the kernel can do this node.
        scratch: bytes of working memory beside input and output, 4-byte aligned.
        lead: per input, by how many bytes the output must start before that input for the kernel to be safe
            while they overlap (0: in place; negative: the output may start after it); None: they must be
            disjoint. Valid for an input that is dead after this node.
        lag: the same for a kernel that can run backwards: by how many bytes the output must start after the
            input; the planner then decides, and `Kernel.backwards` tells the template. None: it cannot.
        tail_pixels: the kernel can end in a `Kernel.tail`; it stores the pixels (all that shares all indices but the
            last) in order, so many neighbours together: their first channels, their second ones and so on, and
            reads what the tail needs for those just before it stores them. 0: it cannot.
        is_tail: the kernel can be a `Tail`: the template has the further macros of `sum_of_two.c.j2`.
    """

    name: str
    template: str
    requires: frozenset[str] = frozenset()
    accepts: Callable[[Kernel], bool] = _always
    scratch: Callable[[Kernel], int] = _no_scratch
    lead: Callable[[Kernel], tuple[int | None, ...]] = _disjoint
    lag: Callable[[Kernel], tuple[int | None, ...]] = _disjoint
    tail_pixels: int = 0
    is_tail: bool = False


def elementwise_lead(kernel: Kernel) -> tuple[int | None, ...]:
    """In place over every input with as many elements as the output, each at least as wide as it."""
    return tuple(
        0 if t is not None and t.elements == kernel.y.elements and t.dtype.bytes >= kernel.y.dtype.bytes else None
        for t in kernel.inputs
    )


def streaming_lead(write_end: Ints, read_from: Ints) -> int:
    """Return the lead of a kernel that runs in steps.

    Args:
        write_end: for each step, the output bytes finished by its end: int64 (steps,), ascending.
        read_from: for each step, the lowest input byte that it reads: int64 (steps,).

    A write of step t destroys input that steps after t still need unless output_start + write_end[t] is at
    most input_start + min(read_from[t+1:]).
    """
    if len(write_end) < 2:
        return 0
    later = np.minimum.accumulate(read_from[::-1])[::-1]
    # A step reads all it needs before it writes, so only what later steps read binds it.
    return int(np.max(write_end[:-1] - later[1:]))


def tail_overlap(kernel: Kernel, pixels: int) -> tuple[int, int]:
    """Return lead and lag over the other input of a kernel's tail, in bytes; at distance 0 the two may always lie.

    An element of the other input is read once, just before the element of the output at its place is stored, so in
    place nothing is lost. Elsewhere a store destroys an element read before it, unless that belongs to the same
    `pixels` neighbours and to a later channel: of an earlier pixel when the output lies before the input; of the same
    or an earlier pixel when it lies after it and the kernel runs backwards.
    """
    channels = kernel.y.shape[-1]
    if channels == 1:
        return 0, 0
    size = channels * kernel.y.dtype.bytes
    together = min(pixels, kernel.y.elements // channels)
    return (together - 1) * size, together * size


def limit(method: F) -> F:
    """Mark a method (self, ctx) -> bool as a limit: true when the node is within it.

    Its docstring states the limit as the user reads it, in an error and in docs/operators.md: a phrase that
    completes "must hold: ...".
    """
    method.__dict__["is_limit"] = True
    return method


class Operator(ABC, Generic[A, P]):
    """One operator; see the module's docstring. Stateless; one instance each, in the registry."""

    name: ClassVar[str]
    """As nodes spell it: CamelCase."""
    attrs: ClassVar[type[Attrs]]
    variants: ClassVar[tuple[Variant, ...]] = ()
    """Best first; the last is portable C. Empty for operators that need no code."""
    alias: ClassVar[bool] = False
    """Output 0 is input 0 under another shape: no code, same bytes."""
    same_scale: ClassVar[bool] = False
    """Moves values without changing them: output and input 0 must share scale and zero point, so the
    quantiser gives them one."""

    @abstractmethod
    def infer(self, node: Node, inputs: Sequence[TensorType | None]) -> tuple[tuple[int, ...], ...]:
        """Return the outputs' shapes.

        Raises:
            UnsupportedError: the inputs' shapes do not fit together.
        """

    @abstractmethod
    def reference(self, ctx: Context, inputs: Sequence[Reals | None]) -> list[Reals]:
        """Evaluate over the reals, in float64; constants are among the inputs."""

    @abstractmethod
    def lower(self, ctx: Context) -> P:
        """Return the integers that the device needs.

        Raises:
            ProofError: an accumulator or a requantisation cannot be proven exact.
        """

    @abstractmethod
    def evaluate(self, ctx: Context, params: P, inputs: Sequence[Ints | None]) -> list[Ints]:
        """Evaluate over integers with the device's arithmetic; int64 in and out, constants among the inputs."""

    def define(self, ctx: Context, inputs: Sequence[Ints | None]) -> list[Ints]:
        """Evaluate by the contract's definition: exact rational arithmetic on the stored integers and scales.

        Operators that move integers, and those whose integer algorithm is the definition (docs/numerics.md),
        keep this default.
        """
        return self.evaluate(ctx, self.lower(ctx), inputs)

    def output_ranges(self, ctx: Context, params: P) -> tuple[Interval, ...]:
        """Return the integers that each output can hold; override where they are provably fewer."""
        return tuple((t.dtype.low, t.dtype.high) for t in ctx.outputs)

    def macs(self, ctx: Context) -> int:
        """Multiply-accumulates of one evaluation."""
        return 0

    def output_qparams(self, ctx: Context) -> tuple[QParams, ...] | None:
        """The scales that the operator dictates to its outputs when the quantiser chooses (softmax: 1/256);
        None where calibration decides."""
        return None

    def examples(self) -> Iterator[Graph]:
        """Yield quantised graphs of one node over the attributes, shapes, scales and contracts that matter."""
        return iter(())

    def limits(self) -> list[Callable[[Context], bool]]:
        """The methods marked @limit, in source order."""
        names = [n for cls in reversed(type(self).__mro__) for n, m in vars(cls).items() if getattr(m, "is_limit", 0)]
        return [getattr(self, name) for name in dict.fromkeys(names)]

    def check(self, ctx: Context) -> None:
        """Raise the first limit that a node is outside of.

        Raises:
            UnsupportedError: names the node and the limit.
        """
        for method in self.limits():
            if not method(ctx):
                text = " ".join((method.__doc__ or method.__name__).split()).rstrip(".")
                raise UnsupportedError(
                    str(ctx.node), f"must hold: {text}", "change the model, or see docs/operators.md"
                )


@dataclass
class Registry:
    """The operators by name; `quantizer.ops.registry()` fills it by importing every module of the folder."""

    operators: dict[str, Operator[Any, Any]] = field(default_factory=dict)

    def register(self, cls: type[Operator[Any, Any]]) -> type[Operator[Any, Any]]:
        """Class decorator."""
        self.operators[cls.name] = cls()
        return cls


REGISTRY = Registry()
register = REGISTRY.register
