"""What customers are exported in: CSV for everything that reads text, Parquet with types."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Protocol

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer

from receiver.database import UTCDateTime, utc_text
from receiver.errors import MirrorError
from sync.mirror.bulk import json_text

ROW_GROUP: Final = 65_536
"""Rows of Parquet that lie together; so many are in memory at a time, packed."""
TAGS: Final = "tags"
"""The column whose JSON is an array of texts."""

Rows = Sequence[Sequence[Any]]


class UnknownFormatError(MirrorError):
    """Nobody can tell what kind of file is wanted."""

    exit_code: ClassVar[int] = 2


class ExtraMissingError(MirrorError):
    """What writes Parquet is not installed."""


class Format(Protocol):
    """A file that rows are written to, in the order of `columns`, and that ends whole or is abandoned."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column[Any]]) -> None: ...

    def write(self, rows: Rows) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


def format_of(file: Path) -> type[Format]:
    """Give the format by the end of a file's name. Raises UnknownFormatError or ExtraMissingError."""
    match file.suffix.lower():
        case ".csv":
            return Csv
        case ".parquet":
            try:
                import pyarrow  # noqa: F401, ICN001 - an extra: CSV needs none
            except ImportError:
                raise ExtraMissingError(
                    "Parquet needs pyarrow: pip install 'kounta-mirror[export]', or name a file that ends "
                    "in .csv."
                ) from None
            return Parquet
        case _:
            raise UnknownFormatError(f"{file} should end in .csv or .parquet, which says what it is to hold.")


class Csv:
    """Text in UTF-8, with a line of names first; lines end as RFC 4180 has them.

    NULL and empty text are both nothing between two commas; times are as `utc_text` writes them, booleans
    true and false, JSON is JSON.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column[Any]]) -> None:
        self._file = file
        self._ways = [(place, way) for place, column in enumerate(columns) if (way := _text_of(column))]
        self._put([[column.name for column in columns]])

    def write(self, rows: Rows) -> None:
        self._put(map(self._texts, rows))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def _texts(self, row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for place, way in self._ways:
            if values[place] is not None:
                values[place] = way(values[place])
        return values

    def _put(self, rows: Iterable[Sequence[Any]]) -> None:
        lines = io.StringIO(newline="")
        csv.writer(lines).writerows(rows)
        self._file.write(lines.getvalue().encode())


class Parquet:
    """Columns with types, in groups of ROW_GROUP rows, compressed with zstd."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column[Any]]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._pa = pa
        self._schema = pa.schema([(column.name, _arrow_type(pa, column)) for column in columns])
        self._json = {
            place
            for place, column in enumerate(columns)
            if isinstance(column.type, JSON) and column.name != TAGS
        }
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, rows: Rows) -> None:
        columns = [
            [json_text(value) for value in column] if place in self._json else column
            for place, column in enumerate(zip(*rows, strict=True))
        ]
        arrays = [
            self._pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)
        ]
        self._waiting.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows += len(rows)
        if self._rows >= ROW_GROUP:
            self._pass_on()

    def finish(self) -> None:
        if self._waiting:
            self._pass_on()
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False  # or it would end the file once nobody holds it any more

    def _pass_on(self) -> None:
        self._writer.write_table(self._pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._rows = [], 0


def _text_of(column: Column[Any]) -> Callable[[Any], str | None] | None:
    """Give what writes a value of a column; None: it is text, or a number, already."""
    if isinstance(column.type, UTCDateTime):
        return utc_text
    if isinstance(column.type, JSON):
        return json_text
    return _truth if isinstance(column.type, Boolean) else None


def _truth(value: bool) -> str:  # noqa: FBT001 - it is what the column holds
    return "true" if value else "false"


def _arrow_type(pa: Any, column: Column[Any]) -> Any:
    if isinstance(column.type, JSON):
        return pa.list_(pa.string()) if column.name == TAGS else pa.string()
    if isinstance(column.type, UTCDateTime):
        return pa.timestamp("ms", "UTC")
    if isinstance(column.type, Boolean):
        return pa.bool_()
    if isinstance(column.type, BigInteger | Integer):
        return pa.int64()
    return pa.float64() if isinstance(column.type, Float) else pa.string()
