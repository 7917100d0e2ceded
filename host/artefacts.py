"""The store of packages: content-addressed, in a folder or a bucket.

    packages/DIGEST.ipkg          the package; DIGEST is its own, so a name never changes its meaning
    index/NAME/VERSION/BOARD      the digest, in hexadecimal; written once

A push writes the package first and its index entry last, and only where there is none: two that push at one time
cannot overwrite each other, and one that is cut off leaves a package that no entry names, for `collect` to remove.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from intaglio.host.bucket import first_line, open_bucket
from intaglio.host.package import SUFFIX, Package, parse_package
from intaglio.quantizer.errors import PackageError, UsageError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def store_place() -> str:
    """The store that is used when none is named: `$INTAGLIO_STORE`, else a folder of the user's data."""
    named = os.environ.get("INTAGLIO_STORE")
    if named:
        return named
    base = os.environ.get("XDG_DATA_HOME")
    return str((Path(base) if base else Path.home() / ".local" / "share") / "intaglio" / "store")


@dataclass(frozen=True)
class Entry:
    """One package as the index names it."""

    name: str
    version: str
    board: str
    digest: str


class ArtefactStore:
    """A store of packages.

    Args:
        place: a folder, or a URL such as `s3://bucket/prefix`. Credentials and the endpoint of S3 come from the
            environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION).

    Raises:
        PackageError: the folder cannot be made.
        UsageError: a URL that means no store.
    """

    def __init__(self, place: str) -> None:
        from obstore.store import LocalStore

        self.place = place
        try:
            if "://" in place:
                self._store: Any = open_bucket(place)
            else:
                self._store = LocalStore(Path(place).absolute(), mkdir=True)
        except OSError as error:
            raise PackageError(place, f"cannot be opened ({error.strerror or error})", "name another store") from None
        except Exception as error:  # obstore raises its own and ValueError
            raise UsageError(f"store {place}", first_line(error), "give a folder or s3://BUCKET/PREFIX") from None

    def push(self, package: Package) -> Entry:
        """Add a package; pushing it again changes nothing.

        Raises:
            PackageError: another package has its name, version and board; the store does not answer.
        """
        import obstore

        made = package.manifest
        entry = Entry(made.name, made.version, made.board, package.digest)
        with self._answering():
            if self._head(_path(package.digest)) is None:
                obstore.put(self._store, _path(package.digest), package.data)
            try:
                obstore.put(self._store, _index(entry), package.digest.encode(), mode="create")
            except obstore.exceptions.AlreadyExistsError:
                held = bytes(obstore.get(self._store, _index(entry)).bytes()).decode("ascii", "replace")
                if held != package.digest:
                    raise PackageError(
                        f"{made.name} {made.version} for {made.board}",
                        f"the store holds another package of that version ({held[:12]}...)",
                        "give this one another --version: a version never changes",
                    ) from None
        return entry

    def entries(self) -> list[Entry]:
        """What the index names, sorted.

        Raises:
            PackageError: the store does not answer.
        """
        import obstore

        found = []
        with self._answering():
            for path in self._list("index"):
                if path.count("/") == 3:
                    _, name, version, board = path.split("/")
                    digest = bytes(obstore.get(self._store, path).bytes()).decode("ascii", "replace")
                    found.append(Entry(name, version, board, digest))
        return sorted(found, key=lambda entry: (entry.name, entry.board, version_key(entry.version)))

    def find(self, wanted: str, board: str | None = None) -> Entry:
        """The entry that a user means.

        Args:
            wanted: NAME (its newest version), NAME@VERSION, or the beginning of a digest, at least 8 digits.
            board: to tell apart what was packaged for several.

        Raises:
            PackageError: none, or several boards.
        """
        name, _, version = wanted.partition("@")
        entries = [entry for entry in self.entries() if board in (None, entry.board)]
        found = [e for e in entries if e.name == name and version in ("", e.version)]
        if not found and len(wanted) >= 8:
            found = [entry for entry in entries if entry.digest.startswith(wanted.lower())]
        boards = sorted({entry.board for entry in found})
        if len(boards) > 1:
            raise PackageError(wanted, f"is there for {', '.join(boards)}", "say which with --board")
        if not found:
            raise PackageError(wanted, f"is not in {self.place}", "`intaglio store list` shows what is")
        return found[-1]

    def pull(self, digest: str) -> Package:
        """Fetch a package by its digest and check that it is that one.

        Raises:
            PackageError: it is not there, or damaged.
        """
        import obstore

        if not _DIGEST.match(digest):
            raise PackageError(digest, "is not a digest", "give 64 hexadecimal digits")
        with self._answering():
            try:
                data = bytes(obstore.get(self._store, _path(digest)).bytes())
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                raise PackageError(digest, f"is not in {self.place}", "`intaglio store list` shows what is") from None
        package = parse_package(data, f"{self.place}: {digest}")
        if package.digest != digest:
            raise PackageError(f"{self.place}: {digest}", "holds another package", "push it again")
        return package

    def collect(self, keep: int | None = None, grace: timedelta = timedelta(hours=1)) -> list[str]:
        """Remove packages that no entry of the index names.

        Args:
            keep: first drop all but the newest so many versions of each name and board; None drops none.
            grace: packages younger than this stay: their push may be under way.

        Returns:
            The digests removed.

        Raises:
            PackageError: the store does not answer.
        """
        import obstore

        kept: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries():
            kept.setdefault((entry.name, entry.board), []).append(entry)
        removed = []
        with self._answering():
            for group in kept.values():
                for entry in group[: len(group) - keep] if keep is not None else ():
                    obstore.delete(self._store, _index(entry))
                    group.remove(entry)
            named = {entry.digest for group in kept.values() for entry in group}
            for path, age in self._aged("packages"):
                digest = path.removeprefix("packages/").removesuffix(SUFFIX)
                if digest not in named and age >= grace:
                    obstore.delete(self._store, path)
                    removed.append(digest)
        return removed

    def _head(self, path: str) -> Any:
        import obstore

        try:
            return obstore.head(self._store, path)
        except (obstore.exceptions.NotFoundError, FileNotFoundError):
            return None

    def _list(self, prefix: str) -> Iterator[str]:
        import obstore

        for chunk in obstore.list(self._store, prefix):
            for item in chunk:
                yield str(item["path"])

    def _aged(self, prefix: str) -> Iterator[tuple[str, timedelta]]:
        import obstore

        now = datetime.now(UTC)
        for chunk in obstore.list(self._store, prefix):
            for item in chunk:
                yield str(item["path"]), now - item["last_modified"]

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what the store's client raises into one line."""
        import obstore

        try:
            yield
        except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as error:
            raise PackageError(self.place, f"refuses: {first_line(error)}", "check the credentials") from None
        except (obstore.exceptions.BaseError, OSError) as error:
            raise PackageError(
                self.place, f"does not answer: {first_line(error)}", "check the network, AWS_ENDPOINT_URL, the disk"
            ) from None


def version_key(version: str) -> tuple[Any, ...]:
    """By which versions sort (Semantic Versioning 2.0.0, item 11)."""
    release, _, _build = version.partition("+")
    core, dash, tags = release.partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    marks = tuple((0, int(tag), "") if tag.isdigit() else (1, 0, tag) for tag in tags.split(".")) if dash else ()
    return (*numbers, not dash, marks)


def _path(digest: str) -> str:
    return f"packages/{digest}{SUFFIX}"


def _index(entry: Entry) -> str:
    return f"index/{entry.name}/{entry.version}/{entry.board}"
