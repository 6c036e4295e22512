"""Each behaviour of the catalogue, without sockets; the truth stays beside what is served."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from sync.sandbox import AppTransport, Faults, Sandbox, Settings, create_app

LIST = "/v1/companies/5678/customers.json"
NOW = 1_800_000_000.0


@asynccontextmanager
async def kounta(
    customers: int = 30, base: str = "http://127.0.0.1", **options: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    settings = {name: value for name, value in options.items() if hasattr(Settings, name)}
    faults = {name: value for name, value in options.items() if hasattr(Faults, name)}
    sandbox = Sandbox(
        Settings(**{"requests_per_minute": 1000, **settings}), Faults(**faults), 1, customers, lambda: NOW
    )
    async with httpx2.AsyncClient(
        transport=AppTransport(create_app(sandbox)),
        base_url=base,
        auth=("sandbox-client", "sandbox-secret"),
        headers={"Accept": "application/json"},
    ) as client:
        yield client, sandbox


async def shown(**options: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give what reads show of each customer beside the truth."""
    async with kounta(**options) as (client, sandbox):
        truth = {one["id"]: one for one in sandbox.company.truth()}
        answers = [await client.get(f"/v1/companies/5678/customers/{id_}.json") for id_ in truth]
    return [(answer.json(), one) for answer, one in zip(answers, truth.values(), strict=True)]


async def test_what_is_empty_may_be_a_list() -> None:
    pairs = await shown(empty_as_list=1)

    assert {json.dumps(said["primary_address"]) for said, true in pairs if not true["primary_address"]} == {
        "[]"
    }


async def test_tags_may_be_an_object_with_numbers() -> None:
    pairs = [pair for pair in await shown(holes_as_object=1) if pair[1]["tags"]]

    assert pairs
    assert all(list(said["tags"].values()) == true["tags"] and "0" in said["tags"] for said, true in pairs)


async def test_none_may_be_a_text_or_false() -> None:
    pairs = await shown(none_as_text=1, customers=90)

    assert {json.dumps(said["email"]) for said, true in pairs if true["email"] is None} == {'""', "false"}


async def test_digits_may_be_numbers_that_have_lost_zeros_and_a_plus() -> None:
    pairs = [pair for pair in await shown(numbers_for_text=1) if pair[1]["mobile"]]

    assert {true["mobile"][0] for _, true in pairs} == {"0", "+"}
    assert all(said["mobile"] == int(true["mobile"]) for said, true in pairs)
    assert all(said["first_name"] != 0 for said, _ in pairs)


async def test_numbers_may_be_texts() -> None:
    pairs = await shown(text_for_numbers=1)

    assert all(said["id"] == str(true["id"]) for said, true in pairs)
    assert {json.dumps(said["accepts_marketing"]) for said, _ in pairs} == {
        *("0", "1", '"0"', '"1"', '"true"', '"false"')
    }


async def test_one_field_may_be_strange() -> None:
    for said, true in await shown(strange_fields=1):
        assert len([name for name in true if said[name] != true[name]]) == 1


async def test_unknown_fields_may_be_nested_deep_and_texts_halved() -> None:
    assert all("preferences" in said for said, _ in await shown(deep_nesting=1))
    halved = [json.dumps(said) for said, _ in await shown(half_surrogates=1)]
    assert all("\\ud83d" in said for said in halved)


async def test_unknown_times_and_counts_may_differ_at_each_answer() -> None:
    said = [one["addresses"]["count"] for one, _ in await shown(volatile_extras=True)]

    assert len(set(said)) == len(said)


async def test_mobile_may_be_absent_everywhere() -> None:
    assert not any("mobile" in said for said, _ in await shown(mobile_field=False))


async def test_a_read_may_carry_six_fields_only() -> None:
    assert {len(said) for said, _ in await shown(poor_reads=1)} == {6}


async def test_oddities_may_be_the_same_at_each_answer() -> None:
    async def odd(per: str) -> list[list[bool]]:
        async with kounta(customers=20, deep_nesting=0.5, oddities_per=per) as (client, sandbox):
            ids = [one["id"] for one in sandbox.company.truth()]
            return [
                [
                    "preferences" in (await client.get(f"/v1/companies/5678/customers/{id_}.json")).json()
                    for _ in range(2)
                ]
                for id_ in ids
            ]

    fixed = await odd("customer")
    assert all(first == second for first, second in fixed)
    assert {first for first, _ in fixed} == {True, False}
    assert any(first != second for first, second in await odd("answer"))


