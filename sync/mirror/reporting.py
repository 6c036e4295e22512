"""PostgreSQL: the role that reads what reporting tools may rely on, and nothing else.

The views read the mirror's own tables with the rights of their owner.
"""

from typing import Final

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from receiver.errors import MirrorError
from receiver.postgresql import Schema, is_denied, migration
from sync.mirror.schema import METADATA, SCHEMA, VIEWS

ROLE: Final = "kounta_mirror_reader"
SHOWN: Final = (*VIEWS, *(name for name in METADATA.tables if not name.startswith("_")))
"""The views and tables of the interface."""

_LONGEST_NAME: Final = 63


def grants(role: str) -> list[str]:
    """Give the statements that let `role` read what is shown."""
    shown = ", ".join(f"{SCHEMA}.{name}" for name in SHOWN)
    return [
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {_quote(role)}",
        f"GRANT SELECT ON {shown} TO {_quote(role)}",
    ]


def make_role(url: str, role: str) -> list[str]:
    """Make `role`, which cannot log in, if there is none, and let it read; what is there already stays.

    Gives the statements that somebody with more rights has to execute: none when all is done. Raises
    MirrorError for a name that no role can have.
    """
    if not 0 < len(role.encode()) <= _LONGEST_NAME or "\x00" in role:
        raise MirrorError(f"The name of a role has 1 to {_LONGEST_NAME} bytes, and {role!r} has not.")
    with migration(Schema(url, SCHEMA)) as connection:
        wanted = [*([] if _is_there(connection, role) else [_creation(role)]), *grants(role)]
        for place, statement in enumerate(wanted):
            try:
                with connection.begin_nested():
                    connection.execute(text(statement.replace(":", "\\:")))
            except DBAPIError as error:
                if is_denied(error):
                    return wanted[place:]
                raise MirrorError(f"The role {role} cannot be made: {_said(error)}.") from error
    return []


def _quote(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def _creation(role: str) -> str:
    return f"CREATE ROLE {_quote(role)} NOLOGIN"


def _is_there(connection: Connection, role: str) -> bool:
    found = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    return found.first() is not None


def _said(error: DBAPIError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or error.orig)
