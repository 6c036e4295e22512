"""The command `migrate`: both schemas, brought to this version; from SQLite to PostgreSQL; who may read."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.owner import UsageError

if TYPE_CHECKING:
    from receiver.copying import Copied
    from receiver.database import Server


def migrate(
    *,
    from_sqlite: Path | None = None,
    reporting_role: str = "kounta_mirror_reader",
    no_reporting_role: Annotated[bool, Parameter(negative="")] = False,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    company: Company = None,
) -> None:
    """Bring the schema of both databases to this version; receiver and worker do it when they start, too.

    On SQLite neither may run meanwhile. A migration that fails leaves the database as it was, and says why.
    The databases are those of all companies, whichever is named.

    Parameters
    ----------
    from_sqlite
        Copy both stores of this data directory into the empty schemas at DATABASE_URL, with their history,
        and compare every table. The files are only read; nobody may write them meanwhile.
    reporting_role
        PostgreSQL: the role that may read the views and tables for reporting, and nothing else. It is made,
        without a login, if there is none: grant it to those who report.
    no_reporting_role
        Make no such role, and grant nothing.
    json_output
        Print one JSON value.
    """
    from receiver.database import Server
    from receiver.settings import Settings, companies
    from sync.migration import bring_up_to_date
    from sync.mirror.reporting import make_role

    place = Settings.load(company or companies()[0]).place
    copied = None
    if from_sqlite is None:
        bring_up_to_date(place)
    elif isinstance(place, Server):
        copied = _moved(from_sqlite, place, print_json=json_output)
    else:
        raise UsageError("DATABASE_URL is not set: it names the PostgreSQL that the stores are copied to.")
    role = None
    missing: list[str] = []
    if isinstance(place, Server) and not no_reporting_role:
        role = reporting_role
        missing = make_role(place.url, role)
    if json_output:
        said = {
            "copied": None if copied is None else _as_json(copied),
            "reporting_role": role,
            "left": missing,
        }
        sys.stdout.write(json.dumps(said) + "\n")
    else:
        where = "The schemas inbox and mirror" if isinstance(place, Server) else f"The databases in {place}"
        sys.stdout.write(f"{where} are of this version.\n")
        if role is not None and not missing:
            sys.stdout.write(f"The role {role} may read what is for reporting.\n")
    if missing:
        sys.stderr.write(
            f"The user of DATABASE_URL may not do all of it for the role {role}. An administrator of the "
            "database runs:\n" + "".join(f"    {statement};\n" for statement in missing)
        )


def _moved(directory: Path, server: Server, *, print_json: bool) -> Copied:
    from receiver.copying import CopiesDiffer
    from sync.cli.progress import Bar
    from sync.migration import move

    try:
        with Bar() as bar:
            copied = move(directory, server, bar.show)
    except CopiesDiffer as error:
        _print(error.copied, as_json=print_json)
        raise
    if not print_json:
        _print(copied, as_json=False)
    return copied


def _print(copied: Copied, *, as_json: bool) -> None:
    from sync.cli.tables import print_table

    if as_json:
        sys.stdout.write(json.dumps({"copied": _as_json(copied)}) + "\n")
        return
    rows = [
        (one.table, one.here.rows, one.there.rows, "equal" if one.is_equal else "DIFFERENT")
        for one in copied.tables
    ]
    print_table(rows, ("table", "SQLite", "PostgreSQL", ""))
    if copied.mended:
        sys.stdout.write(
            f"In {copied.mended} texts signs that PostgreSQL cannot store (NUL, lone surrogates) "
            "were replaced by \N{REPLACEMENT CHARACTER}.\n"
        )


def _as_json(copied: Copied) -> dict[str, object]:
    tables = [
        {"table": one.table, "rows": one.here.rows, "sha256": one.here.sha256, "equal": one.is_equal}
        for one in copied.tables
    ]
    return {"tables": tables, "mended_texts": copied.mended}
