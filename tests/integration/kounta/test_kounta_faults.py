import asyncio
import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sync.kounta import (
    Budget,
    Kounta,
    KountaError,
    KountaThrottled,
    KountaUnavailable,
    KountaWrongShape,
    Retries,
)
from sync.kounta.connection import LARGEST_BODY

PATH = "/v1/companies/5678/customers/1.json"
CUSTOMER = {"id": 1, "first_name": "Jamie"}
WHOLE = json.dumps(CUSTOMER).encode()


async def read_after(upstream: Any, kounta: Kounta, attempts: int) -> None:
    """Let the next answer be right, and hold that it is the one taken."""
    upstream.answer(PATH, CUSTOMER)
    customer = await kounta.customer(1)
    assert customer is not None
    assert customer.first_name == "Jamie"
    assert len(upstream.asked) == attempts


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
async def test_a_fault_of_upstreams_is_tried_again(upstream: Any, kounta: Kounta, status: int) -> None:
    upstream.answer(PATH, b"<html><title>Oops</title>", status)
    upstream.answer(PATH, b"", status)
    await read_after(upstream, kounta, 3)


@pytest.mark.parametrize("cut", [1, len(WHOLE)])
async def test_a_cut_body_is_tried_again(upstream: Any, kounta: Kounta, cut: int) -> None:
    upstream.answer(PATH, CUSTOMER, cut=cut)
    await read_after(upstream, kounta, 2)


async def test_a_body_cut_without_a_length_is_tried_again(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, CUSTOMER, cut=1, length=False)
    await read_after(upstream, kounta, 2)


async def test_a_cut_chunked_body_is_tried_again(upstream: Any, kounta: Kounta) -> None:
    chunk = f"{len(WHOLE):x}\r\n".encode() + WHOLE + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.send(PATH, head + chunk)
    upstream.send(PATH, head + chunk + b"0\r\n\r\n")
    customer = await kounta.customer(1)
    assert customer is not None
    assert len(upstream.asked) == 2


async def test_a_cut_gzip_body_is_tried_again(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, gzip.compress(WHOLE)[:-12], Content_Encoding="gzip")
    upstream.answer(PATH, b"no gzip at all", Content_Encoding="gzip")
    await read_after(upstream, kounta, 3)


@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200", b"\x00\x01nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
async def test_a_connection_that_is_cut_is_tried_again(upstream: Any, kounta: Kounta, wire: bytes) -> None:
    upstream.send(PATH, wire)
    await read_after(upstream, kounta, 2)


async def test_a_hang_before_the_answer_is_tried_again(upstream: Any, connect: Callable[..., Kounta]) -> None:
    upstream.send(PATH, b"", hang=True)
    await read_after(upstream, connect(retries=Retries.sleepless(attempt=0.1)), 2)


async def test_a_hang_within_the_answer_is_tried_again(upstream: Any, connect: Callable[..., Kounta]) -> None:
    upstream.answer(PATH, CUSTOMER, cut=3, hang=True)
    await read_after(upstream, connect(retries=Retries.sleepless(attempt=0.1)), 2)


async def test_upstream_that_only_hangs_is_given_up(upstream: Any, connect: Callable[..., Kounta]) -> None:
    upstream.send(PATH, b"", hang=True)
    kounta = connect(retries=Retries.sleepless(patience=2, attempt=0.05))
    with pytest.raises(KountaUnavailable, match=r"no answer within 0\.05 s \(\d+ tries\)"):
        await kounta.customer(1)
    assert kounta.calls == 0
    assert len(upstream.asked) > 1


