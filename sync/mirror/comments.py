"""PostgreSQL: the data dictionary as comments on views, tables and columns, which tools show."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from receiver import postgresql
from receiver.postgresql import Schema
from sync.mirror.dictionary import TABLES, plain
from sync.mirror.schema import METADATA, SCHEMA

_FOUND: Final = text(
    "SELECT relname, coalesce(attname, ''), description FROM pg_description "
    "JOIN pg_class ON pg_class.oid = objoid AND relnamespace = CAST(:schema AS regnamespace) "
    "LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0 "
    "WHERE classoid = CAST('pg_class' AS regclass)"
)


def wanted_comments() -> dict[tuple[str, str], str]:
    """Give view or table and column ("" for itself) -> its comment, without links and marks of Markdown."""
    comments = {}
    for table in TABLES:
        comments[table.name, ""] = plain(f"{table.title}. {table.purpose}")
        for column in table.columns:
            comments[table.name, column.name] = plain(column.description)
    return comments


def comment(schema: Schema) -> None:
    """Bring the comments up to what the dictionary says; a role that may not leaves them as they are."""
    wanted = wanted_comments()
    with postgresql.looking(schema) as connection:
        if _kept(connection, schema) == wanted:
            return
    try:
        with postgresql.migration(schema) as connection:
            kept = _kept(connection, schema)
            changed = [_statement(*place, said) for place, said in wanted.items() if kept.get(place) != said]
            if changed:
                connection.exec_driver_sql("; ".join(changed))
    except DBAPIError as error:
        if not postgresql.is_denied(error):
            raise


def _kept(connection: Connection, schema: Schema) -> dict[tuple[str, str], str]:
    found = connection.execute(_FOUND, {"schema": schema.name})
    names = {table.name for table in TABLES}
    return {(table, column): said for table, column, said in found if table in names}


def _statement(table: str, column: str, said: str) -> str:
    literal = "'" + said.replace("'", "''").replace("%", "%%") + "'"
    if column:
        return f'COMMENT ON COLUMN {SCHEMA}.{table}."{column}" IS {literal}'
    kind = "TABLE" if table in METADATA.tables else "VIEW"
    return f"COMMENT ON {kind} {SCHEMA}.{table} IS {literal}"
