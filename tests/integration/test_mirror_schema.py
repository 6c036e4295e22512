"""The mirror's tables as its migrations make them, and as the code has them."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from receiver.database import Database, Place, mirror_of
from receiver.postgresql import Schema
from sync.mirror.schema import METADATA, VIEWS, create_statements
from sync.mirror.store import migrate_mirror
from tests.stores import change, engine_of, shape


# alembic compares what SQLAlchemy can reflect; the shape holds all indexes
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_a_fresh_mirror_equals_a_migrated_one(empty_place: Place) -> None:
    migrate_mirror(empty_place)
    migrated = mirror_of(empty_place)
    assert shape_without_triggers(migrated) == shape_without_triggers(fresh_beside(migrated))
    with engine_of(migrated).connect() as connection:
        differing = compare_metadata(MigrationContext.configure(connection), METADATA)
    steps = [step for one in differing for step in (one if isinstance(one, list) else [one])]
    assert [step for step in steps if "comment" not in step[0]] == []  # those are the dictionary's


def test_tags_follow_customers(empty_place: Place) -> None:
    migrate_mirror(empty_place)
    triggers = [one for one in shape(mirror_of(empty_place)) if one[0] == "trigger"]
    assert len(triggers) == 2


def fresh_beside(migrated: Database) -> Database:
    """Make the tables and views of the code, in a file or schema of their own."""
    fresh: Database
    if isinstance(migrated, Path):
        fresh = migrated.with_name("fresh.db")
    else:
        fresh = Schema(migrated.url, "fresh")
        change(fresh, "CREATE SCHEMA fresh")
    engine = engine_of(fresh)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for statement in create_statements(engine.dialect):
                connection.exec_driver_sql(statement)
        else:
            for name, selected in VIEWS.items():
                text = selected.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
                connection.exec_driver_sql(f"CREATE VIEW {name} AS {text}")
    return fresh


def shape_without_triggers(database: Database) -> list[tuple[Any, ...]]:
    """Give the shape of a store; on PostgreSQL the triggers stand in the migration alone."""
    found = [one for one in shape(database) if "alembic_version" not in one]
    if isinstance(database, Path):
        return found
    return [
        tuple(part.replace(f"{database.name}.", "") if part else part for part in one)
        for one in found
        if one[0] != "trigger"
    ]
