"""The device's check of Ed25519 signatures beside Python's `cryptography`, and its hashes beside hashlib."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from intaglio.boards.board import load_board
from intaglio.codegen.stack import read_stack_usage, worst_case_stack
from intaglio.host.build import build_firmware
from intaglio.host.keys import PublicKey, SigningKey
from intaglio.host.monocypher import monocypher_folder
from intaglio.host.package import SIGNED_PREFIX

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror", "-pedantic")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point: L of RFC 8032, section 5.1
RING = 2048
EXCEPTION_BYTES = 32 + 64  # the frame that the core pushes, and the deepest interrupt handler


def build(out: Path, main: str, sources: list[str], *more: str) -> Path:
    compiler = shutil.which("gcc")
    assert compiler is not None, "gcc is missing: apt-get install gcc"
    own = [str(HERE / main), *(str(FIRMWARE / "slots" / source) for source in sources)]
    flags = ["-std=c11", "-O2", "-g", *WARNINGS, *SANITIZE, f"-I{FIRMWARE / 'slots'}", *more]
    done = subprocess.run(
        [compiler, *flags, *own, "-o", str(out)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


Check = Callable[[list[tuple[bytes, bytes, bytes]]], list[bool]]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Checks (key, signature, manifest) by the device's code, under the sanitizers."""
    folder = tmp_path_factory.mktemp("signature")
    theirs = monocypher_folder()
    (folder / "trust.h").write_text("#define TRUSTED_KEYS {{{0}, {0}}}\n")
    library = folder / "monocypher.o"
    command = ["gcc", "-O2", "-w", "-DBLAKE2_NO_UNROLLING", "-c", str(theirs / "monocypher.c"), "-o", str(library)]
    subprocess.run(command, check=True, timeout=120)
    include = ["-isystem", str(theirs), f"-I{folder}", str(library)]
    program = build(folder / "check", "signature_check.c", ["signature.c", "sha512.c"], *include)

    def run(rows: list[tuple[bytes, bytes, bytes]]) -> list[bool]:
        data = b"".join(struct.pack("<I", len(m)) + k + s + m for k, s, m in rows)
        done = subprocess.run([str(program)], input=data, capture_output=True, timeout=250, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert len(done.stdout) == len(rows)
        return [answer == ord("1") for answer in done.stdout]

    return run


def pair(chance: random.Random) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))


def test_thousands_of_signatures_are_judged_as_cryptography_judges_them(check: Check) -> None:
    chance, rows = random.Random(1), []
    for i in range(4000):
        secret, message = pair(chance), chance.randbytes(chance.randrange(1025))
        row = [secret.public_key().public_bytes_raw(), secret.sign(SIGNED_PREFIX + message), message]
        if i % 2:  # one bit of one of the three is another
            part = chance.randrange(3 if message else 2)
            changed = bytearray(row[part])
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            row[part] = bytes(changed)
        rows.append((row[0], row[1], row[2]))
    wanted = [PublicKey(k).verifies(s, SIGNED_PREFIX + m) for k, s, m in rows]
    assert check(rows) == wanted
    assert wanted.count(True) >= 2000
    assert wanted.count(False) >= 1990


def test_every_bit_of_a_signature_counts(check: Check) -> None:
    secret = pair(random.Random(2))
    key, good = secret.public_key().public_bytes_raw(), secret.sign(SIGNED_PREFIX + b"manifest")
    rows = [
        (key, bytes(b ^ (1 << bit if i == at else 0) for i, b in enumerate(good)), b"manifest")
        for at in range(64)
        for bit in range(8)
    ]
    assert not any(check(rows))
    assert check([(key, good, b"manifest")]) == [True]
    # without the prefix the signature is one for something else
    assert check([(key, secret.sign(b"manifest"), b"manifest")]) == [False]


def test_a_scalar_that_is_not_reduced_is_refused(check: Check) -> None:
    """RFC 8032, section 5.1.7: S is below L, else a signature could be changed and still hold."""
    chance, rows = random.Random(3), []
    for _ in range(50):
        secret = pair(chance)
        good = secret.sign(SIGNED_PREFIX + b"m")
        raised = int.from_bytes(good[32:], "little") + ORDER
        rows.append((secret.public_key().public_bytes_raw(), good[:32] + raised.to_bytes(32, "little"), b"m"))
    assert not any(check(rows))
    assert not any(PublicKey(k).verifies(s, SIGNED_PREFIX + m) for k, s, m in rows)


