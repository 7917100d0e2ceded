"""Write the reference pages that follow from the code: docs/operators.md, docs/commands.md and docs/protocol.md.

python tools/generate_docs.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

import protocol_page
import typer.main

from intaglio.host.cli import app
from intaglio.quantizer import ops
from intaglio.quantizer.ir import DType

DOCS = Path(__file__).parents[1] / "docs"


def one_line(text: str | None) -> str:
    """A docstring as one line."""
    return " ".join(inspect.cleandoc(text or "").split())


def has_int16(op: ops.Operator[Any, Any]) -> bool:
    """Whether an operator has a kernel for int16; those that move integers have one for every type."""
    graphs = [] if op.alias or op.same_scale else list(op.examples())
    kinds = {g.types[t].dtype for g in graphs for n in g.nodes for t in n.outputs}
    return not graphs or DType.INT16 in kinds or kinds.isdisjoint({DType.INT8, DType.UINT8})


def operators() -> str:
    """docs/operators.md."""
    lines = [
        "# Operators",
        "",
        "Generated from `quantizer/ops/`: a limit here is the message of the error there.",
        "",
        "| operator | kernels |",
        "|---|---|",
    ]
    table = ops.registry()
    for name, op in table.items():
        kernels = ", ".join(v.name for v in op.variants) or ("none: no code" if op.alias else "")
        lines.append(f"| [{name}](#{name.lower()}) | {kernels} |")
    islands = ", ".join(name for name, op in table.items() if not has_int16(op))
    lines += [
        "",
        f"Under `--activations int16` {islands} compute in int8 between Quantize nodes; `compile` and `eval` say",
    ]
    lines += ["which layers of a model those are."]
    for name, op in table.items():
        lines += ["", f"## {name}", "", one_line(type(op).__doc__)]
        fields = one_line(op.attrs.__doc__)
        if fields and not fields.startswith(op.attrs.__name__):
            lines += ["", f"Attributes: {fields}"]
        limits = [one_line(method.__doc__) for method in op.limits()]
        if limits:
            lines += ["", "Must hold:", "", *(f"- {text}" for text in limits)]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """docs/commands.md."""
    lines = ["# Commands", "", "Generated from the command line's own help.", ""]
    root: Any = typer.main.get_command(app)
    for path, command in _walk(root, ("intaglio",)):
        lines += [f"## {' '.join(path)}", "", inspect.cleandoc(command.help or ""), ""]
        rows = [p for p in command.params if not getattr(p, "hidden", False)]
        if rows:
            lines += ["| argument | meaning |", "|---|---|"]
            for p in rows:
                names = ", ".join(f"`{o}`" for o in p.opts) if p.param_type_name == "option" else f"`{p.name.upper()}`"
                lines.append(f"| {names} | {one_line(getattr(p, 'help', '')).replace('|', '/')} |")
            lines.append("")
    return "\n".join(lines)


def _walk(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    below = [found for name, child in sorted(children.items()) for found in _walk(child, (*path, name))]
    # A group that does something without a command of its own; the root does not, it has options.
    return [(path, command), *below] if command.invoke_without_command and len(path) > 1 else below


PAGES = {"operators.md": operators, "commands.md": commands, "protocol.md": protocol_page.page}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the generated reference pages.")
    parser.add_argument("--check", action="store_true", help="fail when a page is out of date")
    check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        text, page = make(), DOCS / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run make docs")


if __name__ == "__main__":
    main()
