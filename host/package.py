"""Packages: one model linked for each slot of a board, with a signed manifest, as `package.cddl` describes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.boards.board import load_board
from intaglio.host.keys import PublicKey, SigningKey
from intaglio.host.library import open_library
from intaglio.host.protocol import ABI_VERSION, PACKAGE_VERSION
from intaglio.host.schema import MessageError, Schema, load_schema
from intaglio.host.slotlink import compiler_version, link_slots
from intaglio.quantizer.errors import PackageError, UsageError

CDDL = Path(__file__).with_name("package.cddl")
SUFFIX = ".ipkg"
SIGNED_PREFIX = b"intaglio package 1\0"
_LARGEST = 64 << 20
# Semantic Versioning 2.0.0, section 2 and items 9 and 10.
_NUMBER = r"(?:0|[1-9]\d*)"
_TAG = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_SEMANTIC = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_TAG}(?:\.{_TAG})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)


@dataclass(frozen=True)
class Slot:
    """One slot's image as the manifest names it: address, bytes, SHA-256."""

    address: int
    size: int
    digest: bytes


@dataclass(frozen=True)
class Manifest:
    """What a device checks before a model may run; the fields of `manifest-map` in `package.cddl`."""

    name: str
    version: str
    counter: int
    board: str
    core: str
    contract: str
    abi: int
    arena: int
    state: int
    stack: int
    graph: bytes
    details: bytes
    key: bytes
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Package:
    """A package that is whole; who signed it is for `check_signature` to say.

    Attributes:
        manifest: decoded; `signed` are its bytes.
        signature: 64 bytes.
        facts: for people and tools: tensors, layers, statistics of the calibration, lineage.
        images: one per slot, in the manifest's order.
        data: the whole file.
    """

    manifest: Manifest
    signed: bytes
    signature: bytes
    facts: dict[str, Any]
    images: tuple[bytes, ...]
    data: bytes

    @property
    def digest(self) -> str:
        """The name of its content: SHA-256 of the manifest, hexadecimal."""
        return hashlib.sha256(self.signed).hexdigest()

    @property
    def file_name(self) -> str:
        """By convention: NAME-VERSION-BOARD.ipkg."""
        return f"{self.manifest.name}-{self.manifest.version}-{self.manifest.board}{SUFFIX}"

    def check_signature(self, keys: Iterable[PublicKey]) -> PublicKey:
        """The key that signed it.

        Raises:
            PackageError: none of them did.
        """
        for key in keys:
            if key.id == self.manifest.key and key.verifies(self.signature, SIGNED_PREFIX + self.signed):
                return key
        raise PackageError(
            f"{self.manifest.name} {self.manifest.version}",
            f"no trusted key signed it (it names {self.manifest.key.hex()})",
            "`intaglio key list` shows the keys that are trusted here",
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
    signed = _schema().encode(
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
        data = _schema().encode(
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


def read_package(path: Path) -> Package:
    """Read a file.

    Raises:
        PackageError: it cannot be read, or is not a whole package.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise PackageError(str(path), f"is larger than {_LARGEST >> 20} MB", "give a package")
        data = path.read_bytes()
    except OSError as error:
        raise PackageError(str(path), f"cannot be read ({error.strerror})", "give a package") from None
    return parse_package(data, str(path))


def parse_package(data: bytes, where: str) -> Package:
    """Take a package apart. Every byte is checked: by a digest, by the signature, or by having one encoding only.

    Args:
        data: any bytes.
        where: they come from, for the message.

    Raises:
        PackageError: not a package, or one that is damaged.
    """
    hint = "make it again with `intaglio package`, or fetch it again"
    try:
        outer = _schema().decode("package", data)
        if _schema().encode("package", outer) != data:
            raise MessageError("not in the deterministic encoding")
        inner = _schema().decode("manifest-map", outer["manifest"])
        if _schema().encode("manifest-map", inner) != outer["manifest"]:
            raise MessageError("manifest not in the deterministic encoding")
    except MessageError as error:
        raise PackageError(where, f"is not a package: {error}", hint) from None
    if inner.pop("format") != PACKAGE_VERSION:
        raise PackageError(where, "is of another format version", "take the Intaglio that made it")
    slots = tuple(Slot(**slot) for slot in inner.pop("slots"))
    manifest = Manifest(**inner, slots=slots)
    if hashlib.sha256(outer["facts"]).digest() != manifest.details:
        raise PackageError(where, "its facts are damaged", hint)
    if len(outer["images"]) != len(slots):
        raise PackageError(where, f"holds {len(outer['images'])} images, its manifest names {len(slots)}", hint)
    for slot, image in zip(slots, outer["images"], strict=True):
        if len(image) != slot.size or hashlib.sha256(image).digest() != slot.digest:
            raise PackageError(where, f"the image for {slot.address:#x} is damaged", hint)
    try:
        facts = json.loads(outer["facts"])
        if not isinstance(facts, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise PackageError(where, "its facts are not JSON", hint) from None
    return Package(manifest, outer["manifest"], outer["signature"], facts, tuple(outer["images"]), data)


def _schema() -> Schema:
    return load_schema(CDDL)


def _dump_json(value: object) -> bytes:
    """JSON with one form for each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