async def test_one_attempt_lasts_no_longer_than_the_patience(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    upstream.send(PATH, b"", hang=True)
    began = time.monotonic()
    with pytest.raises(KountaUnavailable, match=r"no answer within 0\.5 s"):
        await connect(retries=Retries(patience=0.5)).customer(1)
    assert time.monotonic() - began < 5


async def test_no_one_listening_is_a_clear_error(connect: Callable[..., Kounta]) -> None:
    async with await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    kounta = connect(api_url=f"http://127.0.0.1:{port}")
    with pytest.raises(KountaUnavailable, match=r"no connection .*Try again later"):
        await kounta.customer(1)


async def test_an_upstream_that_does_not_speak_tls_is_a_clear_error(connect: Callable[..., Kounta]) -> None:
    def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(KountaUnavailable, match=r"no connection .*SSL.*Try again later"):
            await connect(api_url=f"https://127.0.0.1:{port}").customer(1)


@pytest.mark.parametrize(
    ("body", "came"),
    [
        (b"<!DOCTYPE html><html>Sign in", "an HTML page came"),
        (b"", "an empty body came"),
        (b"  \n", "an empty body came"),
        (b"OK", "what came is no JSON, or is cut"),
        (b"\xff\xfe", "no JSON"),
        (b'{"id": 1, "x": ' + b"[" * 100_000, "no JSON"),
    ],
)
async def test_a_200_that_is_no_json_is_tried_three_times(
    upstream: Any, kounta: Kounta, body: bytes, came: str
) -> None:
    upstream.answer(PATH, body)
    with pytest.raises(KountaWrongShape, match=came):
        await kounta.customer(1)
    assert len(upstream.asked) == 3


async def test_a_page_of_maintenance_that_passes_does_no_harm(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b"<html>Back in a moment")
    await read_after(upstream, kounta, 2)


async def test_a_body_without_end_is_left_unread(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b'{"id": 1, "x": "' + b"x" * (LARGEST_BODY + 2**20), length=False)
    with pytest.raises(KountaWrongShape, match="more than 16 MiB"):
        await kounta.customer(1)
    assert len(upstream.asked) == 1


async def test_a_body_that_unpacks_without_end_is_left_unread(upstream: Any, kounta: Kounta) -> None:
    packed = gzip.compress(b" " * (4 * LARGEST_BODY))
    upstream.answer(PATH, packed, Content_Encoding="gzip")
    with pytest.raises(KountaWrongShape, match="more than 16 MiB"):
        await kounta.customer(1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Retry_After": "30"},
        {"Retry_After": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)},
        {"X_Ratelimit_Reset": str(int(time.time()) + 30)},
        {"Retry_After": "yesterday", "X_Ratelimit_Reset": "17"},
    ],
)
async def test_a_429_is_tried_again(upstream: Any, kounta: Kounta, headers: dict[str, str]) -> None:
    upstream.answer(PATH, b"Limit exceeded", 429, **headers)
    await read_after(upstream, kounta, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "300"},
        {"Retry_After": format_datetime(datetime.now(UTC) + timedelta(days=3650), usegmt=True)},
        {"X_Ratelimit_Reset": str(int((time.time() + 86_400) * 1000))},
    ],
)
async def test_a_429_that_lasts_is_an_error_at_once_and_closes_the_budget_for_everyone(
    upstream: Any, connect: Callable[..., Kounta], headers: dict[str, str]
) -> None:
    budget = Budget(float("inf"))
    kounta = connect(budget=budget, retries=Retries())
    upstream.answer(PATH, b"Limit exceeded", 429, **headers)
    with pytest.raises(
        KountaThrottled, match=r"answered 429 \(Limit exceeded\), no more calls before"
    ) as caught:
        await kounta.customer(1)
    with pytest.raises(KountaThrottled, match=rf"^GET {PATH}: upstream allows this company no call before"):
        await connect(budget=budget, retries=Retries()).customer(1)
    assert len(upstream.asked) == 1
    assert caught.value.retry_at is not None
    assert budget.state.closed_until == caught.value.retry_at
    ahead = caught.value.retry_at - datetime.now(UTC)
    assert timedelta(minutes=4) < ahead <= timedelta(hours=1)


async def test_the_wait_of_a_503_is_upstreams_too(upstream: Any, connect: Callable[..., Kounta]) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    upstream.answer(PATH, b"", 503, Retry_After="7", X_Ratelimit_Reset="40")
    upstream.answer(PATH, b"", 503, X_Ratelimit_Reset="40")
    await read_after(upstream, connect(retries=Retries(sleep=sleep, random=lambda: 1.0)), 3)
    assert slept == [7, 2]


