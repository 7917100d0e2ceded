"""Authority and registry: what certificates say, what is refused, and that a failure leaves nothing half done."""

from __future__ import annotations

import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from intaglio.host.identity import authority
from intaglio.host.identity import office as office_module
from intaglio.host.identity.authority import load_authority, new_authority
from intaglio.host.identity.broker import BROKER, BROKER_KEY, CONFIGURATION, TOPICS, write_broker
from intaglio.host.identity.certificates import SKEW, now
from intaglio.host.identity.office import Office
from intaglio.quantizer.errors import BoardError, IdentityError, IntaglioError, UsageError

from .conftest import CHIPS, new_office


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def register(office: Office, name: str = "leaf-1", gateway: str | None = None, chip: str | None = None) -> None:
    office.register(name, "leaf", "meadow", gateway, chip or CHIPS[name])


def test_what_the_root_says(office: Office) -> None:
    root = read(office.folder / "ca.pem")
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert usage.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert root.issuer == root.subject
    root.verify_directly_issued_by(root)
    assert mode(office.folder / "ca.key.pem") == 0o600
    assert mode(office.folder / "registry.db") == 0o600


def test_what_a_device_s_certificate_says(office: Office, tmp_path: Path) -> None:
    register(office)
    office.issue("device", "leaf-1", tmp_path / "out")
    root, made = read(office.folder / "ca.pem"), read(tmp_path / "out" / "device.pem")
    made.verify_directly_issued_by(root)
    subject = {a.oid: a.value for a in made.subject}
    assert subject == {NameOID.COMMON_NAME: "device:leaf-1", NameOID.SERIAL_NUMBER: CHIPS["leaf-1"]}
    found = {type(e.value): e for e in made.extensions}
    assert found[x509.BasicConstraints].critical
    assert found[x509.KeyUsage].critical
    assert found[x509.BasicConstraints].value == x509.BasicConstraints(ca=False, path_length=None)
    assert list(found[x509.ExtendedKeyUsage].value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    (name,) = found[x509.SubjectAlternativeName].value
    assert name == x509.UniformResourceIdentifier("urn:intaglio:device:leaf-1")
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert found[x509.AuthorityKeyIdentifier].value.key_identifier == identifier.digest
    assert made.serial_number.bit_length() <= 159
    assert now() - made.not_valid_before_utc >= SKEW
    key = load_pem_private_key((tmp_path / "out" / "device.key.pem").read_bytes(), None)
    assert key.public_key() == made.public_key()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ca.pem", "device.key.pem", "device.pem"]
    assert mode(tmp_path / "out" / "device.key.pem") == 0o600
    assert mode(tmp_path / "out") == 0o700


def test_serials_and_keys_are_never_the_same(office: Office, tmp_path: Path) -> None:
    register(office)
    for i in range(8):
        office.issue("device", "leaf-1", tmp_path / str(i))
    made = [read(tmp_path / str(i) / "device.pem") for i in range(8)]
    assert len({c.serial_number for c in made}) == 8
    assert len({(tmp_path / str(i) / "device.key.pem").read_bytes() for i in range(8)}) == 8


def test_openssl_takes_certificates_and_lists(office: Office, tmp_path: Path) -> None:
    """By its strict reading of RFC 5280."""
    office.issue("gateway", "barn", tmp_path / "barn")
    office.issue("gateway", "mill", tmp_path / "mill")
    office.revoke("gateway", "mill", "key_compromise")
    write_broker(office, tmp_path / "broker", ("broker.example.org", "::1", "10.0.0.1"), 8883, None)
    arguments = ["openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", str(tmp_path / "broker" / "ca.crl.pem")]
    arguments += ["-CAfile", str(tmp_path / "broker" / "ca.pem")]
    for purpose, file, said in (
        ("sslclient", tmp_path / "barn" / "gateway.pem", "OK"),
        ("sslserver", tmp_path / "broker" / "broker.pem", "OK"),
        ("sslclient", tmp_path / "mill" / "gateway.pem", "certificate revoked"),
        ("sslserver", tmp_path / "barn" / "gateway.pem", "unsuitable certificate purpose"),
    ):
        done = subprocess.run(
            [*arguments, "-purpose", purpose, str(file)], capture_output=True, text=True, timeout=60, check=False
        )
        assert said in done.stdout + done.stderr
        assert (done.returncode == 0) == (said == "OK")


def test_the_life_of_a_certificate_ends_with_the_root(tmp_path: Path) -> None:
    with new_office(tmp_path / "fleet") as office:
        register(office)
        entry = office.issue("device", "leaf-1", tmp_path / "out")
        root = read(office.folder / "ca.pem")
        assert entry.until == int(root.not_valid_after_utc.timestamp())


def test_the_revocation_list_grows_in_number_and_date(office: Office, tmp_path: Path) -> None:
    lists = [x509.load_pem_x509_crl(office.renew_crl()) for _ in range(3)]
    office.issue("gateway", "barn", tmp_path / "barn")
    office.revoke("gateway", "barn", "key_compromise")
    lists.append(x509.load_pem_x509_crl((office.folder / "ca.crl.pem").read_bytes()))
    numbers = [c.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for c in lists]
    assert numbers == [1, 2, 3, 4]
    dates = [c.last_update_utc for c in lists]
    assert dates == sorted(set(dates))
    assert dates[-1] < now()
    (entry,) = lists[-1]
    assert entry.serial_number == read(tmp_path / "barn" / "gateway.pem").serial_number
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise


REFUSALS = {
    "fleet taken": (lambda o: o.create_fleet("meadow"), r"fleet 'meadow': exists already; choose another name"),
    "type taken": (lambda o: o.add_type("leaf", "microbit", ()), r"device type 'leaf': exists already"),
    "no such board": (lambda o: o.add_type("t", "microbitt", ()), r"board 'microbitt': .*did you mean microbit"),
    "no such type": (lambda o: o.register("a", "lead", "meadow", None, "00" * 8), r"device type 'lead': .*mean leaf\?"),
    "no such fleet": (lambda o: o.register("a", "leaf", "medow", None, "00" * 8), r"fleet 'medow': .*mean meadow\?"),
    "no such gateway": (
        lambda o: o.register("a", "leaf", "meadow", "barn", "00" * 8),
        r"gateway 'barn': there is no such gateway; make one: intaglio ca issue gateway NAME -o FOLDER",
    ),
    "name taken": (lambda o: register(o, "leaf-1", chip="00" * 8), r"device 'leaf-1': exists already"),
    "registered twice": (lambda o: register(o, "x", chip=CHIPS["leaf-1"]), r"is registered already, as 'leaf-1'"),
    "in capitals": (lambda o: register(o, "x", chip=CHIPS["leaf-1"].upper()), r"is registered already, as 'leaf-1'"),
    "short id": (lambda o: register(o, "x", chip="0011"), r"--id 0011: has 4 hexadecimal digits; .*microbit has 16"),
    "no hexadecimal": (lambda o: register(o, "x", chip="leaf"), r"id 'leaf': is not the unique id of a chip"),
    "id missing": (lambda o: o.register("x", "leaf", "meadow", None, None), r"--id: is missing: board microbit"),
    "no such device": (
        lambda o: o.revoke("device", "leaf-2", "unspecified"),
        r"device 'leaf-2': .*did you mean leaf-1",
    ),
    "moved nowhere": (lambda o: o.move("leaf-1", "medow", None), r"fleet 'medow': there is no such fleet; did you"),
    "kind": (lambda o: o.issue("broker", "b", o.folder / "x"), r"kind 'broker': .*try gateway or worker"),
    "days": (lambda o: o.issue("gateway", "b", o.folder / "x", 0), r"--days 0: .*give 1 to 36525"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_changes_nothing(office: Office, case: str) -> None:
    register(office)
    do, pattern = REFUSALS[case]
    before = (office.registry.devices(), office.registry.fleets(), office.registry.types())
    with pytest.raises(IntaglioError, match=pattern) as told:
        do(office)
    assert "\n" not in str(told.value)
    assert isinstance(told.value, IdentityError | UsageError | BoardError)
    assert (office.registry.devices(), office.registry.fleets(), office.registry.types()) == before
    assert office.registry.certificates() == []


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "$SYS", "a b", "a\n", "\x00", "é", "-a", ".", "a" * 49, "a:b"])
def test_names_that_do_not_fit_into_a_topic_are_refused(office: Office, tmp_path: Path, name: str) -> None:
    for do in (
        lambda: office.create_fleet(name),
        lambda: office.add_type(name, "microbit", ()),
        lambda: office.add_type("t", "microbit", (name,)),
        lambda: office.register(name, "leaf", "meadow", None, "00" * 8),
        lambda: office.issue("gateway", name, tmp_path / "out"),
    ):
        with pytest.raises(UsageError, match="is not a name"):
            do()


def test_the_longest_name_fits_into_a_common_name(office: Office, tmp_path: Path) -> None:
    office.issue("gateway", "g" * 48, tmp_path / "out")
    office.register("d" * 48, "leaf", "meadow", "g" * 48, "00" * 8)
    office.issue("device", "d" * 48, tmp_path / "device")
    assert read(tmp_path / "device" / "device.pem").subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def test_a_board_without_a_unique_id_goes_by_its_name_once(office: Office) -> None:
    office.add_type("bench", "netduinoplus2", ())
    assert office.register("one", "bench", "meadow", None, None).chip == "netduinoplus2"
    with pytest.raises(IdentityError, match="chip netduinoplus2: is registered already, as 'one'"):
        office.register("two", "bench", "meadow", None, None)
    with pytest.raises(UsageError, match="has no unique id; leave --id out"):
        office.register("two", "bench", "meadow", None, "00" * 12)


def test_session_keys_differ(office: Office) -> None:
    for name in CHIPS:
        register(office, name)
    keys = {device.key for device in office.registry.devices()}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert not any(repr(device.key) in repr(device) for device in office.registry.devices())


def test_a_revoked_device_stays_revoked(office: Office, tmp_path: Path) -> None:
    register(office)
    office.issue("device", "leaf-1", tmp_path / "out")
    assert office.revoke("device", "leaf-1", "unspecified") == 1
    for do in (
        lambda: office.issue("device", "leaf-1", tmp_path / "again"),
        lambda: office.revoke("device", "leaf-1", "unspecified"),
        lambda: office.move("leaf-1", None, ""),
    ):
        with pytest.raises(IdentityError, match="device 'leaf-1': is revoked"):
            do()
    with pytest.raises(IdentityError, match="registered already, as 'leaf-1'; it was revoked, and stays so"):
        register(office, "other", chip=CHIPS["leaf-1"])
    assert not (tmp_path / "again").exists()
    assert office.check(tmp_path / "out" / "device.pem").state(0) == "revoked"


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], capture_output=True, timeout=60, check=True)


