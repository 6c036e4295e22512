"""Both stores as every version of their schema had them, with a few invented rows: files of SQL beside this.

`python -m tests.old_schemas` adds the files of migrations that have none yet. Those that are there stay as
they are: they are what an installation of that version may have.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from receiver.inbox.schema import MIGRATIONS as OF_INBOX
from sync.mirror.reader import MIGRATIONS as OF_MIRROR

STORES: Final = {"inbox": OF_INBOX, "mirror": OF_MIRROR}
"""Store -> where its migrations lie."""
_HERE: Final = Path(__file__).parent


def dump_of(store: str, revision: str) -> Path:
    """Give the file that holds a store as of a version of its schema."""
    return _HERE / f"{store}-{revision}.sql"


def rows_of(store: str, revision: str) -> str:
    """Give the statements that add rows once this version has brought its tables in."""
    parts = re.split(r"^-- (\w+) (\d{4})$", (_HERE / "rows.sql").read_text(), flags=re.MULTILINE)
    return {(parts[n], parts[n + 1]): parts[n + 2] for n in range(1, len(parts), 3)}.get(
        (store, revision), ""
    )


def load(store: str, revision: str, path: Path) -> None:
    """Make a database as that version had it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as file:
        file.executescript(dump_of(store, revision).read_text())
        file.execute("PRAGMA journal_mode = WAL")
