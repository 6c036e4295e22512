"""Calls to upstream: one after the other in the budget, tried again, bounded, counted."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import httpx2

from sync.kounta.auth import Auth
from sync.kounta.bodies import whole_body
from sync.kounta.errors import (
    KountaError,
    KountaRefused,
    KountaUnavailable,
    KountaWrongShape,
    Retry,
    complaint,
    refusal,
    says_expired,
    throttled,
)
from sync.kounta.limits import Closings, limits_in
from sync.kounta.observations import Observations, shown_by
from sync.kounta.origin import Origin
from sync.kounta.retries import Retries, ahead, named_wait, retry_after
from sync.kounta.throttle import AGAIN, Budget, utc_now

T = TypeVar("T")

LARGEST_BODY: Final = 16 * 1024 * 1024
_CONNECT_SECONDS: Final = 10.0
_OK: Final = 200
_REDIRECTS: Final = 300
_REFUSALS: Final = 400
_FAILURES: Final = 500
_TOO_MANY: Final = 429
_BAD_REQUEST: Final = 400


@dataclass(frozen=True)
class Call:
    """One thing asked of upstream.

    `kind` is what it is counted as. `also` are statuses beside 200 that answer it; every 2xx answers a write
    (anything but a GET), whatever its body (decision 0065). `proves_access` says whether a 200 proves that
    the credentials still have a right for the company. `content` is a JSON body.
    `once`: what was sent may have been done whatever came back, and must not be done twice. It is not tried
    again by itself then; the error says so in `fate_unknown`, and who asked looks up what became of it.
    """

    url: str
    kind: str
    method: str = "GET"
    also: frozenset[int] = frozenset()
    priority: int = 0
    proves_access: bool = True
    content: bytes | None = field(default=None, repr=False)
    once: bool = False

    @property
    def asked(self) -> str:
        """Method and path, without the query: it may hold e-mail addresses."""
        return f"{self.method} {httpx2.URL(self.url).path}"

    def accepts(self, status: int) -> bool:
        """Whether upstream's `status` answers this call, as opposed to refusing it or failing."""
        return status == _OK or status in self.also or self.is_done(status)

    def is_done(self, status: int | None) -> bool:
        """Whether `status` says that a write was done: any 2xx. It must never be sent again then."""
        return self.method != "GET" and status is not None and _OK <= status < _REDIRECTS


