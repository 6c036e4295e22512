"""The views of the interface as tables to select from: all that whoever only reports can be sure to read."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, MetaData, Table

from receiver.database import utc_text
from sync.mirror.schema import VIEWS

_METADATA: Final = MetaData()


def _view(name: str) -> Table:
    columns = VIEWS[name].selected_columns
    return Table(name, _METADATA, *(Column(column.name, column.type) for column in columns))


CUSTOMERS: Final = _view("customers")
ALL_CUSTOMERS: Final = _view("all_customers")
CUSTOMER_TAGS: Final = _view("customer_tags")
CUSTOMER_CHANGES: Final = _view("customer_changes")
CUSTOMER_VERSIONS: Final = _view("customer_versions")
MIRROR_STATUS: Final = _view("mirror_status")


def json_of(row: NamedTuple) -> dict[str, Any]:
    """Give a row as commands print it: column -> value; times are ISO 8601 in UTC."""
    return {
        name: utc_text(value) if isinstance(value, datetime) else value
        for name, value in row._asdict().items()
    }
