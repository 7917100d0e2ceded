"""Questions to captured predictions in SQL: a folder or bucket that workers fill, or the store of one machine.

DuckDB answers, on views over Parquet files, without access to files, network or extensions of its own: a question can
read the captures and nothing else, and change nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intaglio.host import parquet
from intaglio.host.ingest.delta import Table, has_table
from intaglio.host.ingest.place import Place, open_place
from intaglio.host.ingest.worker import rejected_schema
from intaglio.host.store import Record, Store
from intaglio.quantizer.errors import StoreError, UsageError

_ATTEMPTS = 30
_PAUSE = 0.05
"""Seconds more between each two attempts."""

_STREAM = "reading the stream registered as"  # how DuckDB begins to say what Arrow could not read
_PLAIN = "fleet, device, boot, sequence, model, digest, make_timestamp(epoch_us(time)) AS time, up_us, cycles"
_ONCE = "QUALIFY row_number() OVER (PARTITION BY device, boot, sequence ORDER BY time, digest, up_us, cycles) = 1"
_VALUES = """list_transform({side}, lambda t: {{
    'name': t.name, 'dtype': t.dtype, 'shape': t.shape, 'scale': t.scale, 'zero_point': t.zero_point,
    'values': tensor_values(t.data, t.dtype)}}) AS {side}"""
_VIEWS = (
    f"CREATE VIEW once AS SELECT * FROM files {_ONCE}",
    f"CREATE VIEW captures AS SELECT {_PLAIN}, {_VALUES.format(side='inputs')}, {_VALUES.format(side='outputs')} "
    "FROM once",
    "CREATE VIEW rejected AS SELECT make_timestamp(epoch_us(received)) AS received, topic, reason, properties, payload "
    "FROM rejected_files",
)


@dataclass(frozen=True)
class Answer:
    """What a question gave: the names of its columns, and its rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Captures:
    """Captured predictions, each once by (device, boot, sequence); a context manager.

    Args:
        source: a folder or s3:// URL that `intaglio ingest` fills, or the file of a store.

    Raises:
        StoreError: it is neither, or cannot be read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._place: Place | None = None
        self._scratch = contextlib.ExitStack()
        self._exported: tuple[str, ...] = ()
        if "://" not in source and Path(source).is_file():
            folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="intaglio-")))
            with Store(Path(source)) as store:
                parquet.write(store.query(), folder / "store.parquet")
            self._exported = (str(folder / "store.parquet"),)
        elif "://" not in source and not Path(source).exists():
            raise StoreError(source, "there is no such folder or file", "`intaglio ingest --to` makes one")
        else:
            self._place = open_place(source)

    def __enter__(self) -> Captures:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    def ask(self, sql: str) -> Answer:
        """The answer to a question; the views are `captures` and `rejected`.

        Raises:
            UsageError: the SQL is wrong, or wants more than to read the captures.
            StoreError: a file cannot be read.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._connection() as connection:
                    done = connection.execute(sql)
                    return Answer(tuple(column[0] for column in done.description or ()), done.fetchall())
            except Exception as error:
                # A file that was listed is gone: compacted meanwhile. What was in it is in another one.
                if attempt + 1 == _ATTEMPTS or not _vanished(error):
                    raise self._error(error) from None
            time.sleep(_PAUSE * attempt)
        raise AssertionError("unreachable")

    def records(self, *, digest: str | None = None) -> Iterator[Record]:
        """The records in the order of their keys, each once.

        Args:
            digest: only those of the models whose digest begins so.

        Raises:
            StoreError: a file cannot be read.
        """
        sql = "SELECT * FROM once WHERE starts_with(digest, ?) ORDER BY device, boot, sequence"
        try:
            with self._connection() as connection:
                for batch in connection.sql(sql, params=[digest or ""]).to_arrow_reader(1024):
                    yield from parquet.records(parquet.arrow().Table.from_batches([batch]).cast(parquet.schema()))
        except Exception as error:
            raise self._error(error) from None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            import duckdb
        except ImportError:
            raise StoreError("SQL", "needs duckdb, which is not installed", "pip install 'intaglio[ingest]'") from None
        from duckdb.func import PythonUDFType

        connection = duckdb.connect(config={"enable_external_access": "false"})
        try:
            connection.execute("SET python_enable_replacements=false")
            connection.execute("SET TimeZone='UTC'")
            connection.execute("SET enable_progress_bar=false")
            connection.create_function(
                "tensor_values", _tensor_values, ["BLOB", "VARCHAR"], "BIGINT[]", type=PythonUDFType.ARROW
            )
            for name, dataset in self._datasets().items():
                connection.register(name, dataset)
            for view in _VIEWS:
                connection.execute(view)
            connection.execute("SET lock_configuration=true")
            yield connection
        finally:
            connection.close()

    def _datasets(self) -> dict[str, Any]:
        """The files of records and of rejected messages, as DuckDB is given them."""
        import pyarrow.dataset as ds
        from pyarrow.fs import LocalFileSystem

        found = {}
        kinds = (("files", parquet.schema(), "fleet="), ("rejected_files", rejected_schema(), "rejected/"))
        for name, schema, under in kinds:
            if self._place is not None:
                system, prefix = self._place.arrow()
                paths = [prefix + path for path in self._listed(self._place, under)]
            else:
                system, paths = LocalFileSystem(), list(self._exported) if name == "files" else []
            found[name] = (
                ds.dataset(paths, schema=schema, format="parquet", filesystem=system) if paths else schema.empty_table()
            )
        return found

    @staticmethod
    def _listed(place: Place, under: str) -> list[str]:
        """The loose files, and after them those of the table: a record that moves in between is in both."""
        paths = place.parts(under)
        return [*paths, *Table(place).files()] if under == "fleet=" and has_table(place) else paths

    def _error(self, error: Exception) -> Exception:
        """What to raise for it: one line, where it is the question's fault or the files'."""
        import duckdb

        pa = parquet.arrow()
        if isinstance(error, duckdb.PermissionException):
            return UsageError("SQL", "reads or writes more than the captures", "ask the views captures, rejected")
        if not isinstance(error, duckdb.Error | OSError | pa.ArrowException):
            return error
        if _vanished(error):
            return StoreError(self._source, "was compacted while it was read", "ask again")
        if not isinstance(error, duckdb.Error) or isinstance(error, duckdb.IOException) or _STREAM in str(error):
            hint = "`intaglio ingest compact` names a damaged file"
            return StoreError(self._source, f"cannot be read ({_line(error)})", hint)
        return UsageError("SQL", _line(error), "the views are captures and rejected; see docs/ingest.md")


def _tensor_values(data: Any, dtype: Any) -> Any:
    """Arrow function of DuckDB: the integers of tensors from their bytes."""
    import numpy as np

    pa = parquet.arrow()
    values = []
    for piece, kind in zip(data.to_pylist(), dtype.to_pylist(), strict=True):
        sound = piece is not None and kind is not None
        values.append(np.frombuffer(piece, np.dtype(kind).newbyteorder("<")).astype(np.int64) if sound else None)
    return pa.array(values, type=pa.list_(pa.int64()))


def _vanished(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or "No such file" in str(error) or "Path does not exist" in str(error)


def _line(error: BaseException) -> str:
    """The first line of an error of DuckDB, without the drawing of where it is."""
    text = str(error).split("\nLINE ")[0].split("\n\n")[0]
    return " ".join(text.split())[:200]
