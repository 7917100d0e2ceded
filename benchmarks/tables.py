"""The benchmark's rows as Markdown, the figures of other tools beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any

from measure import NETWORKS, Row

from intaglio.host.cyclemodel import TIMINGS


def read_peers() -> dict[str, Any]:
    """The tables of `peers.toml`."""
    return tomllib.loads((Path(__file__).parent / "peers.toml").read_text(encoding="utf-8"))


def geometric_mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def ratios(rows: Sequence[Row], peers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Per core, geometric means over the networks measured on it: how many times more instructions TFLM with
    CMSIS-NN and software float execute. A core that lacks a figure for one of its networks is left out."""
    table = peers["instructions"]["tflm_cmsis_nn"]
    result: dict[str, dict[str, float]] = {}
    for core in dict.fromkeys(row.core for row in rows):
        mine = [row for row in rows if row.core == core]
        means: dict[str, float] = {"networks": len(mine)}
        if core in table and all(row.network in table[core] for row in mine):
            means["tflm_cmsis_nn"] = geometric_mean([table[core][row.network] * 1e6 / row.instructions for row in mine])
        floats = [row.software_float / row.instructions for row in mine if row.software_float]
        if len(floats) == len(mine):
            means["software_float"] = geometric_mean(floats)
        result[core] = means
    return result


def markdown(rows: Sequence[Row], peers: dict[str, Any], toolchain: str) -> str:
    """The whole report."""
    lines = [
        "# Benchmark",
        "",
        f"Built with {toolchain}. One inference of a seeded random input, KiB = 1024 bytes.",
        "",
        "- Instructions are counted by executing on the simulated core; cycles are modelled from them with the core's",
        "  timing table at zero wait states, and `~` marks a core that has none and borrows the M4's.",
        "- Flash is text + rodata + data of the generated library; stack is the worst case by the call graph.",
        "- Exact: the outputs equal those of LiteRT's reference kernels. No float: proven on the linked image.",
        "- Software float is the same network as plain binary32 C, compiled with the same compiler and level.",
        "",
        "| network (MAC) | core | instructions | cycles | flash KiB | arena B | stack B | exact | no float "
        "| software float | / ours | TFLM + CMSIS-NN | / ours |",
        "|---|---|--:|--:|--:|--:|--:|:-:|:-:|--:|--:|--:|--:|",
    ]
    table = peers["instructions"]["tflm_cmsis_nn"]
    titles = {network.key: f"{network.title} ({network.macs})" for network in NETWORKS}
    for row in rows:
        peer = table.get(row.core, {}).get(row.network)
        lines.append(
            "| "
            + " | ".join(
                [
                    titles[row.network],
                    row.core.removeprefix("cortex-"),
                    _millions(row.instructions),
                    ("~" if row.stand_in else "") + _millions(row.cycles),
                    f"{row.flash_bytes / 1024:.1f}",
                    f"{row.arena_bytes:,}",
                    f"{row.stack_bytes:,}",
                    _yes(row.exact),
                    _yes(row.float_free),
                    _millions(row.software_float) if row.software_float else "",
                    f"{row.software_float / row.instructions:.1f}" if row.software_float else "",
                    f"{peer} M" if peer else "",
                    f"{peer * 1e6 / row.instructions:.2f}" if peer else "",
                ]
            )
            + " |"
        )
    lines += [
        "",
        "Geometric means over the networks above:",
        "",
        "| core | networks | TFLM + CMSIS-NN / ours | software float / ours |",
        "|---|--:|--:|--:|",
    ]
    for core, means in ratios(rows, peers).items():
        cells = [f"{means[key]:.2f}" if key in means else "" for key in ("tflm_cmsis_nn", "software_float")]
        lines.append(f"| {core.removeprefix('cortex-')} | {int(means['networks'])} | {cells[0]} | {cells[1]} |")
    lines += ["", "## Figures of others", ""]
    for group, tools in peers.items():
        for tool in tools.values():
            lines += [
                f"**{tool['label']}**, {group}: {tool['unit']}. {tool['source']}",
                "",
                "| core | " + " | ".join(network.title for network in NETWORKS) + " |",
                "|---|" + "--:|" * len(NETWORKS),
            ]
            lines += [
                f"| {core.removeprefix('cortex-')} | " + " | ".join(str(figures[n.key]) for n in NETWORKS) + " |"
                for core, figures in tool.items()
                if isinstance(figures, dict)
            ]
            lines.append("")
    lines += ["## Timing tables", ""]
    lines += [f"- {core.removeprefix('cortex-')}: {timing.source}" for core, timing in TIMINGS.items()]
    return "\n".join(lines) + "\n"


def _millions(value: int) -> str:
    return f"{value / 1e6:.3f} M"


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"