def request(folder: Path, *curve: str) -> Path:
    """A key and a signing request for it, in which somebody else's name stands."""
    openssl("genpkey", *curve, "-out", str(folder / "own.key"))
    openssl(
        "req", "-new", "-key", str(folder / "own.key"), "-subj", "/CN=gateway:mill", "-out", str(folder / "own.csr")
    )
    return folder / "own.csr"


P256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def test_a_request_brings_a_public_key_and_nothing_else(office: Office, tmp_path: Path) -> None:
    office.issue("gateway", "barn", tmp_path / "out", request=request(tmp_path, *P256))
    made = read(tmp_path / "out" / "gateway.pem")
    assert made.subject.rfc4514_string() == "CN=gateway:barn"
    own = load_pem_private_key((tmp_path / "own.key").read_bytes(), None)
    assert made.public_key() == own.public_key()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ca.pem", "gateway.pem"]


def test_requests_that_are_refused(office: Office, tmp_path: Path) -> None:
    good = request(tmp_path, *P256)
    raw = bytearray(x509.load_pem_x509_csr(good.read_bytes()).public_bytes(Encoding.DER))
    at = raw.index(b"gateway:mill")
    raw[at : at + 12] = b"gateway:barn"
    forged = tmp_path / "forged.csr"
    forged.write_bytes(x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM))
    (tmp_path / "rubbish.csr").write_text("rubbish")
    other = tmp_path / "other"
    other.mkdir()
    for file, pattern in (
        (forged, "is not signed by its own key"),
        (tmp_path / "rubbish.csr", "is not a signing request in PEM"),
        (tmp_path / "nowhere.csr", "cannot be read"),
        (request(other, "-algorithm", "ED25519"), "is not for an EC P-256 key"),
        (request(other, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), "is not for an EC P-256 key"),
    ):
        with pytest.raises(IdentityError, match=pattern):
            office.issue("gateway", "barn", tmp_path / "out", request=file)
    assert office.registry.certificates() == []
    assert not (tmp_path / "out").exists()


