"""OAuth 2: access tokens that are renewed once for all who need it, and the dance that first gets them."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from sync.kounta.errors import (
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaUnavailable,
    PermissionEndedError,
)
from sync.kounta.throttle import utc_now
from sync.kounta.tokens import TokenEndpoint, Tokens

AUTHORIZE_URL: Final = "https://my.kounta.com/authorize"
"""Where a person allows it (kounta-api.md); it is not at the API's own address."""

_NAMED: Final = re.compile(r"(?:^|[?&])(?:code|state|error)=")
_WHOLE: Final = "Paste the whole address that your browser was sent to, with code= and state= in it"

CLOSING_SECONDS: Final = 2.0
"""A process should stop within 4 s, though upstream hangs."""

LONGEST_PAUSE: Final = timedelta(minutes=5)
"""Between two requests for tokens while upstream gives none; it begins with a second and doubles."""
_ALMOST: Final = timedelta(milliseconds=50)

Keep = Callable[[Tokens], Awaitable[None]]
"""Stores tokens, before anyone uses them: a refresh token may be good only once."""
Stored = Callable[[], Awaitable[Tokens | None]]
"""Reads the tokens that were stored last, perhaps by another process; None: there are none."""


async def _nowhere() -> Tokens | None:
    return None


class OAuth:
    """OAuth 2, 180 calls a minute (kounta-api.md).

    However many calls find the access token expired at once, one refresh is in flight, and all of them end as
    it does. A permission ends with the error `invalid_grant` alone, once `stored` has no other tokens; what
    else keeps tokens from coming is asked again after a pause that doubles (decision 0066).
    """

    calls_per_minute = 180

    def __init__(
        self,
        endpoint: TokenEndpoint,
        tokens: Tokens,
        keep: Keep,
        *,
        stored: Stored = _nowhere,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._endpoint = endpoint
        self._tokens = tokens
        self._kept = tokens
        self._keep = keep
        self._clock = clock
        self._under_way: asyncio.Future[None] | None = None
        self._stored = stored
        self._ended: PermissionEndedError | None = None
        self._failure: KountaError | None = None
        self._failed_at = clock()
        self._failures = 0

    def __repr__(self) -> str:
        return "OAuth()"

    async def authorization(self) -> str:
        if self._kept is not self._tokens or not self._tokens.is_good(self._clock()):
            await self._renewed()
        return self._bearer()

    async def renew(self, refused: str) -> bool:
        """Renew them, once for all who ask at once. Raises KountaError, which says what to do."""
        if self._bearer() == refused:
            await self._renewed()
        return True

    def conceal(self, text: str) -> str:
        for secret in (self._tokens.refresh_token, self._tokens.access_token):
            if secret is not None:
                text = text.replace(secret.get_secret_value(), "[secret]")
        return text

    async def adopt(self, tokens: Tokens) -> None:
        """Keep other tokens and go on with them: a person has logged in. What is under way ends first.

        Raises what keeping them raises; then those before stay.
        """
        while self._under_way is not None:
            await asyncio.wait([self._under_way])
        await self._alone(self._adopt(tokens))

    async def aclose(self) -> None:
        """Wait for what is under way, at most CLOSING_SECONDS: what a refresh brings should be stored."""
        if (work := self._under_way) is not None:
            await asyncio.wait([work], timeout=CLOSING_SECONDS)
            work.cancel()
            await asyncio.wait([work])

    def _bearer(self) -> str:
        token = self._tokens.access_token
        return "" if token is None else f"Bearer {token.get_secret_value()}"

    async def _renewed(self) -> None:
        """Refresh, or wait for what is under way and brings other tokens."""
        if self._under_way is None:
            await self._alone(self._refresh())
        else:
            await asyncio.shield(self._under_way)

    async def _alone(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, which changes the tokens; who waits for it may be cancelled, it may not."""
        self._under_way = asyncio.ensure_future(work)
        self._under_way.add_done_callback(self._over)
        await asyncio.shield(self._under_way)

    def _over(self, work: asyncio.Future[None]) -> None:
        self._under_way = None
        if not work.cancelled():
            work.exception()  # whoever waits is told; perhaps nobody does any more

    async def _adopt(self, tokens: Tokens) -> None:
        await self._keep(tokens)
        self._tokens = self._kept = tokens
        self._forgive()

    async def _refresh(self) -> None:
        """Make the tokens good, and keep them. Raises KountaError."""
        if self._kept is self._tokens:
            if self._ended is not None and not await self._take_stored():
                raise _again(self._ended)
            await self._get_tokens()
        if self._kept is not self._tokens:
            await self._keep(self._tokens)
            self._kept = self._tokens

    async def _get_tokens(self) -> None:
        """Ask for the next tokens, unless another process has stored some that are good."""
        while True:
            try:
                self._tokens = await self._asked()
            except PermissionEndedError as error:
                if not await self._take_stored():
                    self._ended = error
                    raise
                if self._tokens.is_good(self._clock()):
                    return
            else:
                return

    async def _asked(self) -> Tokens:
        """Ask upstream, but not before the pause after the last failure is over."""
        if self._failure is not None and (left := self._pause_left()) > _ALMOST:
            raise self._passing(self._failure, left)
        try:
            tokens = await self._endpoint.refreshed(self._tokens)
        except PermissionEndedError:
            self._forgive()
            raise
        except KountaError as error:
            self._failure, self._failed_at = error, self._clock()
            self._failures += 1
            passing = self._passing(error, self._pause_left())
            passing.shows = None if error.status is None else "token-answers"
            raise passing from error
        self._forgive()
        return tokens

    async def _take_stored(self) -> bool:
        """Go on with the stored tokens, if they are others than those in use."""
        stored = await self._stored()
        if stored is None or stored == self._tokens:
            return False
        self._tokens = self._kept = stored
        self._forgive()
        return True

    def _forgive(self) -> None:
        self._ended = self._failure = None
        self._failures = 0

    def _pause_left(self) -> timedelta:
        """Say how long to wait; a clock that was set back makes nobody wait longer."""
        pause = min(timedelta(seconds=1) * (1 << min(self._failures - 1, 10)), LONGEST_PAUSE)
        passed = self._clock() - self._failed_at
        return pause - passed if passed >= timedelta(0) else timedelta(0)

    def _passing(self, error: KountaError, left: timedelta) -> KountaError:
        """Give the error for a call that finds no tokens for now: nothing of it was done."""
        again_at = self._clock() + left
        advice = f"{error.advice.rstrip(' .')}. Asked again by itself from {again_at:%H:%M:%S} UTC"
        kind = KountaAccessLost if isinstance(error, KountaAccessLost) else KountaUnavailable
        passing = kind(error.status, error.code, error.description, advice)
        passing.wait = max(0.0, left.total_seconds())
        passing.unsent = True
        return passing.quoting(error.quoted)


def _again(error: PermissionEndedError) -> KountaError:
    again = PermissionEndedError(error.status, error.code, error.description, error.advice)
    again.unsent = True
    return again.quoting(error.quoted)


def authorization_url(authorize_url: str, client_id: str, redirect_uri: str, state: str) -> str:
    """Give the address at which a person allows this application to see the company."""
    query = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
    }
    return f"{authorize_url}{'&' if '?' in authorize_url else '?'}{urlencode(query)}"


def code_in(brought: str, state: str) -> str:
    """Read the code out of the address that a person was sent to.

    A code alone is refused: without its state nothing shows that it comes from this attempt, and a code that
    someone else sent would log the mirror in for their company (RFC 6749, 10.12). Raises KountaRefused when
    there is no code and state in it, and KountaError when they said no at Kounta, or when the address belongs
    to another attempt (`state`).
    """
    brought = brought.strip()
    if not brought:
        raise KountaRefused("nothing was given", _WHOLE)
    if not _NAMED.search(brought):
        raise KountaRefused(_without_names(brought), _WHOLE)
    query = parse_qs(urlsplit(brought).query if "?" in brought else brought)
    given = {name: values[0] for name, values in query.items()}
    if "state" in given and given["state"] != state:
        raise KountaError(
            None,
            None,
            "the address belongs to another attempt: its state is not the one of this login",
            "Run kounta-mirror login again, and use the address that it prints then",
        )
    if "error" in given:
        said = given.get("error_description") or given["error"]
        raise KountaError(
            None,
            given["error"],
            f"the permission was not given ({said[:200]!r})",
            "Run kounta-mirror login again, and allow it at Kounta",
        )
    if not given.get("code"):
        raise KountaRefused("the address holds no code", _WHOLE)
    if "state" not in given:
        raise KountaRefused("the address holds a code, but no state", _WHOLE)
    return given["code"]


def _without_names(brought: str) -> str:
    """Say what is wrong with what names neither code nor state."""
    if any(sign in brought for sign in ("://", "?", " ")) or not brought.isprintable():
        return "what was given holds no code"
    return "what was given may be a code, but has no state, which shows that it belongs to this login"
