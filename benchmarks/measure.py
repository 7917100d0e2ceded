"""Measure one network on one core, as generated and in software float."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from float_baseline import write_baseline
from floatnet import FloatNet, read_tflite

from intaglio.boards.cores import Core
from intaglio.codegen.compile import compile_model
from intaglio.host.cyclemodel import estimate
from intaglio.host.elfscan import scan_elf
from intaglio.host.footprint import measure
from intaglio.host.simcore import run_on_core
from intaglio.quantizer.errors import UsageError

Array = npt.NDArray[np.generic]

# Software float is built at each, and the faster one counts; a library is built with its own flags.
FLOAT_LEVELS = ("-O2", "-O3")


@dataclass(frozen=True)
class Network:
    """A benchmark network: its key in `peers.toml` and its file below the models folder."""

    key: str
    title: str
    file: str
    macs: str


NETWORKS = (
    Network("kws", "KWS DS-CNN", "tflite/kws_ref_model.tflite", "2.66 M"),
    Network("resnet8", "ResNet8", "tflite/pretrainedResnet_quant.tflite", "12.50 M"),
    Network("vww", "VWW MobileNet", "tflite/vww_96_int8.tflite", "7.49 M"),
    Network("ad", "AD autoencoder", "tflite/ad01_int8.tflite", "0.264 M"),
)


@dataclass(frozen=True)
class Row:
    """What one network costs on one core; sizes in bytes.

    Attributes:
        instructions: counted, for one inference of the seeded input.
        cycles: modelled; `stand_in` when the core has no timing table of its own.
        layers: counted instructions per layer index; -1 for what follows the last layer.
        exact: the outputs equal LiteRT's BUILTIN_REF.
        float_free: the linked image holds no floating point.
        cflags: what the library was compiled with beside the flags of the core.
        software_float: counted instructions of the binary32 baseline by its level; empty where not run.
    """

    network: str
    core: str
    instructions: int
    cycles: int
    stand_in: bool
    histogram: dict[str, int]
    layers: dict[int, int]
    flash_bytes: int
    arena_bytes: int
    stack_bytes: int
    exact: bool
    float_free: bool
    cflags: tuple[str, ...]
    software_float: dict[str, int]

    @property
    def best_float(self) -> int | None:
        """Instructions of the baseline at its better level."""
        return min(self.software_float.values(), default=None)


def models_folder() -> Path:
    """`INTAGLIO_MODELS`, else `../shared/models` beside the checkout.

    Raises:
        UsageError: neither is there.
    """
    given = os.environ.get("INTAGLIO_MODELS")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "models"
    if not folder.is_dir():
        raise UsageError(str(folder), "holds no models", "set INTAGLIO_MODELS to the folder with tflite/*.tflite")
    return folder


def seeded_input(net: FloatNet) -> list[Array]:
    """One sample: integers spread over the whole range of each input, the same at every run."""
    rng = np.random.default_rng(20240426)
    sample: list[Array] = []
    for port in net.inputs:
        info = np.iinfo(port.dtype)
        sample.append(rng.integers(info.min, int(info.max) + 1, port.shape, port.dtype))
    return sample


def litert_outputs(model: Path, sample: list[Array]) -> list[Array]:
    """What LiteRT's reference kernels make of a sample."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter: Any = Interpreter(str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), sample, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def measure_network(network: Network, model: Path, core: Core, *, software_float: bool) -> Row:
    """Compile, run and count one network on one core.

    Raises:
        IntaglioError: it does not compile or run.
    """
    net = read_tflite(model)
    sample = seeded_input(net)
    with tempfile.TemporaryDirectory(prefix="intaglio-bench-") as folder:
        work = Path(folder)
        compiled = compile_model(model, core, work / "library", name=network.key)
        result = run_on_core(work / "library", core, [sample])
        (work / "image.elf").write_bytes(result.elf)
        clean = scan_elf(work / "image.elf", core).clean
        footprint = measure(work / "library", core)
        wanted = litert_outputs(model, sample)
        baseline: dict[str, int] = {}
        if software_float:
            write_baseline(net, work / "float", f"{network.key}_float")
            for level in FLOAT_LEVELS:
                run = run_on_core(work / "float", core, [sample], flags=("-std=c11", level))
                baseline[level] = run.instructions[0]
    cost = estimate(result.elf, result.counts, core)[0]
    return Row(
        network=network.key,
        core=core.name,
        instructions=result.instructions[0],
        cycles=cost.cycles,
        stand_in=cost.stand_in,
        histogram=cost.histogram,
        layers=result.layer_instructions[0],
        flash_bytes=result.flash_bytes,
        arena_bytes=int(compiled.manifest["arena_bytes"]),
        stack_bytes=footprint.stack_bytes,
        exact=all(a.tobytes() == b.tobytes() for a, b in zip(result.outputs[0], wanted, strict=True)),
        float_free=clean,
        cflags=tuple(compiled.manifest["cflags"]),
        software_float=baseline,
    )
