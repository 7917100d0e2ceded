"""Packages: reproducible, and refused when any byte of them is another."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.boards import load_board
from intaglio.host.keys import load_signing_key, new_key
from intaglio.host.lineage import BINS
from intaglio.host.package import Package, parse_package, read_package
from intaglio.quantizer.errors import PackageError, UsageError
from intaglio.quantizer.reference import Evaluator, Mode, quantise

from .conftest import MODEL, OPTIONS, Made


def accepted(data: bytes, made: Made) -> bool:
    """Whether someone who trusts the key takes the bytes for a package."""
    try:
        parse_package(data, "test").check_signature([made.key.public])
    except PackageError:
        return False
    return True


def test_the_same_input_gives_the_same_bytes(made: Made, package: Package) -> None:
    assert made.package().data == package.data
    assert made.package(version="1.2.1").data != package.data


def test_a_package_says_what_it_holds(made: Made, package: Package) -> None:
    board, facts = load_board("microbit"), package.manifest
    assert (facts.name, facts.version, facts.counter) == ("digits", "1.2.0", 3)
    assert (facts.board, facts.core, facts.contract) == ("microbit", "cortex-m0", "exact")
    assert facts.graph.hex() == made.compiled.manifest["digest"]
    assert facts.arena == made.compiled.manifest["arena_bytes"]
    assert board.slots is not None
    assert [slot.address for slot in facts.slots] == [region.origin for region in board.slots.regions]
    assert [len(image) for image in package.images] == [slot.size for slot in facts.slots]
    assert package.check_signature([made.key.public]) == made.key.public
    assert package.file_name == "digits-1.2.0-microbit.ipkg"
    assert len(package.signed) <= 1024
    model = package.facts["lineage"]["model"]
    assert model == {"file": "digits.onnx", "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest()}


def test_the_statistics_are_those_of_the_calibration_data(made: Made, package: Package) -> None:
    graph = made.compiled.graph
    assert OPTIONS.data is not None
    images = np.load(OPTIONS.data)["x"][:256]
    evaluator = Evaluator(graph, Mode.INTEGER)
    inputs = [quantise(x.reshape(graph.types[graph.inputs[0]].shape), graph.types[graph.inputs[0]]) for x in images]
    outputs = np.stack([evaluator.run([x])[graph.outputs[0]] for x in inputs])
    for stored, values in zip(package.facts["lineage"]["statistics"], (np.stack(inputs), outputs), strict=True):
        assert (stored["count"], stored["least"], stored["greatest"]) == (values.size, values.min(), values.max())
        assert stored["histogram"] == np.histogram(values, BINS, (-128, 128))[0].tolist()


def test_no_byte_of_manifest_signature_or_frame_can_be_another(made: Made, package: Package) -> None:
    rng = random.Random(1)
    images = package.data.index(package.images[0])
    facts = package.data.index(json.dumps(package.facts, sort_keys=True, separators=(",", ":")).encode()[:40])
    places = [*range(facts + 8), *range(images - 8, images), *rng.sample(range(facts, len(package.data)), 60)]
    for place in places:
        data = bytearray(package.data)
        data[place] ^= 1 << rng.randrange(8)
        assert not accepted(bytes(data), made), place


@pytest.mark.slow
def test_no_byte_can_be_another(made: Made, package: Package) -> None:
    rng = random.Random(2)
    for place in range(len(package.data)):
        data = bytearray(package.data)
        data[place] ^= 1 << rng.randrange(8)
        assert not accepted(bytes(data), made), place


def test_what_is_cut_or_added_is_refused(made: Made, package: Package) -> None:
    for size in (0, 1, 100, len(package.data) - 1):
        assert not accepted(package.data[:size], made)
    assert not accepted(package.data + b"\0", made)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        parse_package(data, "somewhere")
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.integers() | st.binary(max_size=70) | st.text(max_size=5) | st.floats(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 6), inner, max_size=5),
        max_leaves=12,
    )
)
def test_any_cbor_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(PackageError) as caught:
        parse_package(cbor2.dumps(value), "somewhere")
    assert "\n" not in str(caught.value)


def test_another_encoding_of_the_same_map_is_refused(package: Package) -> None:
    assert package.data[0] == 0xA4  # a map of four; 0xB8 gives the number in a byte of its own
    with pytest.raises(PackageError, match="not in the deterministic encoding"):
        parse_package(b"\xb8\x04" + package.data[1:], "x")


def test_images_may_not_be_exchanged(made: Made, package: Package) -> None:
    outer = cbor2.loads(package.data)
    outer[3] = [outer[3][1], outer[3][0], *outer[3][2:]]
    with pytest.raises(PackageError, match="the image for 0x1c000 is damaged"):
        parse_package(cbor2.dumps(outer), "x")
    outer[3] = outer[3][:2]
    with pytest.raises(PackageError, match="holds 2 images, its manifest names 3"):
        parse_package(cbor2.dumps(outer), "x")


def test_a_key_that_nobody_trusts(made: Made, package: Package, tmp_path: Path) -> None:
    new_key("other", tmp_path)
    other = load_signing_key("other", tmp_path)
    with pytest.raises(PackageError, match="no trusted key signed it"):
        package.check_signature([other.public])
    with pytest.raises(PackageError, match="no trusted key signed it"):
        package.check_signature([])
    forged = replace(package, signature=other.sign(package.signed))
    with pytest.raises(PackageError, match="no trusted key signed it"):
        forged.check_signature([made.key.public])


@pytest.mark.parametrize(
    "version", ["1", "1.2", "1.2.x", "01.2.3", "1.2.3-", "1.2.3-01", "v1.2.3", "", "1.2.3+", "1" * 70]
)
def test_what_is_no_semantic_version(made: Made, version: str) -> None:
    with pytest.raises(UsageError, match="is not a semantic version"):
        made.package(version=version)


@pytest.mark.parametrize("version", ["0.0.0", "1.2.3-alpha.1", "1.2.3+build.7", "10.20.30-x-y.0a"])
def test_what_is_one(made: Made, version: str) -> None:
    assert made.package(version=version).manifest.version == version


@pytest.mark.parametrize("counter", [-1, 1 << 32])
def test_a_counter_has_32_bits(made: Made, counter: int) -> None:
    with pytest.raises(UsageError, match="not a number of 32 bits"):
        made.package(counter=counter)


def test_a_library_for_another_core(made: Made) -> None:
    other = replace(made.compiled, manifest=made.compiled.manifest | {"core": "cortex-m4"})
    with pytest.raises(PackageError, match="was compiled for cortex-m4, microbit has a cortex-m0"):
        replace(made, compiled=other).package()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot be read"):
        read_package(tmp_path / "none.ipkg")
    with pytest.raises(PackageError, match="cannot be read"):
        read_package(tmp_path)