@dataclass(frozen=True)
class Answer:
    """What came: its whole body, when it was asked for and when its head arrived, by our clock (UTC).

    `number` is that of the attempt (from 1 in this connection), `sent` how many had been sent when it was
    complete: what is asked after that has a higher number.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    asked_at: datetime
    answered_at: datetime
    number: int
    sent: int


class Connection:
    """HTTP to the one origin, with the credentials of one company.

    Redirects are never followed by themselves, TLS certificates are always verified. Proxies of the
    environment are used, but not for this machine.
    """

    def __init__(
        self,
        origin: Origin,
        auth: Auth,
        *,
        budget: Budget | None = None,
        retries: Retries | None = None,
        read_only: bool = False,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.origin = origin
        self.auth = auth
        self.read_only = read_only
        self.budget = budget or Budget(auth.calls_per_minute, clock=clock)
        self.retries = retries or Retries()
        self.calls = 0
        """Attempts that were answered, whatever the status."""
        self.calls_by_kind: Counter[str] = Counter()
        self.tries_by_outcome: Counter[str] = Counter()
        """Tries that are over: `answered` with what can be used, or `failed`, answered or not."""
        self.successes = 0
        """Answers 200 that prove access to the company."""
        self.sent = 0
        """Attempts begun."""
        self.observations = Observations(clock)
        """Which behaviours upstream has shown."""
        self.clock_ahead: timedelta | None = None
        """How far our clock is ahead of upstream's `Date`, which counts seconds; None: no answer had one."""
        self._proven = 0
        self._closings = Closings()
        self._clock = clock
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=not origin.loopback,
            follow_redirects=False,
            # `_send` bounds an attempt as a whole: these bound each read, and a slow body has many.
            timeout=httpx2.Timeout(self.retries.attempt, connect=_CONNECT_SECONDS, pool=None),
            headers={"Accept": "application/json", "User-Agent": "kounta-mirror"},
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    def proven_after(self, sent: int) -> bool:
        """Whether an attempt begun after the first `sent` ones gave a 200 that proves access."""
        return self._proven > sent

    def require_writable(self) -> None:
        """Raise KountaRefused when nothing may be changed at upstream."""
        if self.read_only:
            raise KountaRefused(
                "this would change something at Kounta, and KOUNTA_READ_ONLY is set",
                "Unset KOUNTA_READ_ONLY if that is wanted",
            )

    async def ask(self, call: Call, read: Callable[[Answer], T]) -> T:
        """Make `call` and give what `read` makes of the answer.

        Raises KountaError; one that `read` raises is tried again, or not, as it says. A read-only connection
        raises KountaRefused for everything but a GET.
        """
        if call.method != "GET":
            self.require_writable()
        try:
            await self.budget.take(call.priority, patience=self.retries.patience)
            return await self.retries.run(partial(self._once, call, read))
        except KountaError as error:
            error.asked = call.asked
            error.conceal(self.auth.conceal)
            raise

    async def _once(self, call: Call, read: Callable[[Answer], T], tries: int, left: float) -> T:
        try:
            given = await self._tried(call, read, tries, left)
        except KountaError as error:
            self.tries_by_outcome["failed"] += 1
            if error.shows is not None:
                self.observations.see(error.shows)
                error.shows = None  # several calls may share it
            if call.is_done(error.status):
                error.retry = Retry.NEVER
            if call.once and _may_have_been_done(error):
                error.fate_unknown = True
                error.retry = Retry.NEVER
            raise
        self.tries_by_outcome["answered"] += 1
        return given

    async def _tried(self, call: Call, read: Callable[[Answer], T], tries: int, left: float) -> T:
        ends_at = asyncio.get_running_loop().time() + left
        authorization = await self._in_time(ends_at, self._admitted(tries, left))
        answer = await self._send(call, authorization, ends_at)
        if says_expired(answer.status, answer.body):
            if answer.status == _BAD_REQUEST:
                self.observations.see("expired-token")
            renewed = await self._in_time(ends_at, self._renewed(authorization, left))
            if renewed is not None:
                answer = await self._send(call, renewed, ends_at)
        self.clock_ahead = ahead(answer.headers, answer.answered_at) or self.clock_ahead
        if answer.status != _TOO_MANY:
            self._closings.answered(answer.answered_at)
            self.budget.heed(limits_in(answer.headers, answer.answered_at))
        self._observe(call, answer)
        if not call.accepts(answer.status):
            raise self._refusal(answer, tries)
        given = read(answer)
        if answer.status == _OK and call.proves_access:
            self.successes += 1
            self._proven = max(self._proven, answer.number)
        return given

    def _observe(self, call: Call, answer: Answer) -> None:
        """Count what the answer shows of upstream's habits."""
        shown = shown_by(
            call.kind, call.method, call.url, answer.status, answer.headers, answer.body, answer.answered_at
        )
        for name in shown:
            self.observations.see(name)

    async def _in_time(self, ends_at: float, waiting: Awaitable[T]) -> T:
        """Wait for what comes before a request; when it takes too long, nothing was sent."""
        try:
            async with asyncio.timeout_at(ends_at):
                return await waiting
        except TimeoutError as error:
            slow = _too_slow(None, self.retries.patience)
            slow.unsent = True
            raise slow from error

    async def _admitted(self, tries: int, left: float) -> str:
        """Wait for the turn of a second or later attempt, and give what authorizes it."""
        if tries > 1:
            await self.budget.take(AGAIN, patience=left)
        return await self.auth.authorization()

    async def _renewed(self, refused: str, left: float) -> str | None:
        """Give what authorizes one more attempt once expired credentials were renewed, else None."""
        if not await self.auth.renew(refused):
            return None
        await self.budget.take(AGAIN, patience=left)
        return await self.auth.authorization()

    async def _send(self, call: Call, authorization: str, ends_at: float) -> Answer:
        """Send once. The head of a yes to a write is an answer, whatever becomes of its body."""
        self.sent += 1
        number, asked_at, status = self.sent, self._clock(), None
        head: Answer | None = None
        headers = {"Authorization": authorization}
        if call.content is not None:
            headers["Content-Type"] = "application/json"
        seconds = min(self.retries.attempt, max(0.0, ends_at - asyncio.get_running_loop().time()))
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(call.method, call.url, headers=headers, content=call.content) as response,
            ):
                status, answered_at = response.status_code, self._clock()
                if call.is_done(status):
                    head = Answer(status, response.headers, b"", asked_at, answered_at, number, number)
                self.calls += 1
                self.calls_by_kind[call.kind] += 1
                body = await whole_body(response, LARGEST_BODY)
        except (TimeoutError, httpx2.TimeoutException) as error:
            if head is not None:
                return head
            slow = _too_slow(status, seconds)
            slow.unsent = isinstance(error, httpx2.ConnectTimeout) or not seconds
            raise slow from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            if head is not None:
                return head
            cut = _cut(status, error)
            cut.unsent = isinstance(error, httpx2.ConnectError)
            raise cut from error
        except KountaWrongShape:
            if head is not None:
                return head
            raise
        return Answer(status, response.headers, body, asked_at, answered_at, number, self.sent)

    def _refusal(self, answer: Answer, tries: int) -> KountaError:
        if answer.status != _TOO_MANY:
            error = refusal(answer.status, complaint(answer.body))
            if isinstance(error, KountaUnavailable):
                error.wait = retry_after(answer.headers, answer.answered_at)
            return error
        named = named_wait(answer.headers, answer.answered_at)
        wait = self._closings.wait(named, self._clock()) if named else self.retries.backoff(tries)
        until = self._clock() + timedelta(seconds=wait)
        self.budget.close_until(until)
        return throttled(complaint(answer.body), until, wait)


