"""The commands on identities: what they print, and how they fail."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from intaglio.host.cli import device, run
from intaglio.host.identity.authority import fleet_folder
from intaglio.host.identity.office import Office

CHIP = "0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of this test alone; its folder is the working folder."""
    monkeypatch.setenv("INTAGLIO_FLEET", str(tmp_path / "fleet"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """The one line with which a command fails."""
    capsys.readouterr()
    assert run(list(arguments)) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def begin() -> None:
    for command in (
        "ca init",
        "fleet create meadow",
        "device-type add leaf --board microbit --model kws",
        "ca issue gateway barn -o barn",
        f"device register leaf-1 --type leaf --fleet meadow --id {CHIP} --gateway barn",
    ):
        assert run(command.split()) == 0


def test_from_nothing_to_a_broker(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert printed(capsys, "fleet", "list") == [{"name": "meadow", "devices": 1}]
    assert printed(capsys, "device-type", "list") == [{"name": "leaf", "board": "microbit", "models": ["kws"]}]
    (device,) = printed(capsys, "device", "list", "--fleet", "meadow")
    assert (device["name"], device["chip"], device["gateway"], device["state"]) == ("leaf-1", CHIP, "barn", "active")
    issued = printed(capsys, "device", "cert", "leaf-1", "-o", "leaf")
    shown = printed(capsys, "device", "show", "leaf-1")
    assert shown["up"] == f"intaglio/meadow/{CHIP}/up/#"
    assert shown["certificates"] == [{key: issued[key] for key in issued if key != "folder"}]
    assert printed(capsys, "ca", "check", "leaf/device.pem")["serial"] == issued["serial"]
    assert [entry["identity"] for entry in printed(capsys, "ca", "list")] == ["gateway:barn", "device:leaf-1"]

    broker = printed(capsys, "fleet", "broker", "-o", "broker", "--host", "broker.example.org", "--port", "8884")
    assert (broker["devices"], broker["gateways"], broker["workers"], broker["renewed"]) == (1, 1, 0, True)
    assert "listener 8884\n" in (home / "broker" / "mosquitto.conf").read_text()

    assert printed(capsys, "device", "move", "leaf-1", "--gateway", "")["gateway"] is None
    revoked = printed(capsys, "device", "revoke", "leaf-1", "--reason", "key_compromise")
    assert revoked == {"revoked": "device:leaf-1", "certificates": 1}
    assert printed(capsys, "ca", "check", "leaf/device.pem")["reason"] == "key_compromise"
    assert printed(capsys, "fleet", "show", "meadow")["revoked"] == 1
    assert printed(capsys, "fleet", "broker", "-o", "broker")["devices"] == 0
    assert printed(capsys, "ca", "revoke", "gateway:barn")["certificates"] == 1


def test_what_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    for command, said in (
        ("fleet list", "meadow"),
        ("fleet show meadow", "leaf-1"),
        ("device-type list", "microbit"),
        ("device list", CHIP),
        ("device show leaf-1", f"intaglio/meadow/{CHIP}/down/#"),
        ("ca list", "gateway:barn"),
        ("ca check barn/gateway.pem", "valid"),
        ("fleet broker -o broker", "1 devices, 1 gateways, 0 workers; start it: mosquitto -c"),
        ("ca revoke barn/gateway.pem", "1 certificate; write the broker's files anew"),
        ("device revoke leaf-1", "revoked device:leaf-1: 0 certificates"),
    ):
        capsys.readouterr()
        assert run(command.split()) == 0
        assert said in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_the_session_key_is_in_its_file_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert run(["device", "key", "leaf-1", "-o", "leaf.key"]) == 0
    key = (home / "leaf.key").read_bytes()
    with Office() as office:
        assert office.registry.device("leaf-1").key == key
    assert stat.S_IMODE((home / "leaf.key").stat().st_mode) == 0o600
    assert "holds something already" in refused(capsys, 1, "device", "key", "leaf-1", "-o", "leaf.key")
    assert (home / "leaf.key").read_bytes() == key
    capsys.readouterr()
    for command in ("device show leaf-1 --json", "device list --json", "fleet show meadow --json"):
        assert run(command.split()) == 0
    assert key.hex() not in capsys.readouterr().out


@dataclass
class Hello:
    board: str
    device: str


@pytest.mark.parametrize(
    ("hello", "type_", "chip"),
    [(Hello("microbit", CHIP), "leaf", CHIP), (Hello("netduinoplus2", "netduinoplus2"), "bench", "netduinoplus2")],
)
def test_the_id_comes_from_the_device_on_a_port(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hello: Hello, type_: str, chip: str
) -> None:
    """Of a board whose chip has none, its name; and a device of another board is refused."""

    @contextmanager
    def connected(port: str, baud: int) -> Iterator[SimpleNamespace]:
        assert port == "/dev/ttyACM0"
        yield SimpleNamespace(hello=hello)

    monkeypatch.setattr(device, "connected", connected)
    for command in ("fleet create f", "device-type add leaf --board microbit"):
        assert run(command.split()) == 0
    assert run(["device-type", "add", "bench", "--board", "netduinoplus2"]) == 0
    options = f"--type {type_} --fleet f --port /dev/ttyACM0".split()
    assert printed(capsys, "device", "register", "it", *options)["chip"] == chip
    options[1] = "bench" if type_ == "leaf" else "leaf"
    line = refused(capsys, 1, "device", "register", "other", *options)
    assert re.search(rf"/dev/ttyACM0: the device is a {hello.board}, not a \w+; choose another --type or --port", line)


REFUSALS = [
    (1, "ca init", r"there is a certificate authority here already"),
    (2, "ca init --days 0", r"--days 0: is not a life"),
    (1, "fleet create meadow", r"fleet 'meadow': exists already"),
    (2, "fleet create a/b", r"fleet 'a/b': is not a name; use up to 48"),
    (1, "fleet show medow", r"fleet 'medow': there is no such fleet; did you mean meadow\?"),
    (1, "device list --fleet medow", r"fleet 'medow': there is no such fleet"),
    (1, "device-type add t --board microbot", r"board 'microbot'"),
    (1, "device show leaf1", r"device 'leaf1': there is no such device; did you mean leaf-1\?"),
    (1, "device cert leaf1 -o x", r"did you mean leaf-1\?"),
    (1, "device key leaf1 -o x", r"did you mean leaf-1\?"),
    (2, "device move leaf-1", r"--fleet, --gateway: at least one is needed"),
    (1, "device move leaf-1 --gateway bran", r"gateway 'bran': .*did you mean barn\?"),
    (1, f"device register x --type leaf --fleet meadow --id {CHIP}", r"is registered already, as 'leaf-1'"),
    (2, f"device register x --type leaf --fleet meadow --id {CHIP} --port P", r"one of the two is enough"),
    (2, "device register x --type leaf --fleet meadow", r"--id: is missing: board microbit has a unique id"),
    (2, "device revoke leaf-1 --reason spite", r"--reason spite: is not a reason; try unspecified, key_compromise"),
    (1, "ca issue gateway barn -o barn", r"barn: holds something already; choose another place"),
    (2, "ca issue king arthur -o x", r"kind 'king': gets no certificate by this command; try gateway or worker"),
    (1, "ca issue gateway barn -o x --csr barn/ca.pem", r"barn/ca.pem: is not a signing request in PEM"),
    (1, "device cert leaf-1 -o x --csr nowhere.csr", r"nowhere.csr: cannot be read"),
    (1, "ca revoke gateway:bran", r"gateway 'bran': .*did you mean barn\?"),
    (1, "ca revoke nowhere.pem", r"nowhere.pem: cannot be read"),
    (1, "ca check fleet/registry.db", r"is not a certificate in PEM"),
    (2, "fleet broker -o broker --host a/b", r"--host 'a/b': is not a host name"),
]


@pytest.mark.parametrize(("status", "command", "pattern"), REFUSALS, ids=[r[1] for r in REFUSALS])
def test_refusals(home: Path, capsys: pytest.CaptureFixture[str], status: int, command: str, pattern: str) -> None:
    begin()
    before = sorted(path for path in home.rglob("*"))
    assert re.search(pattern, refused(capsys, status, *command.split()))
    assert sorted(path for path in home.rglob("*")) == before


def test_without_an_authority(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        "ca issue gateway barn -o barn",
        "fleet broker -o broker",
        "ca revoke gateway:barn",
        "ca check x.pem",
    ):
        line = refused(capsys, 1, *command.split())
        assert "there is no certificate authority here; make one with `intaglio ca init`" in line


def test_where_the_registry_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fleet_folder() == tmp_path / "fleet"
    monkeypatch.delenv("INTAGLIO_FLEET")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert fleet_folder() == tmp_path / "data" / "intaglio" / "fleet"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fleet_folder() == tmp_path / ".local" / "share" / "intaglio" / "fleet"
