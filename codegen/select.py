"""Which C kernel a node gets on a core: the one line of choice."""

from __future__ import annotations

from intaglio.boards.cores import Core
from intaglio.quantizer import ops
from intaglio.quantizer.ops.base import Kernel, Variant


def features(core: Core) -> frozenset[str]:
    """The features of a core that a kernel variant may require."""
    return frozenset(f for f in ("thumb2", "long_multiply", "dsp", "mve") if getattr(core, f))


def select(kernel: Kernel, core: Core) -> Variant:
    """Return the first variant of the node's operator that the core can run and that accepts the node."""
    have = features(core)
    variants = ops.operator(kernel.node.op).variants
    return next(v for v in variants if v.requires <= have and v.accepts(kernel))
