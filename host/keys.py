"""Ed25519 keys that sign packages (RFC 8032): one PEM file each, in a folder of the user's.

A private key is PKCS #8 (RFC 5958), readable by its owner alone; a public one SubjectPublicKeyInfo (RFC 8410). Both are
what `openssl pkey` reads and writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intaglio.quantizer.errors import PackageError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID_BYTES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def keys_folder() -> Path:
    """Where keys are kept: `$INTAGLIO_KEYS`, else `$XDG_CONFIG_HOME/intaglio/keys`, else `~/.config/intaglio/keys`."""
    named = os.environ.get("INTAGLIO_KEYS")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "intaglio" / "keys"


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures.

    Attributes:
        raw: its 32 bytes (RFC 8032, section 5.1.5).
        name: of its file; empty for one that has none.
    """

    raw: bytes
    name: str = ""

    @property
    def id(self) -> bytes:
        """By which a manifest names it: the first 8 bytes of the SHA-256 of `raw`."""
        return hashlib.sha256(self.raw).digest()[:KEY_ID_BYTES]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the private key behind this one made the signature over the message."""
        from cryptography.exceptions import InvalidSignature

        with contextlib.suppress(InvalidSignature, ValueError):
            self._load().verify(signature, message)
            return True
        return False

    def pem(self) -> str:
        """The key as PEM."""
        from cryptography.hazmat.primitives import serialization

        return (
            self._load()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def _load(self) -> Ed25519PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(self.raw)


@dataclass(frozen=True)
class SigningKey:
    """A key that signs; `public` is its other half."""

    secret: Ed25519PrivateKey
    public: PublicKey

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self.secret.sign(message)


def new_key(name: str, folder: Path | None = None) -> PublicKey:
    """Make a key pair: `NAME.pem`, readable by its owner alone, and `NAME.pub.pem`.

    Raises:
        UsageError: not a name for a file.
        PackageError: the name is taken, or the folder cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not _NAME.match(name) or name.endswith((".pem", ".pub")):
        raise UsageError(f"key {name!r}", "is not a name for a key", "use letters, digits, dots, dashes, underscores")
    folder = folder or keys_folder()
    path = folder / f"{name}.pem"
    secret = Ed25519PrivateKey.generate()
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = PublicKey(secret.public_key().public_bytes_raw(), name)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        (folder / f"{name}.pub.pem").write_text(public.pem(), encoding="ascii")
    except FileExistsError:
        raise PackageError(str(path), "exists already", "choose another name: a key is never overwritten") from None
    except OSError as error:
        raise PackageError(str(path), f"cannot be written ({error.strerror})", "set INTAGLIO_KEYS") from None
    return public


def load_signing_key(name: str, folder: Path | None = None) -> SigningKey:
    """Read a private key, by its name in the folder of keys or by the path of its file.

    Raises:
        PackageError: it is missing, not an Ed25519 private key, or has a passphrase.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = _find(name, folder, ".pem", "intaglio key new NAME makes one")
    try:
        secret = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise PackageError(str(path), f"cannot be read ({error.strerror})", "check the file") from None
    except (ValueError, TypeError, ArithmeticError):
        raise PackageError(
            str(path), "is not a private key in PEM without a passphrase", "make one: intaglio key new"
        ) from None
    except Exception as error:  # what the library has no support for
        raise PackageError(
            str(path), f"cannot be used ({type(error).__name__})", "make one: intaglio key new"
        ) from None
    if not isinstance(secret, Ed25519PrivateKey):
        raise PackageError(str(path), "is not an Ed25519 key", "make one with `intaglio key new`")
    return SigningKey(secret, PublicKey(secret.public_key().public_bytes_raw(), path.name.removesuffix(".pem")))


def load_public_key(name: str, folder: Path | None = None) -> PublicKey:
    """Read a public key, by its name in the folder of keys or by the path of its file.

    Raises:
        PackageError: it is missing or not an Ed25519 public key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    path = _find(name, folder, ".pub.pem", "intaglio key list shows what there is")
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise PackageError(str(path), f"cannot be read ({error.strerror})", "check the file") from None
    except Exception:  # the library raises many kinds
        raise PackageError(str(path), "is not a public key in PEM", "export one: intaglio key export NAME") from None
    if not isinstance(key, Ed25519PublicKey):
        raise PackageError(str(path), "is not an Ed25519 key", "export one: intaglio key export NAME")
    return PublicKey(key.public_bytes_raw(), path.name.removesuffix(".pem").removesuffix(".pub"))


def list_keys(folder: Path | None = None) -> list[tuple[PublicKey, bool]]:
    """The public keys of the folder by name, and whether the private one is there too.

    Raises:
        PackageError: one of them cannot be read.
    """
    folder = folder or keys_folder()
    found = sorted(folder.glob("*.pub.pem")) if folder.is_dir() else []
    return [(load_public_key(str(path)), (folder / path.name.replace(".pub.pem", ".pem")).exists()) for path in found]


def _find(name: str, folder: Path | None, suffix: str, hint: str) -> Path:
    """The file of a key given by path or by name."""
    if "/" in name or name.endswith(".pem"):
        return Path(name)
    path = (folder or keys_folder()) / f"{name}{suffix}"
    if not path.exists():
        raise PackageError(f"key {name!r}", f"there is no {path}", hint)
    return path
