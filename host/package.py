"""Packages: one model linked for each slot of a board, with a signed manifest, as `package.cddl` describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.host.keys import PublicKey
from intaglio.host.protocol import PACKAGE_VERSION
from intaglio.host.schema import MessageError, Schema, load_schema
from intaglio.quantizer.errors import PackageError

CDDL = Path(__file__).with_name("package.cddl")
SUFFIX = ".ipkg"
SIGNED_PREFIX = b"intaglio package 1\0"
_LARGEST = 64 << 20


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
        outer = package_schema().decode("package", data)
        if package_schema().encode("package", outer) != data:
            raise MessageError("not in the deterministic encoding")
        inner = package_schema().decode("manifest-map", outer["manifest"])
        if package_schema().encode("manifest-map", inner) != outer["manifest"]:
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


def package_schema() -> Schema:
    """The maps of `package.cddl`."""
    return load_schema(CDDL)
