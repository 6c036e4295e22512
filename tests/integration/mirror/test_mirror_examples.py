"""The examples of how the mirror is read, in README.md and the docs, run as they stand there."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sync.mirror.export import export_customers
from tests.places import settings_of


@pytest.fixture
async def busy(house: Any) -> Any:
    await house.post(house.customer(1, first_name="=1+1"))
    await house.post(house.customer(2, first_name="Jo", tags=[], primary_address={"city": "Perth"}))
    await house.apply()
    return house


def blocks(page: Path, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


async def run(house: Any, program: str) -> str:
    """Run a program at the time of the house."""
    settings = {"PATH": os.environ["PATH"], "KOUNTA_COMPANY_ID": "5678", **settings_of(house.place)}
    program = program.replace("datetime.now(UTC)", f"datetime.fromisoformat({house.now.isoformat()!r})")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.at", house.now.isoformat(), "-c", program),
        cwd=house.directory,
        env=settings | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaint.decode()) == (0, "")
    return out.decode()


async def test_that_of_the_readme(busy: Any, pytestconfig: pytest.Config) -> None:
    [example] = [block for block in blocks(pytestconfig.rootpath / "README.md") if "sync.mirror" in block]
    counted, found, first, second = (await run(busy, example)).splitlines()
    assert counted == "2 customers"
    assert found == "1 =1+1 ['vip'] None"
    assert first.startswith("1 created 1 {")
    assert second.startswith("2 created 2 {")


async def test_that_of_the_reference(busy: Any, pytestconfig: pytest.Config) -> None:
    [example] = blocks(pytestconfig.rootpath / "docs/reference/python.md")
    assert await run(busy, example) == "2 customers\n1 jamie1@kounta.example None\n"


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_table_of_pandas_has_the_names_of_the_columns(busy: Any) -> None:
    program = (
        "import pandas; from sync.mirror import open_mirror\n"
        "with open_mirror() as mirror: print(*pandas.DataFrame(mirror.customers()).primary_city)"
    )
    assert await run(busy, program) == "Sydney Perth\n"


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_those_of_the_page_on_exports(
    busy: Any, pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_customers(busy.place, tmp_path / "customers.parquet", (5678,))
    monkeypatch.chdir(tmp_path)
    text = "".join(blocks(pytestconfig.rootpath / "docs/how-to/export.md", ""))
    (python,) = re.findall(r'^python -c "(.*?)"$', text, re.MULTILINE)
    assert (await run(busy, python)).splitlines()[:3] == ["primary_city", "Perth     1", "Sydney    1"]
    typed = re.findall(r'^duckdb -c ".*?"$', text, re.MULTILINE | re.DOTALL)
    counted, for_excel = (shlex.split(one)[-1] for one in typed)
    with duckdb.connect() as database:
        assert database.execute(counted).fetchall() == [("Sydney", 1)]
        database.execute(for_excel)
    assert (tmp_path / "for-excel.csv").read_text().splitlines() == ["id,first_name", "1,'=1+1", "2,Jo"]
