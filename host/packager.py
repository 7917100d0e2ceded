"""Make packages: link a library for each slot of a board and sign the result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intaglio.boards.board import load_board
from intaglio.host.keys import SigningKey
from intaglio.host.library import open_library
from intaglio.host.package import SIGNED_PREFIX, Package, package_schema, parse_package
from intaglio.host.protocol import ABI_VERSION, PACKAGE_VERSION
from intaglio.host.schema import MessageError
from intaglio.host.slotlink import compiler_version, link_slots
from intaglio.quantizer.errors import PackageError, UsageError

# Semantic Versioning 2.0.0, section 2 and items 9 and 10.
_NUMBER = r"(?:0|[1-9]\d*)"
_TAG = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_SEMANTIC = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_TAG}(?:\.{_TAG})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


def make_package(
    library: Path,
    made: Mapping[str, Any],
    board: str,
    version: str,
    key: SigningKey,
    counter: int,
    lineage: Mapping[str, Any],
) -> Package:
    """Link a compiled library for every slot of a board and sign the result.

    Args:
        library: the folder that `intaglio compile` wrote.
        made: the library's manifest, sizes included.
        version: semantic version 2.0.0.
        counter: security counter; a device refuses a package of the same name with a lower one than it has loaded.
        lineage: where the model comes from: digests of the model file and of the calibration data, statistics.

    Raises:
        UsageError: not a semantic version, or a counter that is no 32-bit number.
        PackageError: the library is for another core, its stack is not known, or its facts are too large.
        IntaglioError: see `link_slots`.
    """
    if not _SEMANTIC.match(version) or len(version) > 64:
        raise UsageError(f"--version {version}", "is not a semantic version", "give, for example, 1.2.0")
    if not 0 <= counter < 1 << 32:
        raise UsageError(f"--counter {counter}", "is not a number of 32 bits", "count up from 0")
    target = load_board(board)
    opened = open_library(library)
    if made.get("core") != target.core.name:
        raise PackageError(
            str(library), f"was compiled for {made.get('core')}, {board} has a {target.core.name}", "compile it again"
        )
    if made.get("stack_bytes") is None:
        raise PackageError(str(library), "the stack that it needs is not known", "install what `intaglio doctor` names")
    images = link_slots(opened, target)
    facts = {key: made[key] for key in ("inputs", "outputs", "layers", "macs", "live_macs", "flash_bytes")} | {
        "compiler": compiler_version(),
        "lineage": lineage,
    }
    details = _dump_json(facts)
    signed = package_schema().encode(
        "manifest-map",
        {
            "format": PACKAGE_VERSION,
            "name": opened.name,
            "version": version,
            "counter": counter,
            "board": board,
            "core": target.core.name,
            "contract": made["contract"],
            "abi": ABI_VERSION,
            "arena": made["arena_bytes"],
            "state": made["state_bytes"],
            "stack": made["stack_bytes"],
            "graph": bytes.fromhex(made["digest"]),
            "details": hashlib.sha256(details).digest(),
            "key": key.public.id,
            "slots": [
                {"address": i.address, "size": len(i.data), "digest": hashlib.sha256(i.data).digest()} for i in images
            ],
        },
    )
    try:
        data = package_schema().encode(
            "package",
            {
                "manifest": signed,
                "signature": key.sign(SIGNED_PREFIX + signed),
                "facts": details,
                "images": [image.data for image in images],
            },
        )
    except MessageError as error:
        raise PackageError(str(library), f"cannot be packaged: {error}", "shorten the names in the model") from None
    return parse_package(data, str(library))


def _dump_json(value: object) -> bytes:
    """JSON with one form for each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
