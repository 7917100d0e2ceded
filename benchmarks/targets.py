"""The measured figures against what they should be: `targets.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

from measure import NETWORKS, Row
from quality import Accuracy, ToolCost

LEVELS = ("version", "must", "aim")
_TITLES = {network.key: network.title for network in NETWORKS}


@dataclass(frozen=True)
class Target:
    """One figure and its limits.

    Attributes:
        figure: what was measured.
        unit: of the measured figure and the limits; empty for ratios.
        at_least: the limits are lower ones; else upper ones.
        limits: by level, one of `LEVELS`.
        measured: None when it was not measured in this run.
        note: what there is to say of it.
    """

    figure: str
    unit: str
    at_least: bool
    limits: Mapping[str, float]
    measured: float | None
    note: str = ""

    def met(self, level: str) -> bool | None:
        """Whether a limit holds; None without such a limit or without a measurement."""
        if self.measured is None or level not in self.limits:
            return None
        limit = self.limits[level]
        return self.measured >= limit if self.at_least else self.measured <= limit

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "figure": self.figure,
            "unit": self.unit,
            "bound": "at least" if self.at_least else "at most",
            "limits": dict(self.limits),
            "measured": self.measured,
            "met": {level: self.met(level) for level in self.limits},
            "note": self.note,
        }


def read_targets() -> dict[str, Any]:
    """The tables of `targets.toml`."""
    return tomllib.loads((Path(__file__).parent / "targets.toml").read_text(encoding="utf-8"))


def geometric_mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def ratios(rows: Sequence[Row], peers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Per core, geometric means over the networks measured on it: how many times more instructions TFLM with
    CMSIS-NN and software float execute. A core that lacks a figure for one of its networks is left out."""
    table = peers["networks"]["instructions"]["tflm_cmsis_nn"]
    result: dict[str, dict[str, float]] = {}
    for core in dict.fromkeys(row.core for row in rows):
        mine = [row for row in rows if row.core == core]
        means: dict[str, float] = {"networks": len(mine)}
        if core in table and all(row.network in table[core] for row in mine):
            means["tflm_cmsis_nn"] = geometric_mean([table[core][row.network] * 1e6 / row.instructions for row in mine])
        floats = [row.best_float / row.instructions for row in mine if row.best_float]
        if len(floats) == len(mine):
            means["software_float"] = geometric_mean(floats)
        result[core] = means
    return result


def judge(
    rows: Sequence[Row], peers: dict[str, Any], accuracy: Sequence[Accuracy] = (), cost: ToolCost | None = None
) -> list[Target]:
    """Every target with what was measured for it.

    A mean counts as measured only when all networks were.
    """
    wanted = read_targets()
    return [
        *_exact(rows, wanted["exact"]["cores"]),
        *_speed(rows, peers, wanted),
        *_sizes(rows, wanted),
        *_accuracy(accuracy, wanted["accuracy"]),
        *_tool(cost, wanted["tool"]),
    ]


def _exact(rows: Sequence[Row], cores: Sequence[str]) -> Iterator[Target]:
    mine = [row for row in rows if row.core in cores]
    total = len(cores) * len(NETWORKS)
    for figure, holds in (
        ("exact to LiteRT's reference kernels", [row.exact for row in mine]),
        ("no float in the linked image", [row.float_free for row in mine]),
    ):
        count = sum(holds) if len(mine) == total or not all(holds) else None
        names = ", ".join(map(_short, cores))
        yield Target(f"{figure}: networks x cores", "", True, {"version": total}, count, f"on {names}")


def _speed(rows: Sequence[Row], peers: dict[str, Any], wanted: dict[str, Any]) -> Iterator[Target]:
    theirs = peers["networks"]["instructions"]["tflm_cmsis_nn"]
    executed = {(row.core, row.network): row.instructions for row in rows}
    for core, limits in wanted["each"]["tflm_cmsis_nn"].items():
        for network, title in _TITLES.items():
            ours = executed.get((core, network))
            ratio = None if ours is None else theirs[core][network] * 1e6 / ours
            yield Target(f"instructions, TFLM + CMSIS-NN / ours, {_short(core)}, {title}", "", True, limits, ratio)
    means = ratios(rows, peers)
    for key, label in (("tflm_cmsis_nn", "TFLM + CMSIS-NN"), ("software_float", "software float")):
        for core, limits in wanted["mean"][key].items():
            mean = means.get(core, {})
            whole = mean.get("networks") == len(NETWORKS)
            figure = f"instructions, {label} / ours, {_short(core)}, geometric mean"
            yield Target(figure, "", True, limits, mean.get(key) if whole else None)


def _sizes(rows: Sequence[Row], wanted: dict[str, Any]) -> Iterator[Target]:
    for key, attribute in (("flash", "flash_bytes"), ("arena", "arena_bytes")):
        for network, limits in wanted[key].items():
            mine = {row.core: getattr(row, attribute) for row in rows if row.network == network}
            largest = max(mine, key=lambda core: mine[core], default=None)
            measured = None if largest is None else mine[largest] / 1024
            note = (
                "" if largest is None else f"largest of {len(mine)} cores: {_short(largest)}, {mine[largest]:,} bytes"
            )
            yield Target(f"{key}, {_TITLES[network]}", "KiB", False, limits, measured, note)


def _accuracy(found: Sequence[Accuracy], wanted: dict[str, Any]) -> Iterator[Target]:
    by_network = {a.network: a for a in found}
    for key, limits in wanted.items():
        network = key.removesuffix("_loss")
        a = by_network.get(network)
        note = "" if a is None else f"{a.integer_right} of {a.samples}, in float {a.float_right}; {a.data}"
        title = _TITLES.get(network, network)
        if key != network:
            loss = None if a is None else (a.float_right - a.integer_right) / a.samples
            yield Target(f"accuracy lost against float, {title}", "", False, limits, loss, note)
        else:
            share = None if a is None else a.integer_right / a.samples
            yield Target(f"accuracy, {title} from its float model", "", True, limits, share, note)


def _tool(cost: ToolCost | None, wanted: dict[str, Any]) -> Iterator[Target]:
    for key, figure, unit in (
        ("compile_seconds", "KWS compiled for the M0: time", "s"),
        ("compile_mb", "KWS compiled for the M0: peak memory", "MB"),
        ("help_seconds", "`intaglio --help`: time", "s"),
    ):
        yield Target(figure, unit, False, wanted[key], None if cost is None else getattr(cost, key), "on this machine")


def _short(core: str) -> str:
    return core.removeprefix("cortex-").upper().replace("PLUS", "+")
