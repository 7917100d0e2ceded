"""Measure the MLPerf Tiny networks on every core and hold them against the targets: `python benchmarks/bench.py`.

Writes `bench.md` and `bench.json` to `--out` (default `build/bench`). The models are found through
`INTAGLIO_MODELS`, else in `../shared/models` beside the checkout. The exit status is 1 when an output is not exact
or a float is found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from measure import NETWORKS, Row, measure_network, models_folder
from quality import Accuracy, ToolCost, accuracies, tool_cost
from tables import compare, markdown, read_peers
from targets import judge, ratios

from intaglio.boards.cores import CORES
from intaglio.host.toolchain import find_compiler, run_tool
from intaglio.quantizer.errors import IntaglioError, UsageError

# Every core on which float32 has to be computed in software.
FLOAT_CORES = ("cortex-m0", "cortex-m3")
DEFAULT_CORES = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="only this one (may be repeated)")
    parser.add_argument("--core", action="append", help="only this one (may be repeated)")
    parser.add_argument("--no-float", action="store_true", help="leave the software float baseline out")
    parser.add_argument("--no-quality", action="store_true", help="leave accuracies and the cost of compiling out")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where the report goes")
    options = parser.parse_args(arguments)
    try:
        rows = run(
            options.network or [network.key for network in NETWORKS],
            options.core or list(DEFAULT_CORES),
            software_float=not options.no_float,
        )
        accuracy, cost = ([], None) if options.no_quality else quality()
        report(rows, options.out, accuracy, cost)
    except IntaglioError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0 if all(row.exact and row.float_free for row in rows) else 1


def run(networks: Sequence[str], cores: Sequence[str], *, software_float: bool) -> list[Row]:
    """Measure every network on every core, with a progress bar.

    Raises:
        UsageError: an unknown network or core, or no models.
        IntaglioError: a network does not compile or run.
    """
    from rich.console import Console
    from rich.progress import track

    known = {network.key: network for network in NETWORKS}
    for name, choices in [(n, known) for n in networks] + [(c, CORES) for c in cores]:
        if name not in choices:
            raise UsageError(name, "is not known here", "choose from " + ", ".join(choices))
    folder = models_folder()
    pairs = [(known[name], CORES[core]) for name in networks for core in cores]
    rows = []
    for network, core in track(pairs, "measuring", console=Console(stderr=True)):
        model = folder / network.file
        if not model.exists():
            raise UsageError(str(model), "is missing", "set INTAGLIO_MODELS to the folder with the models")
        rows.append(measure_network(network, model, core, software_float=software_float and core.name in FLOAT_CORES))
    return rows


def quality() -> tuple[list[Accuracy], ToolCost]:
    """Accuracies of the float models quantised by us, and the cost of compiling, with a progress bar.

    Raises:
        IntaglioError: a model is missing, or does not compile.
    """
    from rich.console import Console
    from rich.progress import track

    folder = models_folder()
    found = list(track(accuracies(folder), "accuracies", total=4, console=Console(stderr=True)))
    return found, tool_cost(folder / NETWORKS[0].file)


def report(rows: Sequence[Row], out: Path, accuracy: Sequence[Accuracy] = (), cost: ToolCost | None = None) -> None:
    """Write `bench.md` and `bench.json`, and print the former.

    Raises:
        UsageError: the folder cannot be written.
    """
    peers = read_peers()
    compiler = find_compiler("arm-none-eabi-gcc").command
    toolchain = run_tool([*compiler, "--version"], timeout=20).stdout.splitlines()[0]
    targets = judge(rows, peers, accuracy, cost)
    text = markdown(rows, peers, targets, toolchain)
    data = {
        "toolchain": toolchain,
        "targets": [target.facts() for target in targets],
        "rows": [asdict(row) for row in rows],
        "means": ratios(rows, peers),
        "accuracies": [asdict(a) for a in accuracy],
        "tool": None if cost is None else asdict(cost),
        "peers": peers,
        "comparisons": compare(rows, peers),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.md").write_text(text, encoding="utf-8")
        (out / "bench.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(str(out), f"cannot be written ({error.strerror})", "choose another with --out") from None
    print(text)
    print(f"written to {out / 'bench.md'} and {out / 'bench.json'}")


if __name__ == "__main__":
    sys.exit(main())
