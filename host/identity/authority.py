"""The certificate authority of a fleet: a root key and its certificate in the folder of the registry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from intaglio.host.files import whole_file
from intaglio.host.identity.certificates import SKEW, Issued, make_root, now
from intaglio.quantizer.errors import IdentityError, UsageError

CERTIFICATE, KEY, CRL, REGISTRY = "ca.pem", "ca.key.pem", "ca.crl.pem", "registry.db"


def fleet_folder() -> Path:
    """Where authority and registry are kept: `$INTAGLIO_FLEET`, else `$XDG_DATA_HOME/intaglio/fleet`, else under
    `~/.local/share`."""
    named = os.environ.get("INTAGLIO_FLEET")
    if named:
        return Path(named)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "intaglio" / "fleet"


def new_authority(folder: Path, name: str, life: timedelta) -> Issued:
    """Make the root of a fleet.

    Args:
        folder: made when missing.
        name: common name of the root, 1 to 64 printable characters.

    Raises:
        UsageError: not such a name.
        IdentityError: there is a root already, or the folder cannot be written.
    """
    if not (1 <= len(name) <= 64 and name.isprintable()):
        raise UsageError(f"name {name!r}", "is not a name for an authority", "use 1 to 64 printable characters")
    root = make_root(name, checked_life(life), now())
    if (folder / CERTIFICATE).exists() or (folder / KEY).exists():
        hint = "go on with it, or name another folder in INTAGLIO_FLEET: an authority is never overwritten"
        raise IdentityError(str(folder), "there is a certificate authority here already", hint)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_key(folder / KEY, root.key_pem())
        try:
            with whole_file(folder / CERTIFICATE) as scratch:
                scratch.write_bytes(root.certificate_pem())
        except BaseException:
            (folder / KEY).unlink()
            raise
    return root


def load_authority(folder: Path) -> Issued:
    """Read the root of a fleet.

    Raises:
        IdentityError: there is none, its files are damaged or do not belong together, it has expired, or this
            machine's clock is behind the time at which it was made.
    """
    certificate_file, key_file = folder / CERTIFICATE, folder / KEY
    if not certificate_file.exists() or not key_file.exists():
        missing = certificate_file if not certificate_file.exists() else key_file
        hint = "make one with `intaglio ca init`, or name the folder in INTAGLIO_FLEET"
        raise IdentityError(str(missing), "there is no certificate authority here", hint)
    certificate = read_certificate(certificate_file)
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        raise IdentityError(str(key_file), f"cannot be read ({error.strerror})", "check the file") from None
    except Exception as error:  # the library raises many kinds
        why = f"is not a private key in PEM without a passphrase ({type(error).__name__})"
        raise IdentityError(str(key_file), why, "restore it from its backup") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        what = f"is not the key of {certificate_file.name}"
        raise IdentityError(str(key_file), what, "restore both from one backup")
    at = now()
    if at > certificate.not_valid_after_utc:
        what = f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise IdentityError(str(certificate_file), what, "begin anew in another INTAGLIO_FLEET with `intaglio ca init`")
    made = certificate.not_valid_before_utc + SKEW
    if at < made - timedelta(minutes=5):
        what = f"was made on {made:%Y-%m-%d %H:%M} UTC, and this machine's clock says {at:%Y-%m-%d %H:%M}"
        raise IdentityError(str(certificate_file), what, "set the clock")
    return Issued(certificate, key)


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM.

    Raises:
        IdentityError: it cannot be read or is not one.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise IdentityError(str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except Exception:  # the library raises many kinds
        raise IdentityError(str(path), "is not a certificate in PEM", "name a .pem file") from None


def read_request(path: Path) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate signing request (PKCS #10, RFC 2986); what else it asks for is not looked at.

    Raises:
        IdentityError: it cannot be read, is not one, does not prove that its author has the private key, or the key is
            not EC P-256.
    """
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        proven, key = request.is_signature_valid, request.public_key()
    except OSError as error:
        raise IdentityError(str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except Exception:  # the library raises many kinds
        raise IdentityError(str(path), "is not a signing request in PEM", "make one: openssl req -new") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(
            str(path), "is not for an EC P-256 key", "make one: openssl ecparam -name prime256v1 -genkey"
        )
    if not proven:
        raise IdentityError(str(path), "is not signed by its own key", "make it anew: openssl req -new")
    return key


def check_issuer(root: Issued, certificate: x509.Certificate, where: str) -> None:
    """Whether the root signed a certificate.

    Raises:
        IdentityError: it did not.
    """
    try:
        certificate.verify_directly_issued_by(root.certificate)
    except (InvalidSignature, ValueError, TypeError):
        issuer = certificate.issuer.rfc4514_string()
        ours = root.certificate.subject.rfc4514_string()
        what = f"was not issued by this authority ({ours}) but by {issuer or 'nobody named'}"
        if issuer == ours:
            what = f"was issued by another authority of the same name ({ours})"
        raise IdentityError(where, what, "name the folder of its authority in INTAGLIO_FLEET") from None


def crl_date(folder: Path, at: datetime) -> datetime:
    """thisUpdate of the next revocation list: before `at` by the skew of clocks, and after that of the last list."""
    try:
        last = x509.load_pem_x509_crl((folder / CRL).read_bytes()).last_update_utc
    except (OSError, ValueError):
        last = datetime.fromtimestamp(0, UTC)
    return max(at - SKEW, last + timedelta(seconds=1))


def checked_life(life: timedelta) -> timedelta:
    """Raises: UsageError: not between a day and a hundred years."""
    if not timedelta(days=1) <= life <= timedelta(days=36525):
        raise UsageError(f"--days {life.days}", "is not a life for a certificate", "give 1 to 36525")
    return life


def write_key(path: Path, pem: bytes) -> None:
    """Write a private key that its owner alone can read, whole or not at all.

    Raises:
        IdentityError: there is one: a key is never overwritten.
        OSError: it cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)  # unlike a rename it fails when there is one
    except FileExistsError:
        raise occupied(path) from None
    finally:
        scratch.unlink(missing_ok=True)


def occupied(path: Path) -> IdentityError:
    """The error for a place where something is already."""
    return IdentityError(str(path), "holds something already", "choose another place: a key is never overwritten")


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what fails when a folder is written to into one line.

    Raises:
        IdentityError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise IdentityError(str(folder), f"cannot be written ({error.strerror})", "choose another folder") from None