def test_points_that_are_not_on_the_curve_are_refused(check: Check) -> None:
    """y = 2 has no x (RFC 8032, section 5.1.3)."""
    secret = pair(random.Random(4))
    key, good = secret.public_key().public_bytes_raw(), secret.sign(SIGNED_PREFIX + b"m")
    off = (2).to_bytes(32, "little")
    assert check([(off, good, b"m"), (key, off + good[32:], b"m")]) == [False, False]


def test_hashes_are_those_of_hashlib(tmp_path: Path) -> None:
    program = build(tmp_path / "hashes", "hashes.c", ["sha256.c", "sha512.c"])
    chance = random.Random(5)
    sizes = [0, 1, 55, 56, 63, 64, 65, 111, 112, 113, 119, 120, 127, 128, 129, 1000, 1 << 19]
    for size in [*sizes, *(chance.randrange(4000) for _ in range(60))]:
        data = chance.randbytes(size)
        for piece in {1 if size < 5000 else 1000, 61, 4096}:
            done = subprocess.run([str(program), str(piece)], input=data, capture_output=True, timeout=60, check=True)
            assert done.stdout.decode() == hashlib.sha256(data).hexdigest() + hashlib.sha512(data).hexdigest()


@pytest.mark.parametrize("board", ["microbit", "mps2_an385"])
def test_the_check_keeps_within_the_stack_that_it_is_given(
    board: str, key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The deepest chain of calls in the linked firmware, and an interrupt on top of it."""
    image = build_firmware([], load_board(board), tmp_path / "out", trust=[key.public])
    frames = tmp_path / "frames"
    frames.mkdir()
    plan = json.loads((tmp_path / "out" / "build.json").read_text())
    for group in plan["groups"]:
        for source in group["sources"]:
            command = [plan["cc"], *group["flags"], "-fstack-usage", "-c", source, "-o", f"{Path(source).stem}.o"]
            subprocess.run(command, cwd=frames, check=True, timeout=120)
    bound = worst_case_stack(image.elf, ["signature_is_trusted"], read_stack_usage(frames)) + EXCEPTION_BYTES
    found = re.search(r"SIGNATURE_STACK_BYTES = (\d+)", (FIRMWARE / "slots" / "signature.h").read_text())
    assert found is not None
    with capsys.disabled():
        print(f"\n{board}: signature check, worst case with an interrupt: {bound} of {found[1]} bytes of stack")
    assert bound <= int(found[1])


def agent_alone(folder: Path, program: Path) -> tuple[int, int]:
    """Flash and RAM of agent, codec, slots and signature check of a build, without drivers and start-up."""
    objects = folder / "objects"
    objects.mkdir()
    plan = json.loads((folder / "build.json").read_text())
    for group in plan["groups"]:
        for source in map(Path, group["sources"]):
            if source.parent.name not in ("hal", "generated") and source.name != "main.c":
                command = [
                    plan["cc"],
                    *group["flags"],
                    "-c",
                    str(source),
                    "-o",
                    f"{source.parent.name}_{source.stem}.o",
                ]
                subprocess.run(command, cwd=objects, check=True, timeout=120)
    core = load_board("microbit").core.cflags
    link = ["-nostdlib", "-Wl,--gc-sections", "-Wl,--entry=agent_run", "-Wl,--unresolved-symbols=ignore-all"]
    subprocess.run(
        [plan["cc"], *core, *link, *map(str, objects.glob("*.o")), "-o", str(program)], check=True, timeout=120
    )
    listing = subprocess.run(["arm-none-eabi-size", str(program)], capture_output=True, text=True, check=True).stdout
    text, data, bss = map(int, listing.splitlines()[1].split()[:3])
    return text + data, data + bss


def test_what_the_agent_costs_on_a_cortex_m0(
    key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = load_board("microbit")
    found = {}
    for name, target, trust in (
        ("without slots", board.without_slots(), []),
        ("with the journal", board, []),
        ("with slots and signature", board, [key.public]),
    ):
        folder = tmp_path / name.replace(" ", "_")
        build_firmware([], target, folder, trust=trust)
        found[name] = agent_alone(folder, tmp_path / "agent.elf")
    with capsys.disabled():
        for name, (flash, ram) in found.items():
            print(f"\nagent {name}, -Os: {flash} bytes of flash, {ram - RING} bytes of RAM beside the ring", end="")
        print()
    assert found["with the journal"][0] <= 8 << 10
    assert found["with slots and signature"][0] <= 26 << 10
    assert all(ram - RING <= 2048 for _, ram in found.values())
