import sqlite3
from contextlib import closing
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine
from sqlalchemy.dialects import sqlite

from sync.mirror.reader import mirror_path
from sync.mirror.schema import METADATA, create_statements
from sync.mirror.store import migrate_mirror


def test_a_fresh_mirror_equals_a_migrated_one(tmp_path: Path) -> None:
    migrate_mirror(tmp_path)
    fresh = tmp_path / "fresh.db"
    engine = create_engine(f"sqlite:///{fresh}", poolclass=NullPool)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for statement in create_statements(sqlite.dialect()):
            connection.exec_driver_sql(statement)
    assert schema_of(mirror_path(tmp_path)) == schema_of(fresh)
    migrated = create_engine(f"sqlite:///{mirror_path(tmp_path)}", poolclass=NullPool)
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def schema_of(place: Path) -> list[tuple[str, ...]]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%' ORDER BY type, name"
    with closing(sqlite3.connect(place)) as connection:
        return [(kind, name, " ".join((sql or "").split())) for kind, name, sql in connection.execute(query)]
