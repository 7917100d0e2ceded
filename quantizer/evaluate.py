"""Accuracy of the integers against the reals, and where the difference arises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.quantizer.data import open_data
from intaglio.quantizer.ir import Graph
from intaglio.quantizer.passes.assign_types import int8_islands
from intaglio.quantizer.pipeline import Options, run_pipeline, run_until
from intaglio.quantizer.reference import Evaluator, Mode, dequantise, quantise, surviving


@dataclass(frozen=True)
class LayerNoise:
    """Signal-to-quantisation-noise ratio of one tensor, in dB; None when it has no noise or no signal."""

    tensor: str
    op: str
    db: float | None


@dataclass(frozen=True)
class Evaluation:
    """What `intaglio eval` prints.

    Attributes:
        samples: how many were evaluated; labelled: how many had labels.
        float_right, integer_right: how many were classified rightly; None without labels.
        float_mse, integer_mse: mean squared difference between first output and first input, where they have one
            shape (autoencoders); None otherwise.
        int8_islands: layers that compute in int8 under int16 activations, for want of a kernel.
        layers: noise of each tensor that both graphs have, over the channels that survive in the integer one.
    """

    samples: int
    labelled: int
    float_right: int | None
    integer_right: int | None
    float_mse: float | None
    integer_mse: float | None
    int8_islands: list[str]
    layers: list[LayerNoise]

    def headline(self) -> list[tuple[str, str]]:
        """(label, value) lines for people."""
        rows = []
        for kind, right in (("float", self.float_right), ("integer", self.integer_right)):
            if right is not None:
                rows.append((f"{kind} accuracy", f"{right / self.labelled:.4f} ({right} of {self.labelled})"))
        for kind, mse in (("float", self.float_mse), ("integer", self.integer_mse)):
            if mse is not None:
                rows.append((f"{kind} mean squared error", f"{mse:.6g}"))
        if self.int8_islands:
            rows.append(("in int8, for want of an int16 kernel", ", ".join(self.int8_islands)))
        return rows


def evaluate_model(path: Path, test: Path, options: Options, count: int | None = None) -> Evaluation:
    """Compile a model to integers and compare it with its real-valued meaning on samples.

    A model that arrives in float is compared with itself before quantisation; one that arrives quantised with its
    operators' real meaning.

    Raises:
        IntaglioError: see the subclasses.
    """
    real = run_until(path, options, "canonicalise")
    return evaluate_graphs(real, run_pipeline(path, options), test, count, options.pixels)


def evaluate_graphs(
    real: Graph, lowered: Graph, test: Path, count: int | None = None, pixels: tuple[float, float] = (0.0, 1.0)
) -> Evaluation:
    """Evaluate both graphs on the samples of a file or folder."""
    real_run, integer_run = Evaluator(real, Mode.REAL), Evaluator(lowered, Mode.INTEGER)
    shared = [(out, node.op) for node in lowered.nodes for out in node.outputs if out in real.types]
    signal = {name: [0.0, 0.0] for name, _ in shared}
    right, errors, labelled, samples = [0, 0], [0.0, 0.0], 0, 0
    same = real.types[real.outputs[0]].shape == real.types[real.inputs[0]].shape
    for sample, label in open_data(test, real, pixels).samples(count):
        samples += 1
        reals = real_run.run(sample)
        stored = [
            quantise(v, lowered.types[name]) if lowered.types[name].qparams else np.rint(v)
            for v, name in zip(sample, lowered.inputs, strict=True)
        ]
        integers = integer_run.run(stored)
        for name, _ in shared:
            meant = surviving(reals[name], name, lowered)
            difference = meant - dequantise(integers[name], lowered.types[name])
            signal[name][0] += float(np.sum(meant**2))
            signal[name][1] += float(np.sum(difference**2))
        pair: tuple[NDArray[Any], NDArray[Any]] = (reals[real.outputs[0]], integers[lowered.outputs[0]])
        if label is not None:
            labelled += 1
            for i, output in enumerate(pair):
                right[i] += int(int(np.argmax(output)) == label)
        if same:
            values = (pair[0], dequantise(pair[1], lowered.types[lowered.outputs[0]]))
            for i, value in enumerate(values):
                errors[i] += float(np.mean((value - sample[0].reshape(value.shape)) ** 2))
    layers = [
        LayerNoise(
            name, op, round(10 * float(np.log10(signal[name][0] / signal[name][1])), 2) if all(signal[name]) else None
        )
        for name, op in shared
    ]
    return Evaluation(
        samples,
        labelled,
        right[0] if labelled else None,
        right[1] if labelled else None,
        errors[0] / samples if same else None,
        errors[1] / samples if same else None,
        [f"{node.op} {node.name}" for node in int8_islands(lowered)],
        layers,
    )
