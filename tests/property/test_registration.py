"""Whatever others do to the webhooks: each topic ends registered once, and what is theirs untouched."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.engine import utc_now
from sync.kounta import BasicAuth, Budget, Kounta, KountaError, Retries
from sync.merge.customers import Subscription
from sync.mirror.registration import our_webhooks
from sync.mirror.store import Mirror
from sync.registration.plan import addresses
from sync.registration.registrar import Registrar
from sync.sandbox import Faults, Sandbox, Settings, serving
from tests.budget import tries

PUBLIC_URL = "https://mirror.example/below"
WANTED = addresses(PUBLIC_URL, 5678)
TOPICS = sorted(WANTED)

CHANGES = st.sampled_from(
    [
        {"address": "https://elsewhere.example/hook"},
        {"address": WANTED[TOPICS[0]]},
        {"format": "xml"},
        {"topic": TOPICS[1]},
        {"topic": "orders/created"},
        {"filter": {"attributes": ["name"]}},
    ]
)
INTERFERENCE = st.one_of(
    st.tuples(st.just("delete"), st.integers(0, 2)),
    st.tuples(st.just("change"), st.integers(0, 2), CHANGES),
    st.tuples(st.just("double"), st.sampled_from(TOPICS)),
    st.tuples(st.just("other"), st.sampled_from([*TOPICS, "orders/created"])),
    st.tuples(st.just("check")),
    st.tuples(st.just("ensure")),
)
FAULTS = st.lists(
    st.sampled_from(["none", "none", "server_errors", "cut_bodies", "html_answers", "too_many"]), max_size=12
)


class World:
    def __init__(self, sandbox: Sandbox, mirror: Mirror, kounta: Kounta) -> None:
        self.webhooks = sandbox.company.webhooks
        self.mirror = mirror
        self.registrar = Registrar(mirror, kounta, clock=utc_now)
        self.others: dict[int, dict[str, Any]] = {}

    async def happen(self, what: tuple[Any, ...]) -> None:
        name, *how = what
        if name in {"check", "ensure"}:
            await (self.registrar.check() if name == "check" else self.registrar.ensure(PUBLIC_URL))
        elif name in {"double", "other"}:
            address = WANTED[how[0]] if name == "double" else "https://other.example/hook"
            made = self.webhooks.register("sandbox-client", {"topic": how[0], "address": address}, 0)
            self.others[made.id] = made.shown()
        else:
            ours = sorted(await our_webhooks(self.mirror))
            there = [id_ for id_ in ours if any(webhook.id == id_ for webhook in self.webhooks)]
            if there:
                chosen = there[how[0] % len(there)]
                if name == "delete":
                    self.webhooks.remove("sandbox-client", chosen)
                else:
                    self.webhooks.update("sandbox-client", chosen, how[1], 0)

    async def is_right(self) -> bool:
        ours = await our_webhooks(self.mirror)
        shown = {webhook.id: webhook.shown() for webhook in self.webhooks}
        registered = [
            (shown[id_]["topic"], shown[id_]["address"], shown[id_]["format"], shown[id_]["filter"] or None)
            for id_ in sorted(ours, key=lambda id_: ours[id_].topic)
        ]
        others = {id_: webhook for id_, webhook in shown.items() if id_ not in ours}
        return registered == [(topic, WANTED[topic], "json", None) for topic in TOPICS] and (
            others == self.others
        )


async def lived(events: list[tuple[Any, ...]], faults: list[str], directory: Path) -> None:
    sandbox = Sandbox(Settings(requests_per_minute=100_000), Faults(), seed=7, customers=1)
    mirror = await Mirror.open(directory, 5678, Subscription(), "the test")
    try:
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
            world = World(sandbox, mirror, kounta)
            sandbox.calls.ask(faults)
            for event in events:
                try:
                    await world.happen(event)
                except KountaError:
                    assert faults, f"{event} failed though nothing was broken"
            sandbox.calls._asked.clear()
            await world.registrar.ensure(PUBLIC_URL)
            assert await world.is_right()
    finally:
        await mirror.close()


@settings(max_examples=tries(8, 100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(INTERFERENCE, max_size=10))
def test_each_topic_ends_registered_once_and_others_are_untouched(events: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(lived([("ensure",), *events], [], Path(directory)))


@settings(max_examples=tries(8, 100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(INTERFERENCE.filter(lambda event: event[0] != "double"), max_size=6), FAULTS)
def test_the_same_while_calls_fail(events: list[tuple[Any, ...]], faults: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(lived([("ensure",), *events], faults, Path(directory)))
