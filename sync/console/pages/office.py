"""The office: what pages are made of, and what a visit to one of them may do."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from sync.console.desks import Desks, Served, UnavailableError
from sync.console.pages.errands import Errand, Errands, Work
from sync.console.pages.frame import render
from sync.console.pages.guard import COOKIE, ForgedError, Seal
from sync.console.pages.notices import Notice, Notices
from sync.console.refusals import RefusedError
from sync.inbox import InboxView
from sync.kounta import KountaError
from sync.mirror.excerpts import state_of
from sync.mirror.reader import MirrorReader
from sync.mirror.store import MirrorStore
from sync.numbers import whole_number
from sync.status import Status, status_in

if TYPE_CHECKING:
    from sync.settings import WorkerSettings

FORM_BYTES: Final = 64 * 1024
LONG_SECONDS: Final = 0.1
COST: Final = 10
LONGEST_SECONDS: Final = 10.0
"""A status that took long is good for COST times as long as it took, and no longer than this."""
PATIENCE_SECONDS: Final = 2.5
"""So long an action's answer waits for its end; after that the page says that it is under way."""


class Office:
    """The stores and desks of a worker's process, and what people have started here."""

    def __init__(
        self,
        served: Served,
        desks: Desks,
        store: MirrorStore,
        inbox: InboxView,
        clock: Callable[[], datetime],
    ) -> None:
        self.served = served
        self.desks = desks
        self.store = store
        self.inbox = inbox
        self.clock = clock
        self.seal = Seal()
        self.notices = Notices()
        self.errands = Errands(clock)
        self.closing = asyncio.Event()
        self._looking: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._looks: dict[int, tuple[float, Status]] = {}
        """Company -> until when, by `monotonic`, its status need not be looked at again."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let people do things here; at the end who still watches is sent away, and errands are ended."""
        try:
            yield
        finally:
            self.closing.set()
            await self.errands.close()

    def mirror(self, company_id: int) -> MirrorReader:
        """Give a company's mirror, read-only; the connections are the store's."""
        return MirrorReader(self.store.reading, company_id)

    async def status(self, company_id: int) -> Status:
        """Say how a company's mirror is. A worker runs: it is this one.

        What took long, because very many customers are to be read, is said again for a while, but not once
        something is over that a person had started.
        """
        async with self._looking[company_id]:
            good_until, status = self._looks.get(company_id, (0.0, None))
            began_at = monotonic()
            if status is None or began_at > good_until or self.errands.ended_since(company_id, status.now):
                settings = self.served.settings[company_id]
                mirror = self.mirror(company_id)
                status = await status_in(mirror, self.inbox, settings, self.clock(), running=True)
                if (cost := monotonic() - began_at) > LONG_SECONDS:
                    good_until = began_at + min(COST * cost, LONGEST_SECONDS)
                    self._looks[company_id] = good_until, status
            return status

    async def state(self, company_id: int) -> str:
        """Give what is another text whenever something has changed that a page of the company shows."""
        try:
            reader = await self.inbox.reader()
            head = None if reader is None else await reader.head(company_id)
            stored = await state_of(self.mirror(company_id))
        except Exception as error:
            if not is_unavailable(error):
                raise
            return "away"
        errands = [(one.stage, one.done, one.ended_at) for one in self.errands.of(company_id)]
        return hashlib.sha256(repr((stored, head, errands)).encode()).hexdigest()[:16]

    async def states(self) -> str:
        """Give the same for all companies together."""
        states = [await self.state(company_id) for company_id in self.served.settings]
        return hashlib.sha256(" ".join(states).encode()).hexdigest()[:16]

    def forget(self, company_id: int) -> None:
        """Look at a company's status anew: somebody has just done something."""
        self._looks.pop(company_id, None)