def test_one_certificate_is_revoked_by_its_file(office: Office, tmp_path: Path) -> None:
    for folder in ("old", "new"):
        office.issue("gateway", "barn", tmp_path / folder)
    office.revoke_certificate(tmp_path / "old" / "gateway.pem", "superseded")
    at = int(now().timestamp())
    assert office.check(tmp_path / "old" / "gateway.pem").state(at) == "revoked"
    assert office.check(tmp_path / "new" / "gateway.pem").state(at) == "valid"
    assert office.check(tmp_path / "new" / "gateway.pem").state(at + 400 * 86400) == "expired"
    with pytest.raises(IdentityError, match="is revoked already"):
        office.revoke_certificate(tmp_path / "old" / "gateway.pem", "superseded")


def test_the_certificate_of_another_authority(office: Office, tmp_path: Path) -> None:
    with new_office(tmp_path / "other") as other:
        other.issue("gateway", "barn", tmp_path / "barn")
    new_authority(tmp_path / "third", "Third", timedelta(days=9))
    for do in (office.check, lambda path: office.revoke_certificate(path, "unspecified")):
        with pytest.raises(IdentityError, match="was issued by another authority of the same name"):
            do(tmp_path / "barn" / "gateway.pem")
        with pytest.raises(IdentityError, match=r"not issued by this authority \(CN=Test root\) but by CN=Third"):
            do(tmp_path / "third" / "ca.pem")
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(IdentityError, match=r"rubbish.pem: is not a certificate in PEM"):
        office.check(tmp_path / "rubbish.pem")
    with pytest.raises(IdentityError, match="cannot be read"):
        office.check(tmp_path / "nowhere.pem")


