"""The check-up, one thing after the other: what can be seen here, then what others say."""

import asyncio
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from receiver.database import Server, StoreMissing, is_unavailable
from receiver.errors import MirrorError, SettingsError
from receiver.integrity import damage_of
from receiver.local import connect_locally
from receiver.settings import ENV_FILE, ReceiverSettings, Settings, secret_files
from sync.doctor.behaviours import of_observations
from sync.doctor.disk import of_directory, of_disk, of_file, size_of, size_text
from sync.doctor.fields import of_fields
from sync.doctor.finding import Finding, failed, ok, skipped, warning
from sync.doctor.kounta import of_clock, of_credentials, of_registration
from sync.doctor.modes import of_modes
from sync.doctor.receiving import of_processes, of_refusals, of_tokens
from sync.erasure import CAPTURED
from sync.inbox import InboxView
from sync.mirror.condition import condition_of
from sync.mirror.figures import figures_of
from sync.mirror.hours import deliveries_by_hour, ever_delivered
from sync.mirror.observations import observations
from sync.mirror.reader import MirrorReader
from sync.mirror.store import OWNER
from sync.mirror.unread import unread_of
from sync.ping.hops import Hop, HopFailed, Way
from sync.ping.ping import ping
from sync.settings import SHORTEST_PASSWORD, MirrorSettings, ProcessSettings, WorkerSettings, is_short
from sync.status import status_of

WEEK: Final = timedelta(days=7)

AskUpstream = Callable[[WorkerSettings], Awaitable[dict[str, Any]]]
"""Has the owner of the mirror ask Kounta, and gives what `sync.console.upstream` does."""


async def examination(
    company: int | None, ask_upstream: AskUpstream, now: datetime, *, quick: bool
) -> AsyncGenerator[Finding, None]:
    """Look at everything, and give each finding as it comes; `quick` reads no database through."""
    yield ok("version", f"kounta-mirror {version('kounta-mirror')}, Python {platform.python_version()}.")
    receiver, worker = _settings(ReceiverSettings, company), _settings(WorkerSettings, company)
    for name, found in (("receiver", receiver), ("worker", worker)):
        if isinstance(found, SettingsError):
            yield failed("settings", f"Those of the {name}: {found}", "correct .env, or the environment")
        else:
            yield ok("settings", f"Those of the {name} are complete, for company {found.company_id}.")
    settings = _settings(MirrorSettings, company)
    if isinstance(settings, SettingsError):
        return
    for one in of_directory(settings.data_dir):
        yield one
    for one in (*_of_modes(settings), *_of_password(_settings(ProcessSettings, company))):
        yield one
    shared = isinstance(settings.place, Server)
    running = [await _runs(settings, name) for name in ("receiver", OWNER)]
    parts = {
        "database": _of_database(settings),
        "files": _of_files(settings, quick=quick),
        "disk": _of_disk(settings, now),
        "processes": _each(of_processes(receiver=running[0], worker=running[1], shared=shared)),
        "tokens": _of_receiving(settings, receiver, now),
        "credentials": _of_upstream(worker, ask_upstream),
        "public URL": _of_way(settings, receiver, runs=all(running)),
        "fields": _of_fields(settings),
        "upstream": _of_observations(settings, now),
        "status": _of_status(settings, now),
    }
    for check, findings in parts.items():
        async with aclosing(_told(check, findings)) as told:
            async for one in told:
                yield one


def _of_modes(settings: MirrorSettings) -> Iterator[Finding]:
    private = {
        Path(ENV_FILE).absolute(): "secrets",
        settings.data_dir / CAPTURED: "customers' data as it came",
    }
    yield from of_modes(settings.data_dir, private, secret_files(ReceiverSettings, ProcessSettings))


def _of_password(process: Any) -> Iterator[Finding]:
    """Look at the length of the console's password; off loopback a worker does not start with a short one."""
    if isinstance(process, SettingsError) or process.console_password is None:
        return
    if is_short(process.console_password):
        sentence = f"MIRROR_CONSOLE_PASSWORD has fewer than {SHORTEST_PASSWORD} characters."
        yield warning("console", sentence, "a longer one: openssl rand -base64 18")
    else:
        yield ok("console", "It has a password.")


async def _told(check: str, findings: AsyncGenerator[Finding, None]) -> AsyncGenerator[Finding, None]:
    """Give them; what breaks them off is a finding, too, and the other checks go on."""
    async with aclosing(findings):
        try:
            async for one in findings:
                yield one
        except Exception as error:
            if isinstance(error, MirrorError):
                yield failed(check, str(error))
            elif is_unavailable(error):
                yield failed(check, f"The database cannot be used: {getattr(error, 'orig', None) or error}.")
            else:
                raise


async def _each(findings: Iterator[Finding]) -> AsyncGenerator[Finding, None]:
    for one in findings:
        yield one


def _settings(kind: type[Any], company: int | None) -> Any:
    """Load them, or give what is wrong with them."""
    try:
        return kind.load(company)
    except SettingsError as error:
        return error


async def _of_database(settings: MirrorSettings) -> AsyncGenerator[Finding, None]:
    try:
        condition = await condition_of(settings.place)
    except StoreMissing as error:
        yield skipped("database", str(error))
    else:
        size = "" if condition.size is None else f", {size_text(condition.size)}"
        yield ok("database", f"{condition.version}{size}.")