def _may_have_been_done(error: KountaError) -> bool:
    """Whether what was asked for may have been done: no answer, a failure of theirs, an unreadable yes.

    Or a redirect: upstream documents none for a write, and one may well follow what was done.
    """
    status = error.status
    return not error.unsent and (status is None or status >= _FAILURES or _OK <= status < _REFUSALS)


def _too_slow(status: int | None, seconds: float) -> KountaUnavailable:
    began = "no answer" if status is None else f"the answer ({status}) was not complete"
    came = f"{began} within {round(seconds, 2):g} s"
    return KountaUnavailable(status, None, came, "Try again later; check the network if it lasts")


def _cut(status: int | None, error: httpx2.RequestError) -> KountaUnavailable:
    if _is_about_certificate(error):
        unsafe = KountaUnavailable(
            status,
            None,
            "the certificate of the other side is not to be trusted",
            "Nothing was sent. Check KOUNTA_API_URL, this machine's clock and its certificates",
        )
        unsafe.retry = Retry.NEVER
        return unsafe
    came = type(error).__name__ if not str(error) else f"{type(error).__name__}: {error}"
    what = "no connection" if isinstance(error, httpx2.ConnectError) else "the connection was cut"
    cut = KountaUnavailable(
        status, None, f"{what} ({came})", "Try again later; check KOUNTA_API_URL and the network if it lasts"
    )
    if isinstance(error, httpx2.ConnectError):
        return cut
    return cut.quoting({f"({came})": f"({type(error).__name__})"})  # it may name what came


def _is_about_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
