"""The benchmark's tables and its command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import bench
import pytest
from measure import NETWORKS, Row, models_folder
from tables import geometric_mean, markdown, ratios, read_peers

from intaglio.boards.cores import CORES
from intaglio.quantizer.errors import UsageError


def row(network: str, core: str, instructions: int, software_float: int | None = None) -> Row:
    return Row(
        network=network,
        core=core,
        instructions=instructions,
        cycles=2 * instructions,
        stand_in=core == "cortex-m7",
        histogram={"alu": instructions},
        layers={0: instructions},
        flash_bytes=2048,
        arena_bytes=1000,
        stack_bytes=96,
        exact=True,
        float_free=True,
        software_float=software_float,
    )


def test_every_figure_of_others_names_its_source_and_a_known_core() -> None:
    keys = {network.key for network in NETWORKS}
    for group in read_peers().values():
        for tool in group.values():
            assert tool["source"] and tool["unit"] and tool["label"]
            for core, figures in tool.items():
                if isinstance(figures, dict):
                    assert core in CORES and set(figures) == keys


def test_means_are_geometric_and_only_over_complete_cores() -> None:
    peers = read_peers()
    rows = [
        row("kws", "cortex-m4", 3_920_000),
        row("resnet8", "cortex-m4", 29_900_000),
        row("kws", "cortex-m0", 14_500_000, 145_000_000),
        row("ad", "cortex-m0plus", 1),
    ]
    means = ratios(rows, peers)
    assert means["cortex-m4"]["tflm_cmsis_nn"] == pytest.approx(2**0.5)
    assert "software_float" not in means["cortex-m4"]
    assert means["cortex-m0"] == pytest.approx({"networks": 1, "tflm_cmsis_nn": 2.0, "software_float": 10.0})
    assert means["cortex-m0plus"] == {"networks": 1}
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_the_table_keeps_counts_and_models_apart() -> None:
    text = markdown([row("kws", "cortex-m7", 3_880_000)], read_peers(), "gcc X")
    cells = "m7 | 3.880 M | ~7.760 M | 2.0 | 1,000 | 96 | yes | yes |  |  | 7.76 M | 2.00 |"
    assert f"| KWS DS-CNN (2.66 M) | {cells}" in text
    assert "no public table for cortex-m7" in text and "TFLM + CMSIS-NN" in text


@pytest.mark.parametrize("arguments", [["--network", "nosuch"], ["--core", "cortex-m99"]])
def test_an_unknown_name_is_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(arguments) == 2
    error = capsys.readouterr().err
    assert arguments[1] in error and "choose from" in error and error.count("\n") == 1


def test_missing_models_name_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INTAGLIO_MODELS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="INTAGLIO_MODELS"):
        models_folder()


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        bench.report([row("kws", "cortex-m4", 1)], tmp_path / "file" / "out")


def test_the_report_is_markdown_and_json(tmp_path: Path) -> None:
    bench.report([row("kws", "cortex-m4", 1_000_000)], tmp_path)
    data = json.loads((tmp_path / "bench.json").read_text())
    assert data["rows"][0]["instructions"] == 1_000_000
    assert data["means"]["cortex-m4"]["tflm_cmsis_nn"] == pytest.approx(7.84)
    assert (tmp_path / "bench.md").read_text().startswith("# Benchmark")


MODELS = Path(os.environ.get("INTAGLIO_MODELS") or Path(__file__).parents[3] / "shared" / "models")


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.is_dir(), reason="INTAGLIO_MODELS names no folder of models")
@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_a_network_is_measured_whole(core: str) -> None:
    (measured,) = bench.run(["ad"], [core], software_float=True)
    assert measured.exact and measured.float_free
    assert sum(measured.histogram.values()) == measured.instructions
    assert measured.instructions > 264_192 // (8 if core == "cortex-m55" else 2)
    assert measured.flash_bytes > 264_192 and 0 < measured.stack_bytes < 4096
    assert (measured.software_float is not None) == (core == "cortex-m0")
