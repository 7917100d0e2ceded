"""The benchmark's tables and its command."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bench
import pytest
from measure import NETWORKS, Row, models_folder
from quality import Accuracy, ToolCost, accuracies
from tables import compare, markdown, read_peers
from targets import LEVELS, Target, geometric_mean, judge, ratios, read_targets

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
        cflags=("-O2",),
        software_float={} if software_float is None else {"-O2": software_float + 1, "-O3": software_float},
    )


def test_every_figure_of_others_names_its_source_and_a_known_core() -> None:
    keys = {network.key for network in NETWORKS}
    peers = read_peers()
    others = {"cortex-m85"}  # published, and not generated for
    for group in peers["networks"].values():
        for tool in group.values():
            assert tool["source"] and tool["unit"] and tool["label"]
            for core, figures in tool.items():
                if isinstance(figures, dict):
                    assert core in {*CORES, *others} and figures and set(figures) <= keys
    for tool in peers["small"]:
        assert tool["source"] and tool["unit"] and tool["label"] and tool["model"]


def test_figures_of_others_stand_beside_ours() -> None:
    peers = read_peers()
    found = compare([row("vww", "cortex-m4", 9_850_000)], peers)
    measured = {(c["quantity"], c["tool"]): c for c in found if c["ratio"] is not None}
    assert measured["instructions", "TinyEngine"]["ratio"] == pytest.approx(2.0)
    assert measured["cycles", "best published, closed source, real boards"]["ours"] == pytest.approx(19.7)
    assert measured["flash", "TFLM + CMSIS-NN"]["ours"] == 2.0
    assert measured["ram", "TinyEngine"]["ratio"] == pytest.approx(59.9 / (1096 / 1024))
    assert {(c["core"], c["network"]) for c in measured.values()} == {("cortex-m4", "vww")}
    assert any(c["core"] == "cortex-m85" for c in found)


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


def all_rows(instructions: int, **changes: Any) -> list[Row]:
    rows = [row(network.key, core, instructions, 40 * instructions) for core in CORES for network in NETWORKS]
    return [replace(r, **changes) for r in rows]


def verdicts(targets: Sequence[Target]) -> dict[str, dict[str, bool | None]]:
    return {t.figure: {level: t.met(level) for level in LEVELS} for t in targets}


def test_every_target_is_judged() -> None:
    accuracy = [Accuracy(key, "data", 100, 97, 96) for key in ("kws", "resnet8", "vww", "digits")]
    targets = judge(all_rows(400_000), read_peers(), accuracy, ToolCost(2.5, 600.0, 0.2))
    found = verdicts(targets)
    assert all(t.measured is not None for t in targets)
    assert (
        len(targets)
        == len(found)
        == sum(
            len(limits)
            for limits in (
                ("exact", "no float"),
                NETWORKS,
                read_targets()["mean"]["tflm_cmsis_nn"],
                read_targets()["mean"]["software_float"],
                *(read_targets()[key] for key in ("flash", "arena", "accuracy", "tool")),
            )
        )
    )
    assert found["exact to LiteRT's reference kernels: networks x cores"]["version"]
    assert found["instructions, TFLM + CMSIS-NN / ours, M4, AD autoencoder"]["version"]
    assert found["instructions, TFLM + CMSIS-NN / ours, M4, geometric mean"] == {
        "version": None,
        "must": True,
        "aim": True,
    }
    assert found["instructions, software float / ours, M0, geometric mean"] == {
        "version": True,
        "must": True,
        "aim": None,
    }
    assert found["flash, KWS DS-CNN"]["must"]
    assert found["accuracy, KWS DS-CNN from its float model"]["version"]
    assert found["accuracy lost against float, digits"]["version"] is False
    assert found["KWS compiled for the M0: peak memory"]["version"] is False
    assert found["KWS compiled for the M0: time"]["version"]


def test_a_missed_target_says_so() -> None:
    rows = all_rows(600_000, arena_bytes=40_000, exact=False)
    targets = judge(rows, read_peers())
    found = verdicts(targets)
    assert found["exact to LiteRT's reference kernels: networks x cores"]["version"] is False
    assert found["instructions, TFLM + CMSIS-NN / ours, M4, AD autoencoder"]["version"] is False
    assert found["arena, ResNet8"] == {"version": True, "must": False, "aim": None}
    assert found["accuracy, ResNet8 from its float model"]["version"] is None
    text = markdown(rows, read_peers(), targets, "gcc X")
    assert "| arena, ResNet8 | KiB | ≤ 48 | ≤ 34 |  | 39.06 | this version yes, must **no** |" in text
    assert "| accuracy, ResNet8 from its float model |  | ≥ 0.86 |  |  | not measured |" in text


def test_a_mean_of_some_networks_is_no_mean() -> None:
    targets = judge([row("kws", "cortex-m4", 1_000)], read_peers())
    assert [t.measured for t in targets if "geometric mean" in t.figure] == [None] * 8


def test_the_exit_status_tells_exactness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for exact, float_free, status in ((True, True, 0), (False, True, 1), (True, False, 1)):
        rows = [replace(row("ad", "cortex-m4", 300_000), exact=exact, float_free=float_free)]
        monkeypatch.setattr(bench, "run", lambda *_, rows=rows, **__: rows)
        assert bench.main(["--no-quality", "--out", str(tmp_path)]) == status


def test_the_table_keeps_counts_and_models_apart() -> None:
    text = markdown([row("kws", "cortex-m7", 3_880_000)], read_peers(), [], "gcc X")
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
    each = next(t for t in data["targets"] if t["figure"].endswith("M4, KWS DS-CNN"))
    assert each["met"] == {"version": True} and each["limits"] == {"version": 1.0}
    assert len(data["comparisons"]) > 80 and len(data["peers"]["small"]) == 4
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
    assert set(measured.software_float) == ({"-O2", "-O3"} if core == "cortex-m0" else set())


@pytest.mark.slow
@pytest.mark.skipif(not MODELS.is_dir(), reason="INTAGLIO_MODELS names no folder of models")
def test_accuracies_are_measured() -> None:
    found = {a.network: a for a in accuracies(MODELS)}
    assert {network: a.samples for network, a in found.items()} == {
        "kws": 600,
        "resnet8": 200,
        "vww": 50,
        "digits": 360,
    }
    assert all(0.75 < a.integer_right / a.samples <= 1 for a in found.values())