@pytest.mark.parametrize(
    ("option", "value", "status"),
    [
        ("gone", 410, 410),
        ("redirects_another", 1, 302),
        ("answers_another", 1, 200),
        ("deleted_flags", 1, 200),
    ],
)
async def test_a_deleted_customer_may_be_answered_otherwise(option: str, value: Any, status: int) -> None:
    async with kounta(**{option: value}) as (client, sandbox):
        gone = sandbox.company.delete(next(iter(sandbox.company.truth()))["id"])
        path = f"/v1/companies/5678/customers/{gone.id}.json"
        answers = [await client.get(path) for _ in range(80)]

        assert {answer.status_code for answer in answers} == {status}
        if option == "answers_another":
            assert len({answer.json()["id"] for answer in answers}) == 1
            assert answers[0].json()["id"] in {one["id"] for one in sandbox.company.truth()}
        if option == "redirects_another":
            assert str(gone.id) not in answers[0].headers["Location"]
        if option == "deleted_flags":
            spelled = {
                json.dumps({name: answer.json()[name]})
                for answer in answers
                for name in ("deleted", "is_deleted", "deleted_at")
                if name in answer.json()
            }
            assert len(spelled) == 9


async def test_a_live_customer_may_carry_a_flag_that_says_no_or_nothing() -> None:
    flags = ("deleted", "is_deleted", "deleted_at")
    for option, expected in (("false_flags", 9), ("strange_flags", 3)):
        said = {
            json.dumps({name: one[name] for name in flags if name in one})
            for one, _ in await shown(**{option: 1}, customers=150)
        }
        assert len(said) >= expected
        assert "{}" not in said


async def test_a_deleted_customer_may_stay_in_the_list() -> None:
    async with kounta(customers=5, listed_deleted=1) as (client, sandbox):
        gone = sandbox.company.delete(next(iter(sandbox.company.truth()))["id"])
        items = (await client.get(LIST)).json()

    assert len(items) == 5
    assert [one["id"] for one in items if any("deleted" in name for name in one)] == [gone.id]


async def test_a_read_may_redirect_to_another_address_of_the_customer() -> None:
    async with kounta(redirects_same=1) as (client, sandbox):
        id_ = next(iter(sandbox.company.truth()))["id"]
        answer = await client.get(f"/v1/companies/5678/customers/{id_}.json")
        assert answer.status_code == 302
        followed = await client.get(answer.headers["Location"])

    assert followed.json()["id"] == id_


async def test_the_company_may_redirect() -> None:
    async with kounta(company_redirects=True) as (client, _):
        answer = await client.get("/v1/companies/me.json")
        assert answer.status_code == 302
        assert (await client.get(answer.headers["Location"])).json()["id"] == 5678


async def test_a_walk_may_end_early_and_pages_be_overstated() -> None:
    async with kounta(customers=60, cut_walks=1) as (client, _):
        answer = await client.get(LIST)
    assert (answer.headers["X-Pages"], "X-Next-Page" in answer.headers) == ("3", False)
    async with kounta(customers=60, overstated_pages=1) as (client, _):
        assert (await client.get(LIST)).headers["X-Pages"] == "4"


async def test_pages_may_repeat_without_end() -> None:
    async with kounta(customers=60, next_page="endless") as (client, _):
        url, seen = LIST, []
        for _ in range(8):
            answer = await client.get(url)
            seen.append([one["id"] for one in answer.json()])
            url = answer.headers["X-Next-Page"]

    assert seen[:2] == seen[3:5] == seen[6:8]


async def test_next_pages_may_be_named_with_http() -> None:
    async with kounta(customers=60, base="https://kounta.example", next_page="http") as (client, _):
        named = (await client.get(LIST)).headers["X-Next-Page"]

    assert named.startswith("http://kounta.example/v1/companies/5678/customers.json?page=2")


async def test_pages_may_have_another_size() -> None:
    async with kounta(customers=60, page_size=7) as (client, _):
        answer = await client.get(LIST)

    assert (len(answer.json()), answer.headers["X-Pages"]) == (7, "9")


@pytest.mark.parametrize(("kind", "body"), [("null", b"null"), ("empty", b""), ("html", b"<!DOCTYPE")])
async def test_a_write_may_be_answered_with_another_body(kind: str, body: bytes) -> None:
    async with kounta(write_body=kind, created_location=False) as (client, sandbox):
        made = await client.post(LIST, json={"first_name": "Ana", "phone": "1"})
        id_ = max(one["id"] for one in sandbox.company.truth())
        changed = await client.put(f"/v1/companies/5678/customers/{id_}.json", json={"phone": "2"})
        assert sandbox.company.customer(id_).phone == "2"

    assert (made.status_code, changed.status_code, "Location" in made.headers) == (201, 200, False)
    assert made.content[:9] == changed.content[:9] == body


