"""Datasette on the live file, with our metadata: everything answers, and the worker goes on."""

import asyncio
import json
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx2
import pytest

from sync.mirror.datasette import metadata, page
from sync.mirror.dictionary import TABLES
from sync.mirror.queries import QUERIES
from sync.mirror.schema import METADATA
from tests import cafe
from tests.datasette import serving

OWN = sorted({name for name in METADATA.tables if name.startswith("_")} | {"alembic_version"})
GIVEN = {"customer_id": "1", "at": "2026-11-24T12:00:00.000Z"}
QUESTIONS = {query.name: {name: GIVEN[name] for name, _ in query.parameters} for query in QUERIES}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
async def furnished(house: Any) -> Any:
    await cafe.furnish(house)
    return house


@pytest.fixture
async def datasette(
    furnished: Any, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx2.AsyncClient]:
    desk = tmp_path_factory.mktemp("desk")
    with serving(pytestconfig.rootpath, furnished.directory, desk) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
            yield client


async def answer(datasette: httpx2.AsyncClient, name: str, **given: str) -> Any:
    """Ask a table or a query as a program does."""
    got = await datasette.get(f"/mirror/{name}.json", params={"_shape": "array", **given})
    assert got.status_code == 200, got.text
    return got.json()


async def test_each_canned_query_answers(datasette: httpx2.AsyncClient) -> None:
    for name, given in QUESTIONS.items():
        assert await answer(datasette, name, **given) is not None
        shown = await datasette.get(f"/mirror/{name}", params=given)
        assert shown.status_code == 200
        assert "message-error" not in shown.text
    found = await answer(datasette, "customers_by_city")
    assert found[0] == {"city": "Sydney", "customers": 3}


async def test_each_page_shows_what_its_columns_mean(datasette: httpx2.AsyncClient) -> None:
    labelled = metadata()["databases"]["mirror"]["tables"]
    for table in TABLES:
        shown = await datasette.get(f"/mirror/{table.name}")
        assert shown.status_code == 200
        assert table.title in shown.text
        for column in table.columns:
            label = labelled[table.name]["columns"][column.name]
            assert f"<dt>{column.name}</dt><dd>{label}</dd>" in unescape(shown.text), column.name


async def test_the_mirrors_own_tables_have_no_pages_and_those_of_reports_are_counted(
    datasette: httpx2.AsyncClient,
) -> None:
    told = (await datasette.get("/mirror.json")).json()
    shown = {one["name"] for one in (*told["tables"], *told["views"])}
    assert shown == {table.name for table in TABLES}
    for name in OWN:
        assert (await datasette.get(f"/mirror/{name}.json")).status_code == 403, name
    assert {query["name"] for query in told["queries"]} == set(QUESTIONS)
    customers = (await datasette.get("/mirror/customers.json")).json()
    cities = customers["facet_results"]["primary_city"]["results"]
    assert {one["value"]: one["count"] for one in cities} == {"Sydney": 3, "Perth": 1}


async def test_the_dashboard_is_there(datasette: httpx2.AsyncClient) -> None:
    shown = await datasette.get("/dashboard")
    assert shown.status_code == 200
    assert "http://" not in shown.text.partition("<main")[2].replace("http://www.w3.org", "")
    assert "/dashboard" in (await datasette.get("/")).text


async def test_nothing_can_be_written_through_it(datasette: httpx2.AsyncClient) -> None:
    got = await datasette.get("/mirror.json", params={"sql": "DELETE FROM _customers"})
    assert got.status_code == 400
    assert "SELECT" in got.json()["error"]


async def test_it_answers_while_deliveries_are_applied_and_keeps_no_log_alive(
    furnished: Any, datasette: httpx2.AsyncClient
) -> None:
    applied, answered = asyncio.Event(), asyncio.Event()

    async def report() -> None:
        while not applied.is_set():
            for name, given in QUESTIONS.items():
                await answer(datasette, name, **given)
            assert (await datasette.get("/mirror/customers")).status_code == 200
            answered.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(report())
        for number in range(100, 130):
            for id_ in range(20):
                await furnished.post(furnished.customer(number * 20 + id_, 7_300))
            assert await furnished.apply() == 20
        await answered.wait()
        applied.set()
    assert (await answer(datasette, "customers_by_city"))[0] == {"city": "Sydney", "customers": 603}
    assert await furnished.mirror.store.truncate_log()


def test_the_metadata_is_as_scripts_dictionary_makes_it(pytestconfig: pytest.Config) -> None:
    kept = (pytestconfig.rootpath / "docs/deploy/datasette/metadata.json").read_text()
    assert kept == page(), "run scripts/dictionary"
    assert json.loads(kept)["databases"].keys() == {"mirror"}
