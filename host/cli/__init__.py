"""The command line: `intaglio`.

Modules of this folder import nothing heavy at the top, so that `intaglio --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer

from intaglio.host.cli.build import register as register_build
from intaglio.host.cli.captures import register as register_captures
from intaglio.host.cli.compiling import register as register_compiling
from intaglio.host.cli.device import register as register_device
from intaglio.host.cli.fleets import register as register_fleets
from intaglio.host.cli.identity import register as register_identity
from intaglio.host.cli.ingest import register as register_ingest
from intaglio.host.cli.machine import register as register_machine
from intaglio.host.cli.packaging import register as register_packaging
from intaglio.host.cli.replay import register as register_replay
from intaglio.host.cli.slots import register as register_slots

app = typer.Typer(
    name="intaglio",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Compile trained models to float-free integer C for microcontrollers, and run them there.

    A first run, on a simulated BBC micro:bit:

        intaglio compile model.tflite --board microbit -o out

        intaglio verify model.tflite --board microbit

        intaglio build model.tflite --board microbit

        intaglio predict --port sim:microbit --samples samples.npz

    Every integer that the device computes is known beforehand: `verify` shows it. Exit status: 0 done,
    1 failed, 2 wrong use. Errors are one line that says what to do; `--debug` shows where they came from.
    `intaglio --install-completion` completes commands, options, boards and cores in your shell.
    """,
)


@app.callback(invoke_without_command=True)
def root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    """Options before the command."""
    if debug:
        os.environ["INTAGLIO_DEBUG"] = "1"
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"intaglio {installed('intaglio')}")
        raise typer.Exit


for register in (
    register_compiling,
    register_build,
    register_device,
    register_slots,
    register_captures,
    register_packaging,
    register_replay,
    register_identity,
    register_fleets,
    register_ingest,
    register_machine,
):
    register(app)


def main() -> None:
    """Entry point: run a command, turn every error into one line and an exit status."""
    # Our matrices are small: on a busy machine BLAS threads that wait for each other cost ten times what they save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit status: 0 done, 1 failed, 2 wrong use."""
    from intaglio.host.files import NO_ROOM
    from intaglio.quantizer.errors import IntaglioError

    os.environ.pop("INTAGLIO_DEBUG", None)
    if "--debug" in arguments[1:]:
        # The advice is to repeat a command with it: let it stand at the end too.
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    try:
        result = app(args=arguments, prog_name="intaglio", standalone_mode=False)
    except IntaglioError as error:
        return _report(str(error), error.exit_status)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has had enough of it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = NO_ROOM if full else "check the path"
        return _report(f"{error.filename or 'the system'}: {error.strerror or error}; {hint}", 1)
    except KeyboardInterrupt:
        return _report("interrupted", 130)
    except Exception as error:
        if hasattr(error, "format_message"):
            return _wrong_use(error)
        return _report(f"internal error: {type(error).__name__}: {error}; repeat with --debug and report it", 1)
    return result if isinstance(result, int) else 0


def _wrong_use(error: Any) -> int:
    """A command line that cannot be parsed: one line, or the help where nothing was asked for.

    Args:
        error: a ClickException, whose class is click's or one of typer's own, by typer's version.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    where = "" if context is None else f"; see `{context.command_path} --help`"
    return _report(error.format_message().rstrip(".") + where, int(error.exit_code))


def _report(message: str, status: int) -> int:
    if os.environ.get("INTAGLIO_DEBUG"):
        import traceback

        traceback.print_exc()
    print(f"intaglio: {' '.join(message.split())}", file=sys.stderr)
    return status
