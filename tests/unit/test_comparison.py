"""What the demonstration reads of files that processes write, which it kills meanwhile."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sync.demo.comparison import counted

QUERY = "SELECT 'all', count(*) FROM sqlite_master"


def test_nothing_is_counted_while_a_file_is_being_made(tmp_path: Path) -> None:
    path = tmp_path / "mirror.db"
    assert counted(path, QUERY) == {}
    path.touch()
    assert counted(path, QUERY) == {}


def test_a_process_killed_in_its_first_transaction_leaves_nothing_to_count_yet(tmp_path: Path) -> None:
    path, killed = tmp_path / "mirror.db", tmp_path / "killed.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("CREATE TABLE t (a); PRAGMA cache_size = 1; BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO t VALUES (randomblob(500))", [()] * 3000)
        for end in ("", "-journal"):  # as a kill at this moment leaves them
            shutil.copy(f"{path}{end}", f"{killed}{end}")
        assert counted(killed, QUERY) == {}
        connection.execute("COMMIT")
    assert counted(path, QUERY) == {"all": 1}