def test_an_authority_is_made_once(office: Office) -> None:
    before = {p.name: p.read_bytes() for p in office.folder.glob("ca*")}
    with pytest.raises(IdentityError, match="there is a certificate authority here already"):
        new_authority(office.folder, "Again", timedelta(days=9))
    assert {p.name: p.read_bytes() for p in office.folder.glob("ca*")} == before
    with pytest.raises(UsageError, match="is not a name for an authority"):
        new_authority(office.folder / "x", "a\nb", timedelta(days=9))


def test_an_authority_that_is_not_whole_is_not_used(office: Office, tmp_path: Path) -> None:
    key = office.folder / "ca.key.pem"
    pem = key.read_bytes()
    new_authority(tmp_path / "other", "Test root", timedelta(days=9))
    for text, pattern in (
        ((tmp_path / "other" / "ca.key.pem").read_bytes(), r"ca.key.pem: is not the key of ca.pem; restore both"),
        (pem[:100], r"ca.key.pem: is not a private key in PEM"),
        (None, r"ca.key.pem: there is no certificate authority here; make one with `intaglio ca init`"),
    ):
        key.unlink()
        if text is not None:
            key.write_bytes(text)
        with pytest.raises(IdentityError, match=pattern):
            office.issue("gateway", "barn", tmp_path / "out")
        key.touch()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("days", "pattern"), [(101, "expired on .*begin anew"), (-1, "this machine's clock says .*; set the clock")]
)
def test_the_clock(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, pattern: str) -> None:
    """Past the end of the root, and jumped back to before it was made."""
    at = now() + timedelta(days=days)
    monkeypatch.setattr(authority, "now", lambda: at)
    with pytest.raises(IdentityError, match=pattern):
        office.issue("gateway", "barn", tmp_path / "out")
    assert office.registry.certificates() == []


