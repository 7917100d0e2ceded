"""Where captured predictions are kept past one machine: a folder, or a bucket.

    _captures.json                                                    what tells it from somebody's folder
    fleet=F/model=M/date=YYYY-MM-DD/hour=HH/part-SHA256.parquet       records; the digest is that of their keys
    rejected/date=YYYY-MM-DD/part-SHA256.parquet                      messages that are no records, with the reason

The date and hour are those of the prediction, UTC; `none` where it has no time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from intaglio.host.bucket import first_line, open_bucket
from intaglio.host.store import Record
from intaglio.quantizer.errors import StoreError, UsageError

MARKER = "_captures.json"
_MARK = {"format": "intaglio captures", "version": 1}
_SCRATCH = ".part-"
_ABANDONED = 3600.0
"""Seconds after which a file that was being written is no longer: its writer was killed."""

_AWAY = "check the network, AWS_ENDPOINT_URL and the credentials"


class Place(ABC):
    """A folder or bucket of Parquet files. Paths are relative, with slashes.

    A file appears whole or not at all, and is durable when `put` returns.
    """

    def __init__(self, where: str) -> None:
        self.where = where

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Write a file, in the place of one of that name.

        Raises:
            StoreError: it is not written: no room, no access, no answer.
        """

    @abstractmethod
    def get(self, path: str) -> bytes | None:
        """A file's bytes; None where there is none.

        Raises:
            StoreError: no access, no answer.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file that may have gone already.

        Raises:
            StoreError: no access, no answer.
        """

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Every file, hidden ones too.

        Raises:
            StoreError: no access, no answer.
        """

    @abstractmethod
    def arrow(self) -> tuple[Any, str]:
        """A pyarrow filesystem, and what to put before a path in it."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what writers that were killed have left half-written.

        Raises:
            StoreError: no access.
        """

    def parts(self, under: str = "fleet=") -> list[str]:
        """The files of records, or with `rejected/` of rejected messages, sorted."""
        return sorted(name for name in self.names() if name.startswith(under) and _is_part(name))

    def check(self) -> bool:
        """Whether it is a place of captures; if not, nothing is there.

        Raises:
            StoreError: it holds something else.
        """
        found = self.get(MARKER)
        if found is not None:
            if _version(found) != _MARK["version"]:
                raise StoreError(f"{self.where}: {MARKER}", "is of another version", "use the Intaglio that wrote it")
            return True
        other = next((name for name in self.names() if not name.rpartition("/")[2].startswith(".")), None)
        if other is not None:
            raise StoreError(self.where, f"holds other files ({other})", "name a new or empty folder or prefix")
        return False

    def mark(self) -> None:
        """Make it a place of captures.

        Raises:
            StoreError: it cannot be written.
        """
        self.put(MARKER, json.dumps(_MARK).encode())


class Folder(Place):
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._root = Path(where).absolute()

    def put(self, path: str, data: bytes) -> None:
        target = self._root / path
        # Not the process's number: another machine that has the folder mounted may have the same.
        scratch = target.with_name(f"{_SCRATCH}{secrets.token_hex(8)}")
        with self._errors():
            new = [folder for folder in target.parents if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with scratch.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                scratch.replace(target)
            except OSError:
                scratch.unlink(missing_ok=True)
                raise
            # The name is durable when its folder is, and so is the folder's own.
            for folder in {target.parent, *(folder.parent for folder in new)}:
                _sync(folder)

    def get(self, path: str) -> bytes | None:
        with self._errors():
            try:
                return (self._root / path).read_bytes()
            except FileNotFoundError:
                return None

    def delete(self, path: str) -> None:
        with self._errors():
            (self._root / path).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        with self._errors():
            if self._root.exists() and not self._root.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            for folder, _, files in os.walk(self._root):
                for name in files:
                    yield (Path(folder) / name).relative_to(self._root).as_posix()

    def sweep(self) -> None:
        with self._errors():
            for scratch in self._root.rglob(f"{_SCRATCH}*"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - scratch.stat().st_mtime > _ABANDONED:
                        scratch.unlink()

    def arrow(self) -> tuple[Any, str]:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), f"{self._root}/"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "free some space; nothing was acknowledged" if full else "check the path and its permissions"
            raise StoreError(self.where, (error.strerror or str(error)).lower(), hint) from None


class Bucket(Place):
    """A bucket, or what is below a prefix in one: s3://BUCKET/PREFIX."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        try:
            self._store = open_bucket(where)
        except Exception as error:  # obstore raises its own and ValueError
            raise UsageError(where, first_line(error), "give a folder or s3://BUCKET/PREFIX") from None

    def put(self, path: str, data: bytes) -> None:
        import obstore

        with self._errors():
            # In one request: an upload in parts could be cut off between them.
            obstore.put(self._store, path, data, use_multipart=False)

    def get(self, path: str) -> bytes | None:
        import obstore

        with self._errors():
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except (obstore.exceptions.NotFoundError, FileNotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise StoreError(self.where, "there is no such bucket", "make it first") from None
                return None

    def delete(self, path: str) -> None:
        import obstore

        with self._errors(), contextlib.suppress(obstore.exceptions.NotFoundError, FileNotFoundError):
            obstore.delete(self._store, path)

    def names(self) -> Iterator[str]:
        import obstore

        with self._errors():
            for chunk in obstore.list(self._store):
                for item in chunk:
                    yield str(item["path"])

    def sweep(self) -> None:
        """Nothing: a bucket shows an object when all of it is there."""

    def arrow(self) -> tuple[Any, str]:
        from pyarrow.fs import S3FileSystem

        parts = urlsplit(self.where)
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
        options: dict[str, Any] = {"region": os.environ.get("AWS_REGION") or None}
        if endpoint.netloc:
            options |= {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme}
        prefix = "/".join(part for part in (parts.netloc, parts.path.strip("/")) if part)
        return S3FileSystem(**options, connect_timeout=10, request_timeout=30), f"{prefix}/"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import obstore

        try:
            yield
        except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as error:
            raise StoreError(self.where, f"refuses: {first_line(error)}", "check the credentials") from None
        except (obstore.exceptions.BaseError, OSError) as error:
            raise StoreError(self.where, f"does not answer: {first_line(error)}", _AWAY) from None


def open_place(where: str) -> Place:
    """The place of a folder or s3:// URL.

    Raises:
        StoreError: it holds something else, cannot be reached, or is not there.
    """
    place = new_place(where)
    if not place.check():
        raise StoreError(where, "there are no captures", "`intaglio ingest --to` writes them")
    return place


def new_place(where: str) -> Place:
    """A folder or s3:// URL that may become a place: `check` and `mark` it.

    Raises:
        UsageError: a URL of another kind.
    """
    if where.startswith("s3://"):
        return Bucket(where)
    if "://" in where:
        raise UsageError(where, "is no place for captures", "give a folder or s3://BUCKET/PREFIX")
    return Folder(where)


def partition(record: Record) -> str:
    """The folder of a record: what a repeated message gets again, as long as its sender gives the same time."""
    date, hour = "none", "none"
    if record.time_us is not None:
        from datetime import UTC, datetime

        date, hour = f"{datetime.fromtimestamp(record.time_us // 1_000_000, UTC):%Y-%m-%d %H}".split()
    names = {"fleet": record.fleet or "none", "model": record.model}
    head = "/".join(f"{name}={quote(value, safe='')}" for name, value in names.items())
    return f"{head}/date={date}/hour={hour}"


def part_name(keys: Sequence[str]) -> str:
    """The name of a file by what is in it, whatever the order: written twice, it is one file."""
    import hashlib

    return f"part-{hashlib.sha256(chr(10).join(sorted(keys)).encode()).hexdigest()}.parquet"


def record_key(record: Record) -> str:
    """Device, boot and sequence in one string."""
    return f"{record.device}/{record.boot}/{record.sequence}"


def _is_part(name: str) -> bool:
    file = name.rpartition("/")[2]
    return file.startswith("part-") and file.endswith(".parquet")


def _version(marker: bytes) -> object:
    try:
        value = json.loads(marker)
        return value["version"] if value["format"] == _MARK["format"] else None
    except (ValueError, TypeError, KeyError):
        return None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