async def test_a_limit_may_be_told_in_milliseconds_and_lie_far_away() -> None:
    far: dict[str, Any] = {
        "reset_unit": "milliseconds",
        "reset_ahead_seconds": 86_400,
        "remaining_headers": True,
    }
    async with kounta(requests_per_minute=2, **far) as (client, _):
        answers = [await client.get(LIST) for _ in range(3)]

    assert [answer.headers["X-Ratelimit-Remaining"] for answer in answers[:2]] == ["1", "0"]
    assert answers[0].headers["X-Ratelimit-Limit"] == "2"
    assert answers[2].status_code == 429
    assert int(answers[2].headers["X-Ratelimit-Reset"]) > (NOW + 86_400) * 1000


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("forbidden", 403, b"<!DOCTYPE html>"),
        ("unavailable", 400, b'{"error":"temporarily_unavailable"}'),
        ("unauthorized", 401, b"Unauthorized"),
    ],
)
async def test_the_token_endpoint_may_answer_otherwise(kind: str, status: int, body: bytes) -> None:
    async with kounta(token_answers=kind) as (client, _):
        answer = await client.post("/v1/token.json", data={"grant_type": "refresh_token"})

    assert (answer.status_code, answer.content[: len(body)]) == (status, body)


async def test_an_unset_filter_may_be_an_object_and_null_refused() -> None:
    hook = {"topic": "customers/updated", "address": "https://mirror.example/x"}
    async with kounta(unset_filter="object") as (client, _):
        made = await client.post("/v1/companies/5678/webhooks.json", json={**hook, "filter": {}})
        refused = await client.post("/v1/companies/5678/webhooks.json", json={**hook, "filter": None})
        shown = (await client.get("/v1/companies/5678/webhooks.json")).json()

    assert (made.status_code, refused.status_code, [one["filter"] for one in shown]) == (201, 400, [{}])


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ("kept", "https://Mirror.Example:443/Hooks"),
        ("normalised", "https://mirror.example/Hooks"),
        ("slashed", "https://mirror.example/Hooks/"),
    ],
)
async def test_addresses_of_webhooks_may_be_normalised(how: str, kept: str) -> None:
    hook = {"topic": "customers/updated", "address": "https://Mirror.Example:443/Hooks"}
    async with kounta(webhook_addresses=how) as (client, _):
        await client.post("/v1/companies/5678/webhooks.json", json=hook)
        shown = (await client.get("/v1/companies/5678/webhooks.json")).json()

    assert [one["address"] for one in shown] == [kept]


def posts(**options: Any) -> list[tuple[str, bytes, dict[str, str]]]:
    """Give the deliveries of one update and one deletion of the same customer: topic, body, headers."""
    settings = {name: value for name, value in options.items() if hasattr(Settings, name)}
    faults = {name: value for name, value in options.items() if hasattr(Faults, name)}
    sandbox = Sandbox(Settings(**settings), Faults(**faults), 1, 3, lambda: NOW)
    sandbox.deliver_to("http://receiver")
    company = sandbox.company
    id_ = next(iter(company.truth()))["id"]
    company.update(id_, {"first_name": "Ana"})
    company.delete(id_)
    sent = []
    while due := company.due_deliveries(NOW):
        for delivery in due:
            post = company.post(delivery)
            sent.append((post.url.rpartition("/")[2], post.body, post.headers))
            company.finished(delivery, 200, NOW)
    return sent


@pytest.mark.parametrize("option", ["nul_bodies", "not_utf8"])
def test_a_body_may_hold_what_no_text_holds(option: str) -> None:
    for _, body, _ in posts(**{option: 1}):
        assert b'"id":' in body
        assert b"\xff" in body or b"\x00" in body or b"\\u0000" in body


def test_a_body_may_name_nobody() -> None:
    assert not any(b'"id":' in body for _, body, _ in posts(nameless_bodies=1))


def test_a_deletion_may_carry_the_id_alone() -> None:
    (_, updated, _), (_, deleted, _) = posts(deleted_body="id")

    assert "first_name" in json.loads(updated)
    assert sorted(json.loads(deleted)) == ["created_at", "id", "updated_at"]


def test_the_same_bytes_may_come_to_another_topic() -> None:
    sent = posts(replayed_elsewhere=1)

    assert len(sent) == 4
    for body in {body for _, body, _ in sent}:
        assert len({topic for topic, other, _ in sent if other == body}) >= 2


def test_deliveries_may_have_headers_that_nobody_documents() -> None:
    assert all("X-Kounta-Event-Id" in headers for _, _, headers in posts(delivery_headers=True))