def test_a_folder_that_holds_something_is_left_alone(office: Office, tmp_path: Path) -> None:
    office.issue("gateway", "barn", tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for out in (tmp_path / "out", tmp_path / "out" / "gateway.pem"):
        with pytest.raises(IdentityError, match="a key is never overwritten"):
            office.issue("gateway", "barn", out)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert len(office.registry.certificates()) == 1
    (tmp_path / "empty").mkdir()
    office.issue("gateway", "barn", tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 3


def test_what_cannot_be_written_is_not_issued(office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, pem: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(office_module, "write_key", full)
    with pytest.raises(IdentityError, match=r"out: cannot be written \(No space left on device\)"):
        office.issue("gateway", "barn", tmp_path / "out")
    assert office.registry.certificates() == []
    assert [p.name for p in tmp_path.iterdir()] == ["fleet"]


def test_a_revocation_that_cannot_be_listed_does_not_count(office: Office, tmp_path: Path) -> None:
    office.issue("gateway", "barn", tmp_path / "out")
    (office.folder / "ca.crl.pem").mkdir()
    with pytest.raises(IdentityError, match="cannot be written"):
        office.revoke("gateway", "barn", "unspecified")
    assert office.registry.members("gateway") == {"barn": None}
    (office.folder / "ca.crl.pem").rmdir()
    assert office.revoke("gateway", "barn", "unspecified") == 1


def test_a_file_that_is_no_registry(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database, but long enough to be looked at " * 9)
    with pytest.raises(IdentityError, match=r"registry.db: cannot be used \(file is not a database\)"):
        Office(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="cannot be used"):
        Office(tmp_path / "file" / "below")


def test_the_broker_s_files_are_brought_up_to_date(office: Office, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    first = write_broker(office, folder, (), 8883, None)
    kept = {name: (folder / name).read_bytes() for name in (BROKER, BROKER_KEY)}
    assert mode(folder / BROKER_KEY) == 0o600
    office.issue("gateway", "barn", tmp_path / "barn")
    register(office, gateway="barn")
    again = write_broker(office, folder, (), 8883, None)
    assert (first.renewed, again.renewed, again.devices, again.gateways) == (True, False, 1, 1)
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert f"user gateway:barn\ntopic write intaglio/meadow/{CHIPS['leaf-1']}/up/#" in (folder / TOPICS).read_text()
    office.revoke("device", "leaf-1", "unspecified")
    last = write_broker(office, folder, ("broker.example.org",), 1884, "127.0.0.1")
    assert (last.renewed, last.devices) == (True, 0)
    assert CHIPS["leaf-1"] not in (folder / TOPICS).read_text()
    assert "\nlistener 1884 127.0.0.1\n" in (folder / CONFIGURATION).read_text()
    assert (folder / BROKER_KEY).read_bytes() == kept[BROKER_KEY]
    assert [e.state(e.made) for e in office.registry.certificates("broker", "broker")] == ["valid", "valid"]


def test_a_device_without_a_certificate_is_no_user_of_the_broker(office: Office, tmp_path: Path) -> None:
    """Nor is one whose certificates are all revoked; its gateway may speak for it all the same."""
    office.issue("gateway", "barn", tmp_path / "barn")
    register(office, gateway="barn")

    def users() -> list[str]:
        write_broker(office, tmp_path / "broker", (), 8883, None)
        lines = (tmp_path / "broker" / TOPICS).read_text().splitlines()
        assert f"topic write intaglio/meadow/{CHIPS['leaf-1']}/up/#" in lines
        return [line.removeprefix("user ") for line in lines if line.startswith("user ")]

    assert users() == ["gateway:barn"]
    office.issue("device", "leaf-1", tmp_path / "out")
    assert users() == ["device:leaf-1", "gateway:barn"]
    office.revoke_certificate(tmp_path / "out" / "device.pem", "superseded")
    assert users() == ["gateway:barn"]


def test_root_gives_the_files_to_the_owner_of_the_folder(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, those of an earlier time too."""
    given: dict[Path, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.update({path: (user, group)}))
    for _ in range(2):
        given.clear()
        write_broker(office, tmp_path / "broker", (), 8883, None)
        owner = (tmp_path / "broker").stat()
        assert given == dict.fromkeys((tmp_path / "broker").iterdir(), (owner.st_uid, owner.st_gid))


def test_a_broker_s_certificate_is_renewed_before_it_ends(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(office_module.LIVES, "broker", timedelta(days=89))
    assert write_broker(office, tmp_path / "broker", (), 8883, None).renewed
    monkeypatch.setitem(office_module.LIVES, "broker", timedelta(days=91))
    assert write_broker(office, tmp_path / "broker", (), 8883, None).renewed
    assert not write_broker(office, tmp_path / "broker", (), 8883, None).renewed


@pytest.mark.parametrize("host", ["", "a b", "-a.org", "a..b", "exa/mple", "[::1]", "a" * 64, "é.org"])
def test_a_host_that_is_none(office: Office, tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="is not a host name or an address"):
        write_broker(office, tmp_path / "broker", (host,), 8883, None)
    assert not (tmp_path / "broker").exists()


def test_a_broker_folder_that_is_not_ours(office: Office, tmp_path: Path) -> None:
    with new_office(tmp_path / "other") as other:
        write_broker(other, tmp_path / "theirs", (), 8883, None)
    with pytest.raises(IdentityError, match="another authority of the same name"):
        write_broker(office, tmp_path / "theirs", (), 8883, None)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / BROKER_KEY).write_text("rubbish")
    with pytest.raises(IdentityError, match=r"broker.key.pem: is not a key of ours"):
        write_broker(office, tmp_path / "odd", (), 8883, None)
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="file"):
        write_broker(office, tmp_path / "file", (), 8883, None)
    with pytest.raises(UsageError, match=r"cannot be named in mosquitto.conf"):
        write_broker(office, tmp_path / "a\nb", (), 8883, None)


def test_two_at_one_time_wait_for_each_other(office: Office) -> None:
    """A second process's view of the same file."""
    with Office(office.folder) as second:
        register(office, "leaf-1")
        with pytest.raises(IdentityError, match="registered already"):
            register(second, "other", chip=CHIPS["leaf-1"])
        register(second, "leaf-2")
    assert [device.name for device in office.registry.devices()] == ["leaf-1", "leaf-2"]


def test_a_folder_that_cannot_be_made(office: Office, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="cannot be written"):
        office.issue("gateway", "barn", tmp_path / "file" / "out")
    assert office.registry.certificates() == []


def test_the_root_is_read_as_it_was_made(office: Office) -> None:
    assert load_authority(office.folder).certificate == read(office.folder / "ca.pem")
