"""PostgreSQL's role for reporting sees what is for reporting, and nothing else: tried by one who logs in."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from receiver.errors import MirrorError
from receiver.inbox.schema import metadata as inbox_tables
from sync.mirror.reporting import ROLE, SHOWN, make_role
from sync.mirror.schema import METADATA, VIEWS

OF_THE_INTERFACE = (
    *("customers", "all_customers", "customer_tags", "customer_versions", "customer_changes"),
    *("mirror_status", "mirror_samples", "delivery_verdicts", "companies", "company_days"),
)
OWN = sorted(set(METADATA.tables) - set(OF_THE_INTERFACE))
REPORTER = "anna"


@pytest.fixture
def url(postgresql: Any) -> Iterator[str]:
    """A database with both schemas, on a server where no role is left from another test."""
    url: str = postgresql.fresh()
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO mirror.companies (company_id, name) VALUES (5678, 'Cafe');"
            "INSERT INTO inbox.identity VALUES (1, 'secret', now())"
        )
        before = roles(owner)
        yield url
        for name in map(Identifier, roles(owner) - before):
            owner.execute(SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(name))
            owner.execute(SQL("DROP OWNED BY {}").format(name))
            owner.execute(SQL("DROP ROLE {}").format(name))


def roles(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def logged_in(url: str, name: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, user=name, autocommit=True)


@pytest.fixture
def anna(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who reports: a login of her own, to which the role was granted."""
    assert make_role(url, ROLE) == []
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {REPORTER} LOGIN; GRANT {ROLE} TO {REPORTER}".encode())
    with logged_in(url, REPORTER) as connection:
        yield connection


def refused(connection: psycopg.Connection[Any], statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_every_view_and_table_of_the_interface_can_be_read(anna: psycopg.Connection[Any]) -> None:
    assert sorted(SHOWN) == sorted(OF_THE_INTERFACE)
    for name in OF_THE_INTERFACE:
        anna.execute(f"SELECT * FROM mirror.{name}".encode())  # noqa: S608 - our own names
    assert anna.execute("SELECT name FROM mirror.companies").fetchall() == [("Cafe",)]


def test_none_of_the_mirrors_own_tables_can_be_read(anna: psycopg.Connection[Any]) -> None:
    assert all(name.startswith("_") for name in OWN)
    assert "_oauth_tokens" in OWN
    for name in (*OWN, "alembic_version"):
        assert refused(anna, f"SELECT * FROM mirror.{name}"), name  # noqa: S608 - our own names


def test_nothing_of_the_inbox_can_be_read(anna: psycopg.Connection[Any]) -> None:
    for name in (*inbox_tables.tables, "deliveries_others", "alembic_version"):
        assert refused(anna, f"SELECT * FROM inbox.{name}"), name  # noqa: S608 - our own names


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO mirror.companies (company_id) VALUES (1)",
        "UPDATE mirror.companies SET name = 'x'",
        "DELETE FROM mirror.companies",
        "TRUNCATE mirror.companies",
        "UPDATE mirror.customers SET first_name = 'x'",
        "DELETE FROM mirror.customers",
        "INSERT INTO mirror._customers (company_id, id) VALUES (1, 1)",
        "UPDATE mirror._progress SET position = 0",
        "DELETE FROM inbox.deliveries",
        "SELECT setval('inbox.starts_number_seq', 1)",
        "CREATE TABLE mirror.mine (a int)",
        "CREATE VIEW mirror.mine AS SELECT 1",
        "CREATE TABLE inbox.mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine (a int)",
        "SELECT 1 FROM mirror.companies FOR UPDATE",
    ],
)
def test_nothing_can_be_written(anna: psycopg.Connection[Any], statement: str) -> None:
    assert refused(anna, statement)


def test_every_view_shows_its_rows_through_the_rights_of_its_owner(
    url: str, anna: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(url) as owner:
        owner.execute(
            "INSERT INTO mirror._status (company_id, live, deleted, verified, partial, listed_complete, "
            "attributes, verifications_due) VALUES (5678, 1, 0, 1, 0, true, '[]', 0)"
        )
    assert anna.execute("SELECT live FROM mirror.mirror_status").fetchall() == [(1,)]


def test_the_role_itself_cannot_log_in(url: str) -> None:
    make_role(url, ROLE)
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        logged_in(url, ROLE)


def test_a_view_that_came_later_is_granted_by_the_next_migrate(
    url: str, anna: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(url) as owner:
        owner.execute("CREATE VIEW mirror.later AS SELECT * FROM mirror._customers")
    assert refused(anna, "SELECT * FROM mirror.later")
    monkeypatch.setattr("sync.mirror.reporting.SHOWN", (*VIEWS, "later"))
    assert make_role(url, ROLE) == []
    assert not refused(anna, "SELECT * FROM mirror.later")


def test_a_role_that_is_there_is_kept_whatever_its_name(url: str) -> None:
    name = 'Bericht: 100% "neu"'
    with psycopg.connect(url) as owner:
        owner.execute('CREATE ROLE "Bericht: 100% ""neu""" LOGIN')
    assert make_role(url, name) == []
    with logged_in(url, name) as connection:
        assert not refused(connection, "SELECT * FROM mirror.customers")
        assert refused(connection, "SELECT * FROM mirror._customers")


@pytest.mark.parametrize("name", ["", "x" * 64, "public", "pg_mine"])
def test_a_name_that_no_role_can_have_is_one_sentence(url: str, name: str) -> None:
    with pytest.raises(MirrorError, match=r"name of a role|cannot be made: .*reserved|unacceptable"):
        make_role(url, name)


def test_who_may_not_make_roles_is_told_what_an_administrator_runs(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        database = make_url(url).database
        owner.execute(f"CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE {database} TO app".encode())
    address = make_url(url).set(username="app").render_as_string(hide_password=False)
    left = make_role(address, ROLE)
    assert left[0] == f'CREATE ROLE "{ROLE}" NOLOGIN'
    assert len(left) == 3
    with psycopg.connect(url, autocommit=True) as owner:
        assert owner.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() == (0,)
        for statement in left:
            owner.execute(statement.encode())
        owner.execute(f"CREATE ROLE {REPORTER} LOGIN; GRANT {ROLE} TO {REPORTER}".encode())
    with logged_in(url, REPORTER) as connection:
        assert not refused(connection, "SELECT * FROM mirror.customers")


def test_nothing_is_asked_of_an_administrator_once_the_role_is_there(url: str) -> None:
    """The owner of the schemas may grant, though they may make no roles."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE app LOGIN; CREATE ROLE {ROLE}".encode())
        database = make_url(url).database
        owner.execute(
            f"GRANT CREATE ON DATABASE {database} TO app; ALTER SCHEMA mirror OWNER TO app".encode()
        )
        for name in (*METADATA.tables, *VIEWS):
            owner.execute(f"ALTER TABLE mirror.{name} OWNER TO app".encode())
    assert make_role(make_url(url).set(username="app").render_as_string(hide_password=False), ROLE) == []
