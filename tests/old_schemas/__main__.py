"""Adds the files of migrations that have none yet; with `--again` all of them are made again."""

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config

from receiver import sqlite
from receiver.database import scripts_of
from tests.old_schemas import STORES, dump_of, rows_of


def main(*, again: bool) -> None:
    for store, migrations in STORES.items():
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / f"{store}.db"
            for script in reversed(list(scripts_of(migrations).walk_revisions())):
                upgrade(path, migrations, script.revision)
                with closing(sqlite3.connect(path)) as file:
                    file.executescript(rows_of(store, script.revision))
                    dump = "\n".join(file.iterdump()) + "\n"
                if again or not dump_of(store, script.revision).exists():
                    dump_of(store, script.revision).write_text(dump)
                    sys.stdout.write(f"{dump_of(store, script.revision).name}\n")


def upgrade(path: Path, migrations: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", migrations)
    with sqlite.migration(path) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


if __name__ == "__main__":
    main(again="--again" in sys.argv)