async def _of_files(settings: MirrorSettings, *, quick: bool) -> AsyncGenerator[Finding, None]:
    place = settings.place
    if not isinstance(place, Path):
        return
    for path in (place / "inbox.db", place / "mirror.db"):
        for one in of_file(path):
            yield one
        if not quick and (damage := await asyncio.to_thread(damage_of, path)) is not None:
            yield failed(path.name, f"It is damaged: {damage}.", _REPAIRS[path.name])


async def _of_disk(settings: MirrorSettings, now: datetime) -> AsyncGenerator[Finding, None]:
    try:
        bytes_a_day = await _bytes_a_day(settings, now)
    except Exception as error:
        if not isinstance(error, MirrorError) and not is_unavailable(error):
            raise
        bytes_a_day = None  # what keeps it from being known is told by other checks
    yield of_disk(settings.data_dir, bytes_a_day)


async def _bytes_a_day(settings: MirrorSettings, now: datetime) -> float | None:
    """Estimate the growth: what a delivery takes in both files, by how many came a day of the last week."""
    place = settings.place
    if not isinstance(place, Path):
        return None  # the disk here does not grow with the stores
    async with MirrorReader.look(place, settings.company_id) as mirror, InboxView(place) as inbox:
        hours = await deliveries_by_hour(mirror, now - WEEK)
        reader = await inbox.reader()
        accepted = 0 if reader is None else await reader.accepted(settings.company_id)
    size = sum(size_of(path) for path in (place / "inbox.db", place / "mirror.db"))
    days = max(1.0, (now - min(hours)) / timedelta(days=1)) if hours else 0.0
    return size / accepted * sum(hours.values()) / days if accepted and hours else None


async def _runs(settings: Settings, name: str) -> bool:
    client = connect_locally(settings.data_dir, name)
    if client is None:
        return False
    await client.aclose()
    return True


async def _of_receiving(
    settings: MirrorSettings, receiver: Any, now: datetime
) -> AsyncGenerator[Finding, None]:
    async with InboxView(settings.place) as inbox:
        reader = await inbox.reader()
        if reader is None:
            yield skipped("tokens", "There is no inbox yet.")
            return
        used = await reader.tokens_used(settings.company_id)
        refused = await reader.refusals(settings.company_id)
        heard = await reader.has_deliveries(settings.company_id) or await _ever_delivered(settings)
    if isinstance(receiver, ReceiverSettings):
        for one in of_tokens(receiver.tokens()[settings.company_id], used, now):
            yield one
    for one in of_refusals(refused, now, heard=heard):
        yield one


async def _ever_delivered(settings: MirrorSettings) -> bool:
    """Ask the mirror, whose count outlives retention; one that cannot be read is another check's finding."""
    try:
        async with MirrorReader.look(settings.place, settings.company_id) as mirror:
            return await ever_delivered(mirror)
    except Exception as error:
        if not isinstance(error, MirrorError) and not is_unavailable(error):
            raise
        return False


async def _of_upstream(worker: Any, ask_upstream: AskUpstream) -> AsyncGenerator[Finding, None]:
    if not isinstance(worker, WorkerSettings):
        yield skipped("credentials", "The worker's settings are not complete.")
        return
    said = await ask_upstream(worker)
    yield of_credentials(worker.company_id, said)
    yield of_clock(said)
    for one in of_registration(said, worker.public_url):
        yield one


async def _of_way(settings: MirrorSettings, receiver: Any, *, runs: bool) -> AsyncGenerator[Finding, None]:
    """Send a ping through the public URL."""
    check = "public URL"
    if settings.public_url is None:
        yield warning(
            check, "MIRROR_PUBLIC_URL is not set, so the way from outside is not looked at.", "set it in .env"
        )
        return
    if not isinstance(receiver, ReceiverSettings):
        yield skipped(check, "The receiver's settings are not complete.")
        return
    token = receiver.tokens()[settings.company_id][0]
    way = Way(settings.public_url, settings.company_id, token, settings.place)
    passed: list[Hop] = []
    try:
        await ping(way, str(uuid4()), passed.append)
    except HopFailed as error:
        found = failed if runs else warning
        after = f" after {', '.join(passed)}" if passed else ""
        yield found(check, f"A webhook fails{after} at {error}", "kounta-mirror webhooks test")
    else:
        yield ok(check, f"A webhook comes through {settings.public_url}: {', '.join(passed)}.")


async def _of_fields(settings: MirrorSettings) -> AsyncGenerator[Finding, None]:
    try:
        async with MirrorReader.look(settings.place, settings.company_id) as mirror:
            figures, unread = await figures_of(mirror), await unread_of(mirror)
    except StoreMissing as error:
        yield skipped("fields", str(error))
        return
    if figures is None or not figures.live:
        yield skipped("fields", "There are no customers yet.")
        return
    for one in of_fields(unread, mobile_read=figures.progress.mobile_read):
        yield one


async def _of_observations(settings: MirrorSettings, now: datetime) -> AsyncGenerator[Finding, None]:
    async with MirrorReader.look(settings.place, settings.company_id) as mirror:
        for one in of_observations(await observations(mirror), now):
            yield one


async def _of_status(settings: MirrorSettings, now: datetime) -> AsyncGenerator[Finding, None]:
    status = await status_of(settings, now)
    for concern in status.concerns():
        found = failed if concern.is_critical else warning
        yield found("status", concern.sentence, concern.action)
    if not status.concerns():
        yield ok("status", status.sentence())


_REPAIRS: Final = {
    "inbox.db": "stop the receiver and the worker, then kounta-mirror rebuild",
    "mirror.db": "stop the worker, then kounta-mirror rebuild",
}
