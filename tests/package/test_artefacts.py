"""The store of packages, in a folder and in a bucket of a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from intaglio.host.artefacts import ArtefactStore, version_key
from intaglio.host.package import Package
from intaglio.quantizer.errors import PackageError, UsageError

from .conftest import Made

NO_GRACE = timedelta(0)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of an S3 server with the bucket `models`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="models")
    yield address
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store of either kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    address = request.getfixturevalue("s3_server")
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://models/{tmp_path.name}"


@pytest.fixture(scope="session")
def versions(made: Made) -> dict[str, Package]:
    return {version: made.package(version) for version in ("1.2.0", "1.10.0", "1.2.0-rc.1")}


def test_what_is_pushed_can_be_found_and_pulled(place: str, versions: dict[str, Package]) -> None:
    store = ArtefactStore(place)
    assert store.entries() == []
    pushed = [store.push(package) for package in versions.values()]
    assert [entry.version for entry in store.entries()] == ["1.2.0-rc.1", "1.2.0", "1.10.0"]
    assert set(store.entries()) == set(pushed)
    assert ArtefactStore(place).pull(versions["1.2.0"].digest) == versions["1.2.0"]
    assert store.find("digits").version == "1.10.0"
    assert store.find("digits@1.2.0").version == "1.2.0"
    assert store.find(versions["1.2.0"].digest[:8]).version == "1.2.0"
    for wanted in ("digits@9.9.9", "nothing", versions["1.2.0"].digest[:7], "0" * 64):
        with pytest.raises(PackageError, match="is not in"):
            store.find(wanted)
    with pytest.raises(PackageError, match="is not in"):
        store.pull("0" * 64)
    with pytest.raises(PackageError, match="is not a digest"):
        store.pull("../../etc/passwd")


def test_a_version_never_changes(place: str, made: Made, versions: dict[str, Package]) -> None:
    store = ArtefactStore(place)
    store.push(versions["1.2.0"])
    assert store.push(versions["1.2.0"]) == store.find("digits@1.2.0")
    with pytest.raises(PackageError, match=r"holds another package of that version .*give this one another --version"):
        store.push(made.package("1.2.0", counter=4))
    assert store.pull(store.find("digits@1.2.0").digest) == versions["1.2.0"]


def test_of_many_that_push_one_version_at_a_time_one_succeeds(place: str, made: Made) -> None:
    packages = [made.package("2.0.0", counter=counter) for counter in range(4)]

    def push(package: Package) -> bool:
        try:
            ArtefactStore(place).push(package)
        except PackageError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(push, packages))
    assert done.count(True) == 1
    store = ArtefactStore(place)
    assert store.pull(store.find("digits@2.0.0").digest) == packages[done.index(True)]


def test_collection_removes_what_nothing_names(place: str, versions: dict[str, Package]) -> None:
    store = ArtefactStore(place)
    for package in versions.values():
        store.push(package)
    assert store.collect(grace=NO_GRACE) == []
    assert store.collect(keep=1) == []  # young ones stay
    assert [entry.version for entry in store.entries()] == ["1.10.0"]
    removed = store.collect(grace=NO_GRACE)
    assert set(removed) == {versions["1.2.0"].digest, versions["1.2.0-rc.1"].digest}
    assert store.pull(versions["1.10.0"].digest) == versions["1.10.0"]


def test_a_damaged_package_is_not_handed_out(tmp_path: Path, versions: dict[str, Package]) -> None:
    store = ArtefactStore(str(tmp_path))
    one, other = versions["1.2.0"], versions["1.10.0"]
    for package in (one, other):
        store.push(package)
    stored = tmp_path / "packages" / f"{one.digest}.ipkg"
    stored.write_bytes(one.data[:-1] + b"?")
    with pytest.raises(PackageError, match="is damaged"):
        store.pull(one.digest)
    stored.write_bytes(other.data)
    with pytest.raises(PackageError, match="holds another package"):
        store.pull(one.digest)


def test_what_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackageError, match=str(tmp_path)):
        ArtefactStore(str(tmp_path / "file")).entries()
    with pytest.raises(UsageError, match="give a folder or s3://BUCKET/PREFIX"):
        ArtefactStore("nothing://models")


def test_a_server_that_is_away(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, versions: dict[str, Package]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(PackageError, match="does not answer") as caught:
        ArtefactStore("s3://models/away").push(versions["1.2.0"])
    assert "\n" not in str(caught.value)


def test_versions_sort_as_semantic_versioning_says() -> None:
    # Semantic Versioning 2.0.0, item 11.
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0"]
    assert sorted(set(ordered), key=version_key) == ordered
