"""Monocypher, whose C checks signatures on the device: taken from the source distribution of `pymonocypher`."""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from intaglio.host.toolchain import cache_folder, run_tool
from intaglio.quantizer.errors import ToolError

_PACKAGE, _VERSION = "pymonocypher", "4.0.3.4"  # holds Monocypher 4.0.3
_SHA256 = "5e56e3d3eb770a53e0b9f6274146663c11a11f3d0de5cd48e3be0428d1b07a4a"
_FILES = ("monocypher.c", "monocypher.h")


def monocypher_folder() -> Path:
    """The folder of `monocypher.c` and `monocypher.h`; pip fetches them the first time, the cache keeps them.

    Raises:
        ToolError: pip cannot fetch the package, or what it fetches is not the one whose digest is known.
    """
    folder = cache_folder() / f"monocypher-{_SHA256[:16]}"
    if all((folder / name).is_file() for name in _FILES):
        return folder
    with tempfile.TemporaryDirectory(prefix="intaglio-monocypher-") as scratch:
        archive = _fetch(Path(scratch))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as tar:
                for name in _FILES:
                    member = tar.extractfile(f"{_PACKAGE}-{_VERSION}/{name}")
                    assert member is not None
                    part = folder / f".{name}.{os.getpid()}"
                    part.write_bytes(member.read())
                    part.replace(folder / name)
        except OSError as error:
            raise ToolError(str(folder), f"cannot be written ({error.strerror})", "set XDG_CACHE_HOME") from None
    return folder


def _fetch(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{_SHA256}\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", _PACKAGE, "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    done = run_tool(command, timeout=300, allow_failure=True)
    archive = folder / f"{_PACKAGE}-{_VERSION}.tar.gz"
    if done.returncode != 0 or not archive.is_file():
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ToolError(
            f"{_PACKAGE} {_VERSION}",
            f"cannot be fetched by pip ({(lines or ['no message'])[0][:200]})",
            "give pip access to a package index once, or build without --trust",
        )
    if hashlib.sha256(archive.read_bytes()).hexdigest() != _SHA256:
        raise ToolError(f"{_PACKAGE} {_VERSION}", "is not the file whose digest is known", "check pip's index")
    return archive
