"""The seed's page on customers, line by line, and what else is known of the API, over real HTTP."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from sync.sandbox import Faults, Sandbox, Settings, serving

CUSTOMERS = "/v1/companies/5678/customers"
JAMIE = {
    "first_name": "Jamie",
    "last_name": "McDonald",
    "phone": "02 8765 4321",
    "email": "jmcdonald@kounta.kom",
}

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes 50 ms to make


@asynccontextmanager
async def kounta(
    *, customers: int = 0, faults: Faults | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    options = {"requests_per_minute": 10_000, **settings}
    sandbox = Sandbox(Settings(**options), faults or Faults(), seed=1, customers=customers)
    async with serving(sandbox) as url:
        client = httpx2.AsyncClient(
            base_url=url,
            auth=("sandbox-client", "sandbox-secret"),
            headers={"Accept": "application/json"},
            trust_env=False,
            verify=NO_TLS,
        )
        async with client:
            yield client, sandbox


async def test_the_list_is_a_bare_array_of_twenty_five_with_the_full_url_of_the_next_page() -> None:
    async with kounta(customers=60) as (client, sandbox):
        ids: list[int] = []
        sizes: list[int] = []
        url = f"{CUSTOMERS}.json"
        while url:
            answer = await client.get(url)
            assert answer.headers["X-Pages"] == "3"
            sizes.append(len(answer.json()))
            ids += [item["id"] for item in answer.json()]
            url = answer.headers.get("X-Next-Page", "")
            assert not url or url.startswith(str(client.base_url))

        assert sizes == [25, 25, 10]
        assert ids == [customer.id for customer in sandbox.company.customers]


async def test_the_next_page_is_absent_or_empty_at_the_end() -> None:
    async with kounta(customers=3) as (client, sandbox):
        assert "X-Next-Page" not in (await client.get(CUSTOMERS)).headers
        sandbox.change(sandbox.settings, {"last_next_page": "empty"})
        assert (await client.get(CUSTOMERS)).headers["X-Next-Page"] == ""


async def test_an_empty_company_has_an_empty_list() -> None:
    async with kounta() as (client, _):
        answer = await client.get(CUSTOMERS)
        assert (answer.status_code, answer.json()) == (200, [])


async def test_pages_can_be_asked_for_by_header_from_0_or_by_query_from_a_base() -> None:
    async with kounta(customers=60) as (client, sandbox):
        second = [customer.id for customer in sandbox.company.customers][25:50]

        async def ids(**request: Any) -> list[int]:
            return [item["id"] for item in (await client.get(CUSTOMERS, **request)).json()]

        assert await ids(headers={"X-Page": "1"}) == second
        assert await ids(params={"page": "2"}) == second
        sandbox.change(sandbox.settings, {"page_base": 0})
        assert await ids(params={"page": "1"}) == second
        assert await ids(params={"page": "7"}) == []
        assert (await client.get(CUSTOMERS, params={"page": "x"})).status_code == 400


@pytest.mark.parametrize("order", ["id", "newest", "name"])
async def test_every_order_lists_everyone_once(order: str) -> None:
    async with kounta(customers=60, list_order=order) as (client, sandbox):
        pages = [(await client.get(CUSTOMERS, params={"page": page})).json() for page in (1, 2, 3)]

        ids = [item["id"] for page in pages for item in page]
        assert sorted(ids) == [customer.id for customer in sandbox.company.customers]
        assert (ids == sorted(ids)) == (order == "id")


async def test_lists_come_in_three_shapes() -> None:
    async with kounta(customers=1) as (client, sandbox):
        items = {}
        for shape in ("abridged", "legacy", "complete"):
            sandbox.change(sandbox.settings, {"list_shape": shape})
            [items[shape]] = (await client.get(CUSTOMERS)).json()
        one = (await client.get(f"{CUSTOMERS}/{items['complete']['id']}")).json()

        few = ["id", "first_name", "last_name", "email", "image", "reference_id"]
        assert list(items["abridged"]) == few
        assert list(items["legacy"]) == [*few[:3], "primary_email_address", *few[4:]]
        assert items["complete"].keys() == one.keys()
        assert {name: items["complete"][name] for name in few} == items["abridged"]


async def test_a_reference_id_finds_zero_or_more_and_is_always_200() -> None:
    async with kounta() as (client, sandbox):
        for name in ("Ana", "Bo", "Cy"):
            reference = "ABC123" if name != "Cy" else ""
            sandbox.company.create({"first_name": name, "reference_id": reference})

        async def found(reference: str) -> tuple[int, list[str]]:
            answer = await client.get(CUSTOMERS, params={"reference_id": reference})
            return answer.status_code, [item["first_name"] for item in answer.json()]

        assert await found("ABC123") == (200, ["Ana", "Bo"])
        assert await found("abc") == (200, [])
        assert await found("") == (200, [])


async def test_a_customer_is_got_by_id_with_an_empty_reference_if_there_is_none() -> None:
    async with kounta() as (client, sandbox):
        customer = sandbox.company.create(JAMIE)

        answer = await client.get(f"{CUSTOMERS}/{customer.id}.json")

        body = answer.json()
        assert (body["id"], body["first_name"], body["reference_id"]) == (customer.id, "Jamie", "")
        assert list(body) == [
            *("id", "first_name", "last_name", "email", "phone", "mobile", "tags", "image"),
            *("primary_address", "shipping_address", "reference_id", "accepts_marketing"),
            *("created_at", "updated_at"),
        ]
        assert (await client.get(f"{CUSTOMERS}/1")).status_code == 404
        assert (await client.get(f"{CUSTOMERS}/x")).status_code == 404


@pytest.mark.parametrize(
    "lookup",
    [
        {"email": "jmcdonald@kounta.kom"},
        {"mobile": "+61 400 000 000"},
        {"first_name": "Jamie", "last_name": "McDonald", "phone": "02 8765 4321"},
    ],
    ids=["email", "mobile", "name and phone"],
)
async def test_a_look_up_redirects_to_the_matching_record_or_is_404(lookup: dict[str, str]) -> None:
    async with kounta() as (client, sandbox):
        customer = sandbox.company.create({**JAMIE, "mobile": "+61 400 000 000"})

        absolute = await client.get(CUSTOMERS, params=lookup)
        sandbox.change(sandbox.settings, {"location": "relative"})
        relative = await client.get(f"{CUSTOMERS}.json", params=lookup)
        followed = await client.get(CUSTOMERS, params=lookup, follow_redirects=True)
        missing = await client.get(CUSTOMERS, params={**lookup, next(iter(lookup)): "nobody"})

        assert absolute.status_code == relative.status_code == 302
        assert absolute.headers["Location"] == str(client.base_url.join(f"{CUSTOMERS}/{customer.id}"))
        assert relative.headers["Location"] == f"{CUSTOMERS}/{customer.id}.json"
        assert followed.json()["id"] == customer.id
        assert missing.status_code == 404


async def test_a_plus_that_is_not_encoded_is_a_space_and_finds_nobody() -> None:
    async with kounta() as (client, sandbox):
        sandbox.company.create({"first_name": "Ana", "email": "ana+news@example.com"})

        assert (await client.get(f"{CUSTOMERS}?email=ana+news@example.com")).status_code == 404
        assert (await client.get(f"{CUSTOMERS}?email=ana%2Bnews%40example.com")).status_code == 302


@pytest.mark.parametrize("missing", ["first_name", "last_name", "phone"])
async def test_a_search_by_name_and_phone_needs_all_three(missing: str) -> None:
    async with kounta() as (client, sandbox):
        sandbox.company.create(JAMIE)
        values = {name: JAMIE[name] for name in ("first_name", "last_name", "phone") if name != missing}

        assert (await client.get(CUSTOMERS, params=values)).status_code == 400
        assert (await client.get(CUSTOMERS, params={**values, missing: ""})).status_code == 400


async def test_both_times_are_those_of_the_request() -> None:
    async with kounta(faults=Faults(clock_skew_seconds=3600)) as (client, sandbox):
        customer = sandbox.company.create(JAMIE)
        before = sandbox.company.upstream_time()

        body = (await client.get(f"{CUSTOMERS}/{customer.id}")).json()

        assert body["created_at"] == body["updated_at"]
        stamp = datetime.fromisoformat(body["updated_at"])
        assert stamp.utcoffset() == timedelta(0)
        assert -1 < stamp.timestamp() - before < 10


async def test_a_customer_is_created_with_a_location_and_perhaps_a_body() -> None:
    async with kounta() as (client, sandbox):
        bare = await client.post(CUSTOMERS, json={**JAMIE, "reference_id": "R1"})
        sandbox.change(sandbox.settings, {"created_body": True, "location": "relative"})
        full = await client.post(f"{CUSTOMERS}.json", json={**JAMIE, "email": "other@example.com"})

        assert (bare.status_code, bare.content) == (201, b"")
        created = (await client.get(bare.headers["Location"])).json()
        assert {name: created[name] for name in JAMIE} == JAMIE
        assert created["reference_id"] == "R1"
        assert full.status_code == 201
        assert full.headers["Location"] == f"{CUSTOMERS}/{full.json()['id']}.json"
        assert full.json()["email"] == "other@example.com"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"last_name": "M", "email": "e"}, "first_name is required."),
        ({"first_name": "", "email": "e"}, "first_name is required."),
        ({"first_name": "J"}, "An email or a phone is required."),
        ({"first_name": "J", "email": "", "phone": None}, "An email or a phone is required."),
        ({"first_name": 5, "email": "e"}, "first_name must be a string."),
        ({"first_name": "J", "email": "e", "tags": "vip"}, "tags must be an array of strings."),
        ({"first_name": "J", "email": "e", "tags": [1]}, "tags must be an array of strings."),
        (
            {"first_name": "J", "email": "e", "accepts_marketing": "yes"},
            "accepts_marketing must be true or false.",
        ),
        (
            {"first_name": "J", "email": "e", "primary_address": {"country": "Australia"}},
            "primary_address.country must be two capital letters (ISO 3166-1), such as AU.",
        ),
        (
            {"first_name": "J", "email": "e", "shipping_address": {"country": "au"}},
            "shipping_address.country must be two capital letters (ISO 3166-1), such as AU.",
        ),
        (["first_name"], "The body must be a JSON object of a customer's attributes."),
    ],
)
async def test_a_creation_without_its_minimum_or_with_what_cannot_be_is_400(body: Any, sentence: str) -> None:
    async with kounta() as (client, sandbox):
        answer = await client.post(CUSTOMERS, json=body)

        assert answer.status_code == 400
        assert answer.json() == {"error": "invalid_request", "error_description": sentence}
        assert len(sandbox.company.customers) == 0


@pytest.mark.parametrize("contact", ["email", "phone", "mobile"])
async def test_a_first_name_and_one_way_to_reach_the_customer_are_enough(contact: str) -> None:
    async with kounta() as (client, _):
        assert (await client.post(CUSTOMERS, json={"first_name": "J", contact: "1"})).status_code == 201


async def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    async with kounta() as (client, sandbox):
        address = {
            "address": "1 George St",
            "city": "Sydney",
            "state": "NSW",
            "postal_code": "0800",
            "country": "AU",
        }
        customer = sandbox.company.create(JAMIE)
        url = f"{CUSTOMERS}/{customer.id}"

        answer = await client.put(url, json={"primary_address": address, "tags": ["vip"], "phone": None})

        assert answer.status_code == 200
        expected = {**customer.seen_by("x"), "primary_address": address, "tags": ["vip"], "phone": None}
        shown = (await client.get(url)).json()
        assert {name: shown[name] for name in expected} == expected
        assert (await client.put(f"{CUSTOMERS}/1", json={"phone": "1"})).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", "James"),
        ("last_name", "O'Neill"),
        ("phone", "1"),
        ("email", "new@kounta.kom"),
        ("tags", ["vip", "gold"]),
        ("image", "https://img.example/1.png"),
        ("primary_address", {"city": "Sydney", "country": "AU"}),
        ("shipping_address", {"city": "Auckland", "country": "NZ"}),
        ("reference_id", "ABC123"),
        ("accepts_marketing", True),
    ],
)
async def test_an_update_changes_each_field_of_the_seed(field: str, value: Any) -> None:
    async with kounta() as (client, sandbox):
        customer = sandbox.company.create(JAMIE)
        before = customer.seen_by("sandbox-client")
        assert (await client.put(f"{CUSTOMERS}/{customer.id}", json={field: value})).status_code == 200
        after = sandbox.company.customer(customer.id).seen_by("sandbox-client")
        assert before[field] != value
        assert after == {**before, field: value}


async def test_fields_that_cannot_be_written_are_ignored_or_refused() -> None:
    async with kounta() as (client, sandbox):
        customer = sandbox.company.create(JAMIE)
        url = f"{CUSTOMERS}/{customer.id}"
        body = {"id": 1, "created_at": "2000-01-01T00:00:00+00:00", "points": 5, "phone": "1"}

        ignored = await client.put(url, json=body)
        sandbox.change(sandbox.settings, {"unknown_fields": "refused"})
        refused = await client.put(url, json=body)

        assert ignored.status_code == 200
        assert ignored.json()["id"] == customer.id
        assert "points" not in ignored.json()
        assert ignored.json()["phone"] == "1"
        assert refused.status_code == 400
        assert refused.json()["error_description"] == "These cannot be written: created_at, id, points."


async def test_a_mobile_is_unique_and_its_error_has_the_status_that_is_set() -> None:
    async with kounta(mobile_taken=409) as (client, _):
        await client.post(CUSTOMERS, json={"first_name": "A", "mobile": "0400"})
        answer = await client.post(CUSTOMERS, json={"first_name": "B", "mobile": "0400"})

        assert answer.status_code == 409


async def test_a_customer_cannot_be_deleted_by_the_api() -> None:
    async with kounta(customers=1) as (client, sandbox):
        id_ = next(iter(sandbox.company.customers)).id

        assert (await client.delete(f"{CUSTOMERS}/{id_}")).status_code == 405
        assert len(sandbox.company.customers) == 1


async def test_json_must_be_asked_for_and_sent_as_such() -> None:
    async with kounta(customers=1) as (client, _):
        plain = {"Accept": "*/*"}
        assert (await client.get(CUSTOMERS, headers=plain)).status_code == 406
        assert (await client.get(f"{CUSTOMERS}.json", headers=plain)).status_code == 200

        body = b'{"first_name": "A", "phone": "1"}'
        assert (await client.post(CUSTOMERS, content=body)).status_code == 400
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.post(CUSTOMERS, content=body, headers=form)).status_code == 400
        typed = {"Content-Type": "application/json; charset=utf-8"}
        assert (await client.post(CUSTOMERS, content=body, headers=typed)).status_code == 201
        assert (await client.post(CUSTOMERS, content=body[1:], headers=typed)).status_code == 400


@pytest.mark.parametrize(
    "authorization", ["", "Basic x", "Basic c2FuZGJveC1jbGllbnQ6d3Jvbmc=", "Bearer wrong", "Digest a"]
)
async def test_without_valid_credentials_it_is_401(authorization: str) -> None:
    async with kounta() as (client, _):
        answer = await client.get(CUSTOMERS, headers={"Authorization": authorization}, auth=None)

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_another_company_is_404_or_403() -> None:
    async with kounta() as (client, sandbox):
        assert (await client.get("/v1/companies/1/customers")).status_code == 404
        sandbox.change(sandbox.settings, {"wrong_company": 403})
        assert (await client.get("/v1/companies/1/customers")).status_code == 403


async def test_me_is_the_company_of_the_credentials() -> None:
    async with kounta() as (client, _):
        me = (await client.get("/v1/companies/me.json")).json()

        assert me == {"id": 5678, "name": "Harbour Roasters", "timezone": "Australia/Sydney"}
        assert (await client.get("/v1/companies/5678.json")).json() == me


@pytest.mark.parametrize(
    ("shape", "content_type", "text"),
    [
        ("error", "application/json", '{"error":"not_found","error_description":"There is no customer 1."}'),
        ("message", "application/json", '{"message":"There is no customer 1."}'),
        ("error_message", "application/json", '{"error_message":"There is no customer 1."}'),
        ("text", "text/plain; charset=utf-8", "There is no customer 1."),
        (
            "html",
            "text/html; charset=utf-8",
            "<html><body><h1>404</h1><p>There is no customer 1.</p></body></html>",
        ),
    ],
)
async def test_errors_come_in_each_of_upstreams_shapes(shape: str, content_type: str, text: str) -> None:
    async with kounta(error_shape=shape) as (client, _):
        answer = await client.get(f"{CUSTOMERS}/1")

        assert (answer.status_code, answer.headers["Content-Type"], answer.text) == (404, content_type, text)


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ("none", set()),
        ("retry-after", {"retry-after"}),
        ("reset", {"x-ratelimit-reset"}),
        ("both", {"retry-after", "x-ratelimit-reset"}),
    ],
)
async def test_too_many_calls_are_429_with_the_headers_that_are_set(headers: str, names: set[str]) -> None:
    async with kounta(requests_per_minute=2, limit_window="sliding", limit_headers=headers) as (
        client,
        sandbox,
    ):
        started = sandbox.clock()
        statuses = [(await client.get(CUSTOMERS)).status_code for _ in range(3)]
        answer = await client.get(CUSTOMERS)

        assert statuses == [200, 200, 429]
        assert answer.text == "Limit exceeded"
        assert {"retry-after", "x-ratelimit-reset"} & answer.headers.keys() == names
        assert 50 < int(answer.headers.get("Retry-After", "60")) <= 60
        reset = int(answer.headers.get("X-Ratelimit-Reset", str(int(started) + 60)))
        assert started + 59 < reset < started + 65


async def test_a_429_may_have_a_json_body() -> None:
    async with kounta(requests_per_minute=1, limit_window="sliding", limit_body="json") as (client, _):
        await client.get(CUSTOMERS)
        assert (await client.get(CUSTOMERS)).json()["error"] == "limit_exceeded"


async def test_a_reference_is_not_seen_by_another_application() -> None:
    async with kounta(other_applications=("theirs:secret:token",)) as (client, sandbox):
        customer = sandbox.company.create({**JAMIE, "reference_id": "OURS"})
        url = f"{CUSTOMERS}/{customer.id}"

        await client.put(url, json={"reference_id": "THEIRS"}, auth=("theirs", "secret"))

        assert (await client.get(url)).json()["reference_id"] == "OURS"
        assert (await client.get(url, auth=("theirs", "secret"))).json()["reference_id"] == "THEIRS"
        found = await client.get(CUSTOMERS, params={"reference_id": "OURS"}, auth=("theirs", "secret"))
        assert found.json() == []


async def test_unknown_fields_and_older_addresses_may_appear() -> None:
    async with kounta(unknown_extras=True, address_shape="legacy") as (client, sandbox):
        address = {"address": "1 George St", "city": "Sydney", "state": "NSW", "country": "AU"}
        customer = sandbox.company.create({**JAMIE, "primary_address": address})

        body = (await client.get(f"{CUSTOMERS}/{customer.id}")).json()

        assert body["id_str"] == str(customer.id)
        assert "loyalty" in body
        assert body["primary_address"] == {
            "lines": ["1 George St"],
            "city": "Sydney",
            "zone": "NSW",
            "postal_code": None,
            "country": "AU",
        }


async def test_an_unknown_path_is_404_in_upstreams_shape() -> None:
    async with kounta() as (client, _):
        answer = await client.get("/v1/nothing/here.json")
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
