"""Registrations of webhooks, by the local Kounta and by a server that answers byte for byte."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sync.kounta import (
    BasicAuth,
    Budget,
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaUnavailable,
    KountaWrongShape,
    Retries,
)
from sync.sandbox import Faults, Sandbox, Settings, serving

WEBHOOKS = "/v1/companies/5678/webhooks"
ADDRESS = "https://mirror.example/webhooks/5678/customers/created"


@asynccontextmanager
async def local_kounta(**settings: Any) -> AsyncIterator[tuple[Sandbox, Kounta]]:
    sandbox = Sandbox(Settings(requests_per_minute=100_000, **settings), Faults(), seed=7, customers=1)
    async with (
        serving(sandbox) as url,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=Retries.sleepless(),
        ) as kounta,
    ):
        yield sandbox, kounta


def posts(sandbox: Sandbox) -> int:
    return sum(1 for _ in sandbox.company.webhooks)


@pytest.mark.parametrize("form", [{}, {"created_body": True, "location": "relative"}])
async def test_a_webhook_is_registered_listed_changed_and_removed(form: dict[str, Any]) -> None:
    async with local_kounta(**form) as (_, kounta):
        id_ = await kounta.webhooks.register("customers/created", ADDRESS)
        (listed,) = await kounta.webhooks.all()
        assert (listed.id, listed.topic, listed.address) == (id_, "customers/created", ADDRESS)
        assert listed.is_json
        assert not listed.is_filtered
        assert await kounta.webhooks.change(id_, {"format": "xml", "filter": {"attributes": ["name"]}})
        changed = await kounta.webhooks.get(id_)
        assert changed is not None
        assert (changed.topic, changed.is_json, changed.is_filtered) == ("customers/created", False, True)
        assert await kounta.webhooks.remove(id_)
        assert await kounta.webhooks.all() == []


@pytest.mark.parametrize("shape", ["error", "html"])
async def test_a_webhook_that_is_gone_is_no_error(shape: str) -> None:
    async with local_kounta(error_shape=shape) as (_, kounta):
        assert await kounta.webhooks.get(9001) is None
        assert not await kounta.webhooks.change(9001, {"format": "json"})
        assert not await kounta.webhooks.remove(9001)


async def test_a_registration_that_its_answer_names_is_known_though_the_body_is_cut() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.calls.ask(["cut_bodies"])
        made = await kounta.webhooks.register("customers/created", ADDRESS)
        assert [webhook.id for webhook in sandbox.company.webhooks] == [made]


@pytest.mark.parametrize("fault", ["server_errors", "html_answers"])
async def test_a_registration_that_may_have_been_made_is_not_sent_again(fault: str) -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.faults.fault_after_write = 1.0
        sandbox.calls.ask([fault])
        with pytest.raises(KountaError) as raised:
            await kounta.webhooks.register("customers/created", ADDRESS)
        assert raised.value.fate_unknown
        assert posts(sandbox) == 1
        assert kounta.calls == 1


async def test_a_registration_that_was_throttled_was_not_made_and_is_sent_again() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.calls.ask(["too_many"])
        await kounta.webhooks.register("customers/created", ADDRESS)
        assert posts(sandbox) == 1


async def test_a_refused_registration_was_not_made() -> None:
    async with local_kounta() as (sandbox, kounta):
        with pytest.raises(KountaError) as raised:
            await kounta.webhooks.register("customers/created", "no URL")
        assert not raised.value.fate_unknown
        assert raised.value.status == 400
        assert posts(sandbox) == 0


async def test_all_pages_of_the_list_are_read(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(
        f"{WEBHOOKS}.json", [{"id": 2, "id_str": "2"}], X_Next_Page=f"{upstream.url}{WEBHOOKS}.json?page=2"
    )
    upstream.answer(f"{WEBHOOKS}.json?page=2", [{"id": 1, "topic": "orders/created"}, {"id": 2}])
    assert [webhook.id for webhook in await kounta.webhooks.all()] == [1, 2]


async def test_a_right_to_see_webhooks_proves_no_right_to_see_customers(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(f"{WEBHOOKS}.json", [])
    await kounta.webhooks.all()
    assert not kounta.proven_after(0)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 403, "body": {"error": "no_right"}}, KountaAccessLost),
        ({"status": 404}, KountaAccessLost),
        ({"body": {"webhooks": []}}, KountaWrongShape),
        ({"body": [{"topic": "customers/created"}]}, KountaWrongShape),
        ({"body": b"<html><title>Maintenance</title>"}, KountaWrongShape),
        ({"body": b""}, KountaWrongShape),
        ({"body": [{"id": 1}], "cut": 3}, KountaUnavailable),
    ],
)
async def test_a_list_that_cannot_be_right_is_an_error_and_never_an_empty_one(
    upstream: Any, kounta: Kounta, reply: dict[str, Any], error: type[KountaError]
) -> None:
    upstream.answer(f"{WEBHOOKS}.json", **reply)
    with pytest.raises(error):
        await kounta.webhooks.all()


async def test_another_webhook_than_the_one_asked_for_is_an_error(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{WEBHOOKS}/1.json", {"id": 2})
    with pytest.raises(KountaWrongShape, match="webhook 2 came"):
        await kounta.webhooks.get(1)


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("body", [b"", {"id": 389427, "first_name": "Jamie"}])
async def test_a_yes_that_names_no_webhook_leaves_the_fate_of_a_registration_unknown(
    upstream: Any, kounta: Kounta, status: int, body: Any
) -> None:
    upstream.answer(f"{WEBHOOKS}.json", body, status)
    with pytest.raises(KountaWrongShape) as raised:
        await kounta.webhooks.register("customers/created", ADDRESS)
    assert raised.value.fate_unknown
    assert len(upstream.asked) == 1


async def test_a_page_in_place_of_an_answer_is_no_change(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{WEBHOOKS}/1.json", b"<html>")
    with pytest.raises(KountaWrongShape, match="HTML"):
        await kounta.webhooks.remove(1)
    assert len(upstream.asked) == 1


async def test_a_read_only_client_refuses_every_write_before_upstream_is_asked(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    kounta = connect(read_only=True)
    for write in (
        kounta.webhooks.register("customers/created", ADDRESS),
        kounta.webhooks.change(1, {"format": "json"}),
        kounta.webhooks.remove(1),
    ):
        with pytest.raises(KountaRefused, match="KOUNTA_READ_ONLY"):
            await write
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("value", "filtered"),
    [
        (None, False),
        ("", False),
        ({}, False),
        ([], False),
        ({"attributes": []}, False),
        ("name", True),
        (["name"], True),
        ({"attributes": ["name"]}, True),
    ],
)
async def test_an_empty_filter_is_none(upstream: Any, kounta: Kounta, value: Any, *, filtered: bool) -> None:
    upstream.answer(f"{WEBHOOKS}/1.json", {"id": 1, "filter": value})
    webhook = await kounta.webhooks.get(1)
    assert webhook is not None
    assert webhook.is_filtered is filtered
