"""The HTML report of a library: one file, no network, no script."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

from intaglio.codegen.cident import short
from intaglio.codegen.render import environment

_WIDTH, _HEIGHT = 1100.0, 420.0


@dataclass(frozen=True)
class Box:
    """A buffer in the drawing of the memory plan."""

    x: float
    y: float
    w: float
    h: float
    colour: str
    title: str
    label: str


def render_report(manifest: dict[str, Any], cycles: int | None = None, float_report: Any = None) -> str:
    """Render a manifest, with whatever was measured filled in, as HTML.

    Args:
        manifest: of `codegen.compile`, instructions per layer where measured.
        cycles: modelled cycles of one inference.
        float_report: verdict of the float scan (`clean`, `findings`), or None.
    """
    total = sum(layer["instructions"] or 0 for layer in manifest["layers"])
    env = environment({})
    return env.get_template("report.html.j2").render(
        m=manifest,
        facts=_facts(manifest, total, cycles),
        total=total,
        ram=[_occupied(manifest["buffers"], layer["index"]) for layer in manifest["layers"]],
        float_report=float_report,
        boxes=_boxes(manifest),
        ticks=_ticks(len(manifest["layers"])),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _facts(m: dict[str, Any], total: int, cycles: int | None) -> list[tuple[str, str]]:
    rows = [
        ("bytes of flash", m["flash_bytes"]),
        ("bytes of arena", m["arena_bytes"]),
        ("of it state", m["state_bytes"] or None),
        ("bytes of stack, worst case", m["stack_bytes"]),
        ("multiply-accumulates", m["macs"]),
        ("of them live", m["live_macs"]),
        ("instructions per inference, measured", total or None),
        ("cycles per inference, modelled", cycles),
    ]
    return [(label, f"{value:,}") for label, value in rows if value is not None]


def _occupied(buffers: list[dict[str, Any]], layer: int) -> int:
    """Bytes of the arena in use while a layer runs; what overlaps counts once."""
    alive = sorted((b["offset"], b["offset"] + b["bytes"]) for b in buffers if b["first"] <= layer <= b["last"])
    total = end = 0
    for low, high in alive:
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def _label(name: str) -> str:
    """What the drawing calls a buffer."""
    return "scratch" if name.endswith("/scratch") else short(name)


def _boxes(m: dict[str, Any]) -> list[Box]:
    steps = len(m["layers"]) + 2
    arena = max(m["arena_bytes"], 1)
    result = []
    for i, b in enumerate(sorted(m["buffers"], key=lambda b: (b["first"], b["name"]))):
        x = (b["first"] + 1) * _WIDTH / steps
        w = (b["last"] - b["first"] + 1) * _WIDTH / steps
        h = b["bytes"] * _HEIGHT / arena
        y = _HEIGHT - b["offset"] * _HEIGHT / arena - h
        red, green, blue = colorsys.hls_to_rgb(i * 0.381966 % 1, 0.62, 0.55)
        colour = f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
        title = f"{b['name']}: {b['bytes']:,} bytes at {b['offset']:,}, layers {max(b['first'], 0)} to {b['last']}"
        label = _label(b["name"])[: int(w / 6.5)] if h > 14 and w > 40 else ""
        result.append(Box(round(x, 2), round(y, 2), round(w, 2), round(max(h, 0.5), 2), colour, title, label))
    return result


def _ticks(layers: int) -> list[dict[str, Any]]:
    every = max(1, layers // 25)
    unit = _WIDTH / (layers + 2)
    return [{"x": round((i + 1.5) * unit, 1), "label": i} for i in range(0, layers, every)]
