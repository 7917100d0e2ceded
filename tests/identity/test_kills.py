"""`kill -9` at random moments of issuing, revoking and writing the broker's files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from intaglio.host.identity.authority import read_certificate
from intaglio.host.identity.broker import write_broker
from intaglio.host.identity.office import Office

from .conftest import new_office

WORK = """
import sys
from pathlib import Path
from intaglio.host.identity.broker import write_broker
from intaglio.host.identity.office import Office
folder, first = Path(sys.argv[1]), int(sys.argv[2])
with Office(folder / "fleet") as office:
    print("ready", flush=True)
    for i in range(first, first + 1000):
        office.issue("gateway", f"g{i}", folder / f"g{i}")
        office.issue("gateway", f"g{i}", folder / f"g{i}-new", replace=True)
        if i % 2:
            office.revoke("gateway", f"g{i}", "unspecified")
        write_broker(office, folder / "broker", (), 8883, None)
"""


@pytest.mark.parametrize("rounds", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_whatever_is_out_is_noted_and_whatever_is_revoked_is_listed(tmp_path: Path, rounds: int) -> None:
    """And no folder is half there, the registry opens, and the broker's files can be written."""
    draw = random.Random(rounds)
    new_office(tmp_path / "fleet").__exit__()
    for i in range(rounds):
        command = [sys.executable, "-c", WORK, str(tmp_path), str(1000 * i)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0, 0.2))
            os.kill(process.pid, signal.SIGKILL)
        check(tmp_path)


def check(folder: Path) -> None:
    with Office(folder / "fleet") as office:
        crl = office.folder / "ca.crl.pem"
        listed = (
            {f"{e.serial_number:040x}" for e in x509.load_pem_x509_crl(crl.read_bytes())} if crl.exists() else set()
        )
        noted = {entry.serial: entry for entry in office.registry.certificates()}
        assert {serial for serial, entry in noted.items() if entry.revoked is not None} <= listed
        for out in folder.glob("g*"):
            assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "gateway.key.pem", "gateway.pem"]
            key = load_pem_private_key((out / "gateway.key.pem").read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            assert key.public_key() == read_certificate(out / "gateway.pem").public_key()
            assert office.check(out / "gateway.pem").serial in noted
        write_broker(office, folder / "broker", (), 8883, None)
