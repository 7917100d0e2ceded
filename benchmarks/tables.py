"""The benchmark's figures as Markdown, those of other tools beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import NETWORKS, Row
from targets import LEVELS, Target, ratios

from intaglio.host.cyclemodel import TIMINGS

_NAMES = {"version": "this version"}


def read_peers() -> dict[str, Any]:
    """The tables of `peers.toml`."""
    return tomllib.loads((Path(__file__).parent / "peers.toml").read_text(encoding="utf-8"))


def own_figure(row: Row, quantity: str) -> float:
    """A row's figure in the unit of that quantity in `peers.toml`."""
    return {
        "instructions": row.instructions / 1e6,
        "cycles": row.cycles / 1e6,
        "flash": row.flash_bytes / 1024,
        "ram": (row.arena_bytes + row.stack_bytes) / 1024,
    }[quantity]


def compare(rows: Sequence[Row], peers: dict[str, Any]) -> list[dict[str, Any]]:
    """Every figure of others for the four networks, with ours where it was measured."""
    mine = {(row.core, row.network): row for row in rows}
    result = []
    for quantity, tools in peers["networks"].items():
        for tool in tools.values():
            for core, figures in tool.items():
                if not isinstance(figures, dict):
                    continue
                for network, theirs in figures.items():
                    row = mine.get((core, network))
                    ours = None if row is None else own_figure(row, quantity)
                    result.append(
                        {
                            "quantity": quantity,
                            "tool": tool["label"],
                            "core": core,
                            "network": network,
                            "theirs": theirs,
                            "ours": ours,
                            "ratio": None if ours is None else theirs / ours,
                        }
                    )
    return result


def markdown(rows: Sequence[Row], peers: dict[str, Any], targets: Sequence[Target], toolchain: str) -> str:
    """The whole report."""
    flags = dict.fromkeys(" ".join(row.cflags) for row in rows)
    lines = [
        "# Benchmark",
        "",
        f"Built with {toolchain}. One inference of a seeded random input, KiB = 1024 bytes.",
        "",
        "- Instructions are counted by executing on the simulated core; cycles are modelled from them with the core's",
        "  timing table at zero wait states, and `~` marks a core that has none and borrows the M4's.",
        "- Flash is text + rodata + data of the generated library; stack is the worst case by the call graph.",
        "- Exact: the outputs equal those of LiteRT's reference kernels. No float: proven on the linked image.",
        f"- Libraries are compiled with the flags in their manifests: {', '.join(f'`{f}`' for f in flags)}.",
        "- Software float is the same network as plain binary32 C, built by the same compiler at `-O2` and at `-O3`;",
        "  the level with fewer instructions counts and stands beside its figure.",
        "",
        "## Targets",
        "",
        *_targets(targets),
        "",
        "## Networks",
        "",
        *_networks(rows, peers),
        "",
        "Geometric means over the networks above:",
        "",
        "| core | networks | TFLM + CMSIS-NN / ours | software float / ours |",
        "|---|--:|--:|--:|",
    ]
    for core, means in ratios(rows, peers).items():
        cells = [f"{means[key]:.2f}" if key in means else "" for key in ("tflm_cmsis_nn", "software_float")]
        lines.append(f"| {core.removeprefix('cortex-')} | {int(means['networks'])} | {cells[0]} | {cells[1]} |")
    lines += ["", "## Figures of others", "", *_others(rows, peers), "## Timing tables", ""]
    lines += [f"- {core.removeprefix('cortex-')}: {timing.source}" for core, timing in TIMINGS.items()]
    return "\n".join(lines) + "\n"


def _targets(targets: Sequence[Target]) -> Iterator[str]:
    yield "| figure | unit | " + " | ".join(_NAMES.get(level, level) for level in LEVELS) + " | measured | met | note |"
    yield "|---|---|" + "--:|" * len(LEVELS) + "--:|---|---|"
    for target in targets:
        sign = "≥" if target.at_least else "≤"
        limits = [f"{sign} {target.limits[level]:g}" if level in target.limits else "" for level in LEVELS]
        measured = "not measured" if target.measured is None else _figure(target.measured)
        met = ", ".join(f"{_NAMES.get(level, level)} {_yes(target.met(level))}" for level in target.limits)
        verdict = "" if target.measured is None else met
        yield f"| {target.figure} | {target.unit} | {' | '.join(limits)} | {measured} | {verdict} | {target.note} |"


def _networks(rows: Sequence[Row], peers: dict[str, Any]) -> Iterator[str]:
    yield (
        "| network (MAC) | core | instructions | cycles | flash KiB | arena B | stack B | exact | no float "
        "| software float | / ours | TFLM + CMSIS-NN | / ours |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|:-:|:-:|--:|--:|--:|--:|"
    table = peers["networks"]["instructions"]["tflm_cmsis_nn"]
    titles = {network.key: f"{network.title} ({network.macs})" for network in NETWORKS}
    for row in rows:
        peer = table.get(row.core, {}).get(row.network)
        best = row.best_float
        level = "" if best is None else next(f" `{k}`" for k, v in row.software_float.items() if v == best)
        cells = [
            titles[row.network],
            row.core.removeprefix("cortex-"),
            _millions(row.instructions),
            ("~" if row.stand_in else "") + _millions(row.cycles),
            f"{row.flash_bytes / 1024:.1f}",
            f"{row.arena_bytes:,}",
            f"{row.stack_bytes:,}",
            _yes(row.exact),
            _yes(row.float_free),
            "" if best is None else _millions(best) + level,
            "" if best is None else f"{best / row.instructions:.1f}",
            f"{peer} M" if peer else "",
            f"{peer * 1e6 / row.instructions:.2f}" if peer else "",
        ]
        yield "| " + " | ".join(cells) + " |"


def _others(rows: Sequence[Row], peers: dict[str, Any]) -> Iterator[str]:
    yield "In brackets: how many times ours, where the core was measured here. RAM of ours is arena + worst-case stack."
    yield ""
    ratio = {(c["quantity"], c["tool"], c["core"], c["network"]): c["ratio"] for c in compare(rows, peers)}
    for quantity, tools in peers["networks"].items():
        for tool in tools.values():
            yield f"**{tool['label']}**, {quantity}: {tool['unit']}. {tool['source']}"
            yield ""
            yield "| core | " + " | ".join(network.title for network in NETWORKS) + " |"
            yield "|---|" + "--:|" * len(NETWORKS)
            for core, figures in tool.items():
                if isinstance(figures, dict):
                    cells = []
                    for network in NETWORKS:
                        times = ratio.get((quantity, tool["label"], core, network.key))
                        cells.append(f"{figures.get(network.key, '')}" + ("" if times is None else f" ({times:.2f})"))
                    yield f"| {core.removeprefix('cortex-')} | " + " | ".join(cells) + " |"
            yield ""
    yield "**Small models**"
    yield ""
    cores = list(dict.fromkeys(core for tool in peers["small"] for core in tool if core.startswith("cortex-")))
    yield "| tool | model | unit | " + " | ".join(core.removeprefix("cortex-") for core in cores) + " | source |"
    yield "|---|---|---|" + "--:|" * len(cores) + "---|"
    for tool in peers["small"]:
        figures = " | ".join(f"{tool[core]:,}" if core in tool else "" for core in cores)
        yield f"| {tool['label']} | {tool['model']} | {tool['unit']} | {figures} | {tool['source']} |"
    yield ""


def _millions(value: int) -> str:
    return f"{value / 1e6:.3f} M"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.4g}"


def _yes(value: bool | None) -> str:
    return "yes" if value else "**no**"