async def test_every_attempt_is_taken_from_the_budget(upstream: Any, connect: Callable[..., Kounta]) -> None:
    budget = Budget.endless()
    upstream.answer(PATH, b"", 503)
    upstream.answer(PATH, b"", 429)
    await read_after(upstream, connect(budget=budget), 3)
    assert budget.used == 3


async def test_a_try_counts_once_it_is_over_as_what_it_came_to(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b"", 503)
    upstream.answer(PATH, CUSTOMER, cut=1)
    upstream.answer(PATH, CUSTOMER)
    upstream.answer(PATH, b"", 404)
    upstream.answer(PATH, b"", 403)
    await kounta.customer(1)
    assert kounta.tries_by_outcome == {"answered": 1, "failed": 2}
    assert await kounta.customer(1) is None
    with pytest.raises(KountaError):
        await kounta.customer(1)
    assert kounta.tries_by_outcome == {"answered": 2, "failed": 3}


async def test_a_try_that_is_under_way_counts_as_nothing_yet(upstream: Any, kounta: Kounta) -> None:
    upstream.send(PATH, b"", hang=True)
    upstream.answer(PATH, CUSTOMER)
    reading = asyncio.create_task(kounta.customer(1))
    while not upstream.asked:  # noqa: ASYNC110 - it comes true at the other end of a socket
        await asyncio.sleep(0)
    assert not kounta.tries_by_outcome
    upstream.released.set()
    await reading
    assert kounta.tries_by_outcome == {"answered": 1, "failed": 1}


class Tokens:
    """Credentials that can be renewed, as those of OAuth 2: the old ones end, new ones come."""

    calls_per_minute = 180

    def __init__(self, *, renewals: int = 1) -> None:
        self.left = renewals
        self.asked = 0
        self.token = "token-0"

    async def authorization(self) -> str:
        return f"Bearer {self.token}"

    async def renew(self, refused: str) -> bool:
        self.asked += 1
        if refused != f"Bearer {self.token}":
            return True
        if not self.left:
            return False
        self.left -= 1
        self.token = f"token-{self.asked}"
        return True

    def conceal(self, text: str) -> str:
        return text.replace(self.token, "[secret]")


async def test_credentials_that_expired_are_renewed_once(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    tokens, budget = Tokens(), Budget.endless()
    upstream.answer(PATH, {"error": "invalid_token"}, 401)
    await read_after(upstream, connect(auth=tokens, budget=budget), 2)
    assert [asked.headers["authorization"] for asked in upstream.asked] == [
        "Bearer token-0",
        "Bearer token-1",
    ]
    assert budget.used == 2


async def test_new_credentials_that_are_refused_too_are_an_error(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    tokens = Tokens(renewals=9)
    upstream.answer(PATH, {"error": "invalid_token"}, 401)
    with pytest.raises(KountaError, match="answered 401 invalid_token"):
        await connect(auth=tokens).customer(1)
    assert tokens.asked == 1
    assert len(upstream.asked) == 2


async def test_a_client_has_the_budget_of_its_kind_of_credentials(connect: Callable[..., Kounta]) -> None:
    assert connect(budget=None).budget.calls_per_minute == 60
    assert connect(budget=None, auth=Tokens()).budget.calls_per_minute == 180


async def test_a_hundred_callers_at_once_over_faults_all_end_right(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    budget = Budget.endless()
    kounta = connect(budget=budget)
    for number in range(1, 101):
        target = f"/v1/companies/5678/customers/{number}.json"
        if number % 20 == 0:
            upstream.answer(target, b"", 503)
        if number % 30 == 0:
            upstream.send(target, b"")
        upstream.answer(target, {"id": number})
    found = await asyncio.gather(*(kounta.customer(number) for number in range(1, 101)))
    assert [customer.id for customer in found if customer] == list(range(1, 101))
    assert len(upstream.asked) == budget.used == 100 + 5 + 3
