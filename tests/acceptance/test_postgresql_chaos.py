"""Two receivers, three workers and PostgreSQL itself are ended again and again while Kounta delivers.

`scripts/chaos` runs the long form: ten kills of each process, two restarts of the server, 20 s without it.
"""

import argparse
import asyncio
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.database import Server
from sync.demo.comparison import wrong_among
from sync.demo.processes import Service, run
from tests.databases import Cluster, asked

COMPANY = 5678
RECEIVERS = 2
WORKERS = 3
QUERY = "SELECT verdict, count(*) AS count FROM delivery_verdicts GROUP BY verdict"
REPEAT_SECONDS = 60.0
"""For how long a sender repeats what got no 200."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is done to the processes."""

    kills: int = 2
    """Of each."""
    outage_seconds: float = 3.0
    seed: int = 7
    edits_a_second: int = 40
    patience: float = 120.0
    """How long a step may take, in seconds."""


class Relay:
    """Sends what Kounta delivers to the receivers in turn, again until one answers 200."""

    def __init__(self, ports: list[int]) -> None:
        self.acknowledged: list[str] = []
        self.answers: Counter[int] = Counter()
        """How often each status came; 0: no answer."""
        self._turns = count()
        self._heard = asyncio.Event()
        self._clients = [
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)
            for port in ports
        ]

    async def pass_on(self, request: Request) -> Response:
        headers = {name: request.headers[name] for name in ("content-type", "x-kounta-signature")}
        body = await request.body()
        until = time.monotonic() + REPEAT_SECONDS
        while time.monotonic() < until:
            client = self._clients[next(self._turns) % len(self._clients)]
            try:
                answer = await client.post(request.url.path, content=body, headers=headers)
            except httpx2.TransportError:
                self.answers[0] += 1
            else:
                self.answers[answer.status_code] += 1
                if answer.status_code == 200:
                    self.acknowledged.append(answer.json()["delivery"])
                    self._heard.set()
                    return Response(answer.content)
            await asyncio.sleep(0.1)
        return Response(status_code=502)

    async def hears(self, number: int, seconds: float) -> None:
        """Wait until that many more deliveries were acknowledged."""
        wanted = len(self.acknowledged) + number
        async with asyncio.timeout(seconds):
            while len(self.acknowledged) < wanted:
                self._heard.clear()
                await self._heard.wait()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = Starlette(routes=[Route("/{path:path}", self.pass_on, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await serving
        for client in self._clients:
            await client.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_answered(url: str, seconds: float) -> None:
    async with httpx2.AsyncClient(timeout=2, trust_env=False) as client, asyncio.timeout(seconds):
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


def environment_of(name: str, url: str, upstream: str, directory: Path) -> dict[str, str]:
    """Give the settings of a process; each has a data directory of its own, as if on its own machine."""
    return {
        "DATABASE_URL": url,
        "MIRROR_DATA_DIR": str(directory / name),
        "KOUNTA_COMPANY_ID": str(COMPANY),
        "KOUNTA_SIGNATURE_TOKENS": "token",
        "KOUNTA_API_URL": upstream,
        "KOUNTA_CLIENT_ID": "client",
        "KOUNTA_CLIENT_SECRET": "secret",
        "KOUNTA_REQUESTS_PER_MINUTE": "6000",
        "MIRROR_READ_LAG_SECONDS": "0",
        "MIRROR_HOLD_DELETES": "100%",
        "MIRROR_CONSOLE_PORT": "0",
    }


def kounta_arguments(upstream: str, deliver_to: str, course: Course) -> list[str]:
    given = {
        "port": upstream.rsplit(":", 1)[1],
        "customers": 100,
        "seed": course.seed,
        "deliver-to": deliver_to,
        "company-id": COMPANY,
        "client-id": "client",
        "client-secret": "secret",
        "signature-token": "token",
        "requests-per-minute": 6000,
        "edits-per-second": course.edits_a_second,
        "lost": 0.05,
        "doubled": 0.1,
        "disordered": 0.1,
    }
    return ["sandbox", *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


@dataclass(frozen=True, slots=True)
class Found:
    """What was there in the end."""

    place: Server
    relay: Relay
    deaths: dict[str, int]
    refused_in_outage: int
    code: int
    report: str
    complaints: str
    truth: dict[str, Any]

    def told(self) -> str:
        counted = {row["verdict"]: row["count"] for row in asked(self.place, QUERY)}
        return (
            f"deaths {self.deaths}; acknowledged {len(self.relay.acknowledged)}; "
            f"answers {dict(self.relay.answers)}, 503 in the outage {self.refused_in_outage}; "
            f"verdicts {counted}; reconcile {self.report.strip()}"
        )


def services_of(ports: list[int], url: str, upstream: str, directory: Path) -> list[Service]:
    services = []
    for number, port in enumerate(ports, 1):
        environment = environment_of(f"receiver{number}", url, upstream, directory)
        arguments = ["receiver", "--port", str(port)]
        services.append(Service(f"receiver{number}", arguments, environment, directory))
    for number in range(1, WORKERS + 1):
        environment = environment_of(f"worker{number}", url, upstream, directory)
        services.append(Service(f"worker{number}", ["worker"], environment, directory))
    return services


async def kill(victim: Service) -> None:
    """End it, once it lives; return when that is known, so that the next blow meets another life."""
    await victim.until_alive()
    deaths = victim.deaths
    victim.kill()
    while victim.deaths == deaths:  # noqa: ASYNC110 - it is told to nobody
        await asyncio.sleep(0.01)


async def end_one_after_the_other(
    services: list[Service], cluster: Cluster, relay: Relay, course: Course, chance: random.Random
) -> int:
    """Kill each as often as the course says, and the server between; give how often 503 came without it."""
    blows = [service for service in services for _ in range(course.kills)]
    chance.shuffle(blows)
    ends = {len(blows) // 4: cluster.stop, len(blows) // 2: cluster.kill}
    refused = 0
    for number, victim in enumerate(blows):
        await relay.hears(3, course.patience)
        await asyncio.sleep(chance.uniform(0, 0.3))
        async with asyncio.timeout(course.patience):
            await kill(victim)
        if number in ends:
            await asyncio.to_thread(ends[number])
            await asyncio.to_thread(cluster.start)
        if number == 3 * len(blows) // 4:
            before = relay.answers[503]
            await asyncio.to_thread(cluster.stop)
            await asyncio.sleep(course.outage_seconds)
            refused = relay.answers[503] - before
            await asyncio.to_thread(cluster.start)
    return refused


async def torment(course: Course, directory: Path, cluster: Cluster) -> Found:
    """Run everything, end one after the other, and let it come to rest."""
    chance = random.Random(course.seed)
    url = cluster.url_of(cluster.fresh())
    upstream = f"http://127.0.0.1:{free_port()}"
    ports = [free_port() for _ in range(RECEIVERS)]
    relay = Relay(ports)
    services = services_of(ports, url, upstream, directory)
    patience = course.patience
    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service)
        for port in ports:
            await until_answered(f"http://127.0.0.1:{port}/readyz", patience)
        delivering = await stack.enter_async_context(relay.listening())
        arguments = kounta_arguments(upstream, delivering, course)
        kounta = Service("kounta", arguments, environment_of("kounta", url, upstream, directory), directory)
        await stack.enter_async_context(kounta)
        control = f"{upstream}/sandbox"
        await until_answered(f"{control}/report", patience)

        refused = await end_one_after_the_other(services, cluster, relay, course, chance)
        await relay.hears(3, patience)
        async with httpx2.AsyncClient(timeout=patience, trust_env=False) as client:
            await client.post(f"{control}/settle")
            for port in ports:
                await until_answered(f"http://127.0.0.1:{port}/readyz", patience)
            place = Server(directory, url)
            await until_drained(place, relay, patience)
            environment = environment_of("worker1", url, upstream, directory)
            code, report, complaints = await run(["reconcile", "--deep", "--json"], environment, directory)
            await until_drained(place, relay, patience)
            truth = (await client.get(f"{control}/customers")).json()
        deaths = {service.name: service.deaths for service in services}
    return Found(place, relay, deaths, refused, code, report, complaints, truth)


async def until_drained(place: Server, relay: Relay, seconds: float) -> None:
    """Wait until all that was acknowledged is in the inbox, and all that is there has its verdict."""
    async with asyncio.timeout(seconds):
        while True:
            stored = {row["id"] for row in asked(place, "SELECT id FROM inbox.deliveries")}
            ruled = {row["delivery_id"] for row in asked(place, "SELECT delivery_id FROM delivery_verdicts")}
            if stored == ruled and stored.issuperset(relay.acknowledged):
                return
            await asyncio.sleep(0.2)


def broken_chains(place: Server) -> list[tuple[int, str]]:
    """Name the changes that do not begin where the one before has ended, and the rows unlike the last."""
    states: dict[int, dict[str, Any]] = {}
    broken: list[tuple[int, str]] = []
    query = "SELECT customer_id, kind, before, after FROM customer_changes ORDER BY seq"
    for change in asked(place, query):
        id_, kind = change["customer_id"], change["kind"]
        state = states.setdefault(id_, {})
        before, after = (json.loads(change[name] or "{}") for name in ("before", "after"))
        if kind == "updated":
            if {name: state.get(name) for name in before} != before:
                broken.append((id_, kind))
            state |= after
        elif kind == "deleted":
            if _set(state) != before:
                broken.append((id_, kind))
            state.clear()
        else:
            if state:
                broken.append((id_, kind))
            state |= after
    for row in asked(place, "SELECT * FROM customers"):
        state = _set(states[row["id"]])
        if state != {
            name: _shown(name, row[name]) for name in row if row[name] is not None and name in FIELDS
        }:
            broken.append((row["id"], "row"))
    return broken


FIELDS = (
    *("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id", "accepts_marketing"),
    *("tags", "other"),
    *(
        f"{kind}_{part}"
        for kind in ("primary", "shipping")
        for part in ("address", "city", "state", "postal_code", "country")
    ),
)


def _set(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if value is not None}


def _shown(name: str, value: Any) -> Any:
    if name == "accepts_marketing":
        return bool(value)
    return json.loads(value) if name in {"tags", "other"} else value


def check(found: Found) -> None:
    """Nothing acknowledged is lost, nothing has an effect twice, and no row is wrong."""
    place, relay = found.place, found.relay
    rulings = asked(place, "SELECT delivery_id, verdict FROM delivery_verdicts")
    verdicts = {row["delivery_id"]: row["verdict"] for row in rulings}
    assert set(relay.acknowledged) <= verdicts.keys()
    assert len(set(relay.acknowledged)) == len(relay.acknowledged)
    assert set(verdicts.values()) <= {"applied", "unchanged", "stale", "tombstoned", "contradicted"}
    counted = asked(place, "SELECT verdict, count FROM _verdict_counts WHERE count > 0")
    assert {row["verdict"]: row["count"] for row in counted} == Counter(verdicts.values())
    accepted = asked(place, "SELECT count, head FROM inbox.accepted")
    assert accepted == [{"count": len(verdicts), "head": len(verdicts)}]

    effects = Counter(
        row["delivery_id"]
        for row in asked(place, "SELECT delivery_id FROM customer_changes WHERE delivery_id IS NOT NULL")
    )
    assert set(effects.values()) == {1}
    changing = {name for name, verdict in verdicts.items() if verdict in {"applied", "tombstoned"}}
    assert effects.keys() == changing
    assert broken_chains(place) == []

    assert (found.code, found.complaints) == (0, ""), found.report
    rows = asked(place, "SELECT * FROM all_customers")
    assert wrong_among(rows, found.truth["customers"], found.truth["deleted"]) == {}


async def test_whatever_is_ended_under_load_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    tmp_path: Path,
) -> None:
    course = Course()
    with Cluster() as cluster:
        found = await torment(course, tmp_path, cluster)
        check(found)
    # receivers go on, and begin, without PostgreSQL; a worker goes on, and does not begin
    for name, deaths in found.deaths.items():
        assert deaths == course.kills or (name.startswith("worker") and deaths > course.kills), found.deaths
    assert found.refused_in_outage == 0, found.relay.answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--outage", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="an empty directory for the logs")
    given = parser.parse_args()
    course = Course(given.kills, given.outage, given.seed, patience=300.0)
    directory = given.keep or Path(tempfile.mkdtemp())
    with Cluster() as cluster:
        began = time.monotonic()
        found = asyncio.run(torment(course, directory, cluster))
        sys.stdout.write(f"{time.monotonic() - began:.0f} s; {found.told()}\n")
        check(found)
        sys.stdout.write("Nothing acknowledged is lost, nothing has happened twice, wrong rows: 0\n")


if __name__ == "__main__":
    main()
