"""Sends the ping and follows it hop by hop, to its verdict."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httpx2

from receiver.database import StoreMissing, directory_of
from receiver.local import connect_locally
from receiver.signature import HEADER, sign
from sync.inbox import InboxView
from sync.merge.decisions import Verdict
from sync.mirror.reader import MirrorReader
from sync.mirror.store import OWNER
from sync.mirror.verdicts import verdicts_of
from sync.ping.hops import Hop, HopFailed, Way, body_of, delivery_in

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 20.0
VERDICT_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.05


async def ping(
    way: Way,
    nonce: str,
    passed: Callable[[Hop], None],
    *,
    verdict_seconds: float = VERDICT_SECONDS,
) -> str:
    """Send a ping and follow it; tell each hop that it has `passed`, and give the delivery's name.

    Raises HopFailed at the first hop that fails.
    """
    url = urlsplit(way.public_url)
    tls = None if url.scheme == "http" else way.tls or ssl.create_default_context()
    await _resolve(url)
    passed(Hop.DNS)
    await _connect(way, url, tls)
    if tls is not None:
        passed(Hop.TLS)
    body = body_of(nonce)
    answer = await _post(way, body, tls)
    delivery = delivery_in(way, body, answer.status_code, answer.headers, answer.content)
    passed(Hop.PROXY)
    passed(Hop.RECEIVER)
    await _find_stored(way, delivery)
    passed(Hop.INBOX)
    await _await_verdict(way, delivery, verdict_seconds)
    passed(Hop.WORKER)
    return delivery


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


async def _resolve(url: SplitResult) -> None:
    host = url.hostname or ""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(host, _port(url), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer"
        raise HopFailed(
            Hop.DNS,
            f"{host} does not resolve ({reason}). Set its DNS record, or correct MIRROR_PUBLIC_URL.",
        ) from error


async def _connect(way: Way, url: SplitResult, tls: ssl.SSLContext | None) -> None:
    place = f"{url.hostname} port {_port(url)}"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, _port(url))
    except OSError as error:
        start = "Start kounta-mirror receiver" if way.first is Hop.RECEIVER else "Start the proxy or tunnel"
        raise HopFailed(
            way.first,
            f"nothing answers at {place} ({_reason(error)}). {start}, or correct MIRROR_PUBLIC_URL.",
        ) from error
    try:
        if tls is not None:
            async with asyncio.timeout(CONNECT_SECONDS):
                await writer.start_tls(tls, server_hostname=url.hostname)
    except ssl.SSLCertVerificationError as error:
        raise HopFailed(
            Hop.TLS,
            f"the certificate at {place} is not to be trusted ({error.verify_message}). Renew it for this "
            "name with its whole chain.",
        ) from error
    except (OSError, EOFError) as error:
        raise HopFailed(
            Hop.TLS,
            f"no TLS is spoken at {place} ({_reason(error)}). Give the proxy a certificate and let it serve "
            "https there.",
        ) from error
    finally:
        writer.transport.abort()


async def _post(way: Way, body: bytes, tls: ssl.SSLContext | None) -> httpx2.Response:
    headers = {HEADER.decode(): sign(body, way.token), "Content-Type": "application/json"}
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            httpx2.AsyncClient(
                verify=tls if tls is not None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                timeout=ANSWER_SECONDS,
                trust_env=False,
            ) as client,
        ):
            return await client.post(way.url, content=body, headers=headers)
    except (TimeoutError, httpx2.TimeoutException) as error:
        raise HopFailed(
            way.first, f"no answer to POST {way.url} within {ANSWER_SECONDS:g} s. See its log."
        ) from error
    except httpx2.HTTPError as error:
        raise HopFailed(
            way.first, f"the connection was cut before POST {way.url} was answered. See its log."
        ) from error


async def _find_stored(way: Way, delivery: str) -> None:
    async with InboxView(way.place) as view:
        reader = await view.reader()
        stored = reader is not None and bool(await reader.find(way.company_id, [delivery]))
    if not stored:
        raise HopFailed(
            Hop.INBOX,
            f"the receiver at {way.public_url} stored delivery {delivery}, but not in the inbox of "
            f"{directory_of(way.place)}. Another receiver answers there: correct MIRROR_PUBLIC_URL or "
            "MIRROR_DATA_DIR.",
        )


async def _await_verdict(way: Way, delivery: str, seconds: float) -> None:
    client = connect_locally(directory_of(way.place), OWNER)
    if client is None:
        raise HopFailed(
            Hop.WORKER,
            f"none runs on {directory_of(way.place)}; the ping waits in the inbox. "
            "Start kounta-mirror worker.",
        )
    await client.aclose()
    try:
        async with MirrorReader.look(way.place, way.company_id) as mirror, asyncio.timeout(seconds):
            while (verdict := (await verdicts_of(mirror, [delivery])).get(delivery)) is None:  # noqa: ASYNC110 - another process gives it
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise HopFailed(
            Hop.WORKER,
            f"delivery {delivery} has no verdict after {seconds:g} s. It is behind, or cannot write its "
            "database: see kounta-mirror status and its log.",
        ) from error
    except StoreMissing as error:
        raise HopFailed(Hop.WORKER, str(error)) from error
    if verdict != Verdict.UNCHANGED:
        raise HopFailed(
            Hop.WORKER,
            f"delivery {delivery} is {verdict}; see kounta-mirror deliveries list --verdict {verdict}. "
            "An older worker may run: start this version.",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return error.reason or "the handshake failed"
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or "the connection was closed"
