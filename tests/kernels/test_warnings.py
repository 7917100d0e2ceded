"""The kernels compile without a warning for the cores themselves, where other branches of #if are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layers import generate, random_layer, side_by_side, with_sum

from intaglio.boards.cores import CORES
from intaglio.host.library import open_library
from intaglio.host.toolchain import STRICT_WARNINGS, compile_objects, core_flags, find_compiler
from intaglio.quantizer.ir import Contract


@pytest.mark.parametrize("optimise", ["-O0", "-O2", "-Os"])
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m55"])
def test_no_warning_and_no_impossible_constraint(core: str, optimise: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    layers = [random_layer(rng, Contract.TFLITE) for _ in range(10)]
    layers += [with_sum(rng, random_layer(rng, Contract.TFLITE, dense=False)) for _ in range(5)]
    graph = side_by_side(layers, Contract.TFLITE)
    generate(graph, CORES[core], tmp_path / "lib")
    library = open_library(tmp_path / "lib")
    compiler = find_compiler("arm-none-eabi-gcc")
    flags = [*core_flags(compiler, CORES[core]), *STRICT_WARNINGS, optimise, f"-I{library.folder}"]
    objects = compile_objects(compiler, library.sources, tmp_path / "objects", flags)
    assert len(objects) == len(library.sources)
