"""Signing keys: files that openssl reads, never overwritten, refused when they are something else."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from intaglio.host.keys import PublicKey, list_keys, load_public_key, load_signing_key, new_key
from intaglio.quantizer.errors import PackageError, UsageError

# RFC 8032, section 7.1, TEST 2: public key, message, signature.
RFC_8032 = (
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d"
    "291612bb0c00",
)


def test_a_pair_signs_and_checks(tmp_path: Path) -> None:
    made = new_key("release", tmp_path)
    signing, public = load_signing_key("release", tmp_path), load_public_key("release", tmp_path)
    assert signing.public == public == made
    assert public.id == hashlib.sha256(public.raw).digest()[:8]
    signature = signing.sign(b"message")
    assert public.verifies(signature, b"message")
    assert not public.verifies(signature, b"messagf")
    assert not public.verifies(signature[:-1], b"message")
    assert not public.verifies(bytes(64), b"message")
    assert [(key.name, mine) for key, mine in list_keys(tmp_path)] == [("release", True)]
    assert stat.S_IMODE((tmp_path / "release.pem").stat().st_mode) == 0o600


def test_signatures_are_those_of_rfc_8032() -> None:
    raw, message, signature = map(bytes.fromhex, RFC_8032)
    assert PublicKey(raw).verifies(signature, message)


def test_openssl_reads_the_files(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl: apt-get install openssl")
    new_key("k", tmp_path)
    shown = subprocess.run(
        [openssl, "pkey", "-in", tmp_path / "k.pem", "-pubout"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == (tmp_path / "k.pub.pem").read_text()


def test_a_public_key_alone_checks(tmp_path: Path) -> None:
    new_key("k", tmp_path / "mine")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    shutil.copy(tmp_path / "mine" / "k.pub.pem", theirs)
    assert [(key.name, mine) for key, mine in list_keys(theirs)] == [("k", False)]
    with pytest.raises(PackageError, match="there is no"):
        load_signing_key("k", theirs)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    new_key("k", tmp_path)
    before = (tmp_path / "k.pem").read_bytes()
    with pytest.raises(PackageError, match="exists already"):
        new_key("k", tmp_path)
    assert (tmp_path / "k.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["", "../k", "a/b", ".hidden", "k.pem", "k.pub", "x" * 65, "a b"])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for a key"):
        new_key(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_key(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem, none, raw = serialization.Encoding.PEM, serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    other = ec.generate_private_key(ec.SECP256R1())
    public = other.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    locked = serialization.BestAvailableEncryption(b"secret")
    new_key("k", tmp_path)
    mine = load_signing_key("k", tmp_path).secret
    files = {
        "garbage": (b"garbage", "is not a private key"),
        "empty": (b"", "is not a private key"),
        "curve": (other.private_bytes(pem, raw, none), "is not an Ed25519 key"),
        "locked": (mine.private_bytes(pem, raw, locked), "without a passphrase"),
    }
    for name, (data, message) in files.items():
        (tmp_path / f"{name}.pem").write_bytes(data)
        with pytest.raises(PackageError, match=message):
            load_signing_key(name, tmp_path)
    for data, message in ((b"garbage", "is not a public key"), (public, "is not an Ed25519 key")):
        (tmp_path / "p.pub.pem").write_bytes(data)
        with pytest.raises(PackageError, match=message):
            load_public_key("p", tmp_path)
    with pytest.raises(PackageError, match="cannot be read"):
        load_signing_key(str(tmp_path / "none.pem"))
