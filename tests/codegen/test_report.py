"""The HTML report: whole, offline, and safe whatever a model's names are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from intaglio.codegen.report import render_report

VOID = {"meta", "br", "img", "input", "link", "hr"}
HOSTILE = "</title><script src=//example.com/x.js></script>\"'&<svg onload=alert(1)>"


class Page(HTMLParser):
    """A parsed page: its tags, all attributes, cells by row; that tags are balanced is checked while reading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & {*self._open}:
            self.rows[-1][-1] += data


def manifest(name: str) -> dict[str, Any]:
    """The record of two layers, the second in place over a part of the first's input."""
    layer = {"op": "Conv2D", "name": name, "shape": [1, 4], "kernel": "portable", "macs": 1200, "flash": 34}
    port = {"name": name, "shape": [1, 4], "dtype": "int8", "scale": 0.5, "zero_point": 3}
    return {
        "name": name,
        "core": "cortex-m0",
        "board": None,
        "contract": "exact",
        "digest": "00" * 32,
        "flash_bytes": 68,
        "arena_bytes": 64,
        "state_bytes": 0,
        "stack_bytes": 8,
        "macs": 2400,
        "live_macs": 2400,
        "plan": {"solver": "optimal", "lower_bound": 64},
        "layers": [{**layer, "index": i, "instructions": 1000 + i} for i in range(2)],
        "inputs": [port],
        "outputs": [port],
        "buffers": [
            {"name": name, "offset": 0, "bytes": 40, "first": -1, "last": 0},
            {"name": f"{name}/scratch", "offset": 48, "bytes": 16, "first": 0, "last": 0},
            {"name": f"{name}/y", "offset": 20, "bytes": 24, "first": 0, "last": 2},
        ],
    }


@pytest.mark.parametrize("name", ["net/conv;net/bias", HOSTILE])
def test_a_report_is_balanced_offline_html(name: str) -> None:
    findings = SimpleNamespace(clean=False, findings=[f"__aeabi_fadd in {name}"])
    page = Page(render_report(manifest(name), 5, findings))
    assert not {"script", "link", "iframe", "object", "img", "base"} & {*page.tags}
    assert not any(key in ("src", "href", "srcset") or key.startswith("on") for key, _ in page.attributes)
    assert page.tags.count("rect") == 3


def test_each_layer_has_its_macs_flash_ram_and_instructions() -> None:
    text = render_report(manifest("net/conv;net/bias"), 5, SimpleNamespace(clean=True, findings=[]))
    header, *layers = Page(text).rows[:3]
    cells = [dict(zip(header, row, strict=True)) for row in layers]
    assert [cell["name"] for cell in cells] == ["net/conv"] * 2
    # Overlapping bytes count once: 0 to 44 and 48 to 64, then 20 to 44.
    assert [cell["RAM"] for cell in cells] == ["60", "24"]
    assert [cell["MACs"] for cell in cells] == ["1,200"] * 2
    assert [cell["flash"] for cell in cells] == ["34"] * 2
    assert [cell["instructions"] for cell in cells] == ["1,000", "1,001"]
    assert "No float instruction and no float helper" in text


def test_float_is_shown_with_where_it_is() -> None:
    text = render_report(manifest("net"), None, SimpleNamespace(clean=False, findings=["__aeabi_fadd at 0x80"]))
    assert "Float found:" in text
    assert "__aeabi_fadd at 0x80" in text
    assert not re.search(r"No float", text)