class Visit:
    """One request for a company's page, or one form of it."""

    def __init__(self, office: Office, request: Request) -> None:
        """Raise RefusedError for a company that is not served."""
        self.office = office
        self.request = request
        self.company_id: int = request.path_params["company_id"]
        self.now = office.clock()
        self.form: Mapping[str, str] = {}
        self.state = ""
        """How it stood before the page was made: what changes meanwhile is told at once."""
        settings = office.served.settings.get(self.company_id)
        if settings is None:
            raise RefusedError(404, "unknown_company", f"This worker serves no company {self.company_id}.")
        self.settings: WorkerSettings = settings
        self.mirror = office.mirror(self.company_id)

    @property
    def home(self) -> str:
        """Give the path below which all of the company's pages lie."""
        return f"/companies/{self.company_id}"

    def asked(self, name: str) -> str:
        """Give what the address asks for, or what the form says; "" when it does not."""
        found: str = self.form.get(name, "") or self.request.query_params.get(name, "")
        return found.strip()

    def number(self, name: str) -> int | None:
        """Give a whole number above 0; None when none is asked for. Raises RefusedError for anything else."""
        text = self.asked(name)
        if not text:
            return None
        with suppress(ValueError):
            if (number := whole_number(text)) > 0:
                return number
        raise RefusedError(422, "bad_request", f"A whole number above 0 was expected, {text[:40]!r} came.")

    def page(self, template: str, *, is_live: bool = True, **values: Any) -> Response:
        """Answer with a page. A live one is looked at anew when something changes."""
        seal = self.office.seal
        cookie = seal.cookie(self.request)
        text = render(
            template,
            home=self.home,
            company_id=self.company_id,
            companies=len(self.office.served.settings),
            now=self.now,
            here=self.request.url.path,
            events=f"{self.home}/events?seen={self.state}" if is_live else None,
            notice=self.office.notices.find(self.request.query_params.get("notice")),
            seal=seal.token(cookie),
            errands=self.office.errands.of(self.company_id),
            **values,
        )
        answer = HTMLResponse(text)
        if self.request.cookies.get(COOKIE) != cookie:
            answer.set_cookie(COOKIE, cookie, path="/", httponly=True, samesite="strict")
        return answer

    def redirect(self, path: str, say: Callable[[], Notice] | None = None) -> Response:
        """Lead to another page of the company, where the notice is shown."""
        tail = "" if say is None else f"?notice={self.office.notices.leave(say)}"
        return RedirectResponse(f"{self.home}{path}{tail}", 303)

    async def begin(self, what: str, work: Work, path: str) -> Response:
        """Do `work`, and lead to a page that says what came of it, or that it is under way."""
        errand = self.office.errands.begin(self.company_id, what, work)
        await _over(errand)
        self.office.forget(self.company_id)
        return self.redirect(path, errand.notice)

    async def read_form(self) -> None:
        """Take a form that a page of this console has sent. Raises ForgedError and RefusedError."""
        body = b""
        async for part in self.request.stream():
            body += part
            if len(body) > FORM_BYTES:
                raise RefusedError(413, "body_too_large", f"A form may have {FORM_BYTES:,} bytes.")
        fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
        self.form = {name: values[-1] for name, values in fields.items()}
        self.office.seal.check(self.request, self.form.get("seal", ""))


Handler = Callable[[Visit], Awaitable[Response]]


def handling(office: Office, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint of what handles visits; what keeps it from being done is said as a page."""

    async def answer(request: Request) -> Response:
        visit = Visit(office, request)
        try:
            if request.method == "POST":
                await visit.read_form()
            else:
                visit.state = await office.state(visit.company_id)
            return await handler(visit)
        except ForgedError as error:
            raise RefusedError(403, "forged", str(error)) from error
        except UnavailableError as error:
            raise RefusedError(503, "unavailable", str(error)) from error
        except (KountaError, MirrorError) as error:
            raise RefusedError(409, "conflict", str(error)) from error
        except Exception as error:
            if not is_unavailable(error):
                raise
            detail = f"The database cannot be used now: {getattr(error, 'orig', None) or error}."
            raise RefusedError(503, "unavailable", detail) from error

    return answer


async def _over(errand: Errand) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await errand.over.wait()
    except TimeoutError:
        pass
