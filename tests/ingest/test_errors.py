"""Bad input of `intaglio ingest`: one line, an exit status, nothing left behind."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest

from intaglio.host.cli import run

from .conftest import find_port, running_broker


def fails(capsys: pytest.CaptureFixture[str], arguments: list[str], pattern: str, status: int = 1) -> None:
    assert run(arguments) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and re.search(pattern, lines[0]), lines


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], "--broker and --to are needed"),
        (["--broker", "mqtt://x"], "--broker and --to are needed"),
        (["--broker", "x", "--to", "y"], "is not the address of a broker"),
        (["--broker", "http://x", "--to", "y"], "is not the address of a broker"),
        (["--broker", "mqtt://x:99999", "--to", "y"], "is not the address of a broker"),
        (["--broker", "mqtt://x", "--to", "y", "--ca", "z"], "are for mqtts://"),
        (["--broker", "mqtts://x", "--to", "y", "--cert", "z"], "--cert, --key: go together"),
        (["--broker", "mqtt://x", "--to", "ftp://y"], "is no place for captures"),
        (["--broker", "mqtt://x", "--to", "y", "--group", "a/b"], "is not the name of a group"),
        (["--broker", "mqtt://x", "--to", "y", "--batch", "0"], "batch"),
        (["compact"], "Missing argument"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], pattern: str) -> None:
    fails(capsys, ["ingest", *arguments], pattern, 2)


def test_a_broker_that_is_away_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    address, place = f"mqtt://127.0.0.1:{find_port()}", tmp_path / "captures"
    fails(capsys, ["ingest", "--broker", address, "--to", str(place)], rf"broker {address}: cannot be reached \(conn")
    fails(capsys, ["ingest", "--broker", "mqtt://nobody.invalid", "--to", str(place)], "cannot be reached")
    assert not place.exists()


def test_a_server_that_is_no_broker(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intaglio.host.ingest.broker._PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        fails(
            capsys,
            ["ingest", "--broker", f"mqtt://127.0.0.1:{port}", "--to", str(tmp_path / "x")],
            "does not answer as a broker|closes the connection|the connection ended",
        )
        thread.join(10)
    assert not (tmp_path / "x").exists()


def test_a_broker_that_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with running_broker(tmp_path, "allow_anonymous false") as broker:
        fails(
            capsys,
            ["ingest", "--broker", broker.url, "--to", str(tmp_path / "x")],
            r"refuses us \(not authorized\); check user, password, certificate and ACL",
        )


def test_certificates_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for name, why in (("no.pem", "cannot be used"), ("missing.pem", r"cannot be used \(no such file")):
        options = ["--broker", "mqtts://localhost", "--to", str(tmp_path / "x"), "--ca", str(tmp_path / name)]
        fails(capsys, ["ingest", *options], f"{name}: {why}")


def test_a_folder_of_somebody_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    fails(
        capsys, ["ingest", "--broker", "mqtt://127.0.0.1:9", "--to", str(tmp_path)], r"holds other files \(mine.txt\)"
    )
    fails(capsys, ["ingest", "compact", str(tmp_path)], r"holds other files \(mine.txt\)")
    fails(capsys, ["captures", "query", "SELECT 1", "--from", str(tmp_path)], r"holds other files \(mine.txt\)")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_captured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fails(capsys, ["ingest", "compact", str(tmp_path)], "there are no captures; `intaglio ingest --to` writes them")
    fails(capsys, ["captures", "query", "SELECT 1", "--from", str(tmp_path)], "there are no captures")
    fails(capsys, ["captures", "export", str(tmp_path), str(tmp_path / "x.jsonl")], "there are no captures")
    fails(capsys, ["captures", "export", str(tmp_path / "no.db"), str(tmp_path / "x.jsonl")], "there is no such file")
