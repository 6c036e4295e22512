"""What can go wrong when upstream is asked, and how its own words about it are read."""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, Self

from pydantic_core import from_json

_LONGEST_TEXT: Final = 300
_HEAD: Final = 4096
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DIGITS: Final = re.compile(r"[0-9]{5}")
"""So many in a row may be a phone number."""
_A_PAGE: Final = "an HTML page"
_NO_TEXT: Final = "no text"
_TITLE: Final = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class Retry(Enum):
    """Whether the same call may come out better when it is made again."""

    NEVER = "never"
    BRIEFLY = "briefly"
    PATIENTLY = "patiently"


class KountaError(Exception):
    """Upstream did not give what it was asked for.

    `status` is the HTTP status, None when no answer came; `code` is upstream's own word for the error, None
    when it had none; `description` says what came; `advice` says what to do; `asked` is the method and path
    of the call, without its query (which may hold e-mail addresses); `tries` counts the attempts made.
    """

    retry: Retry = Retry.NEVER

    def __init__(self, status: int | None, code: str | None, description: str, advice: str) -> None:
        super().__init__(status, code, description, advice)
        self.status = status
        self.code = code
        self.description = description
        self.advice = advice
        self.asked: str | None = None
        self.tries = 1
        self.shows: str | None = None
        """The behaviour of docs/reference/upstream.md that this shows, until it is counted."""
        self.wait: float | None = None
        """Seconds that upstream asked to wait before the next call, None when it named no time."""
        self.unsent = False
        """Whether nothing was sent at all: there was no connection."""
        self.fate_unknown = False
        """Whether what must not be done twice may have been done: look it up before asking again."""
        self.likely_id: int | None = None
        """With `fate_unknown`: a customer that has all of it, and may be the new one or an older one."""
        self.written_id: int | None = None
        """The customer that was created or updated all the same: only reading it back failed."""

        self.quoted: dict[str, str] = {}
        """What upstream itself says in the description -> what a log shows in its place."""

    def quoting(self, quoted: Mapping[str, str]) -> Self:
        """Note what of the description are upstream's own words, which may hold a person's data."""
        self.quoted |= quoted
        return self

    def for_log(self) -> str:
        """Give the sentence without upstream's own words, but for its code of the error."""
        text = str(self)
        for words, shown in self.quoted.items():
            text = text.replace(words, shown)
        return text

    def conceal(self, hide: Callable[[str], str]) -> None:
        """Take out of every text what `hide` takes out: upstream may repeat the secrets it was sent."""
        self.code = hide(self.code) if self.code else self.code
        self.description = hide(self.description)
        self.quoted = {hide(words): shown for words, shown in self.quoted.items()}
        self.args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in self.args)

    def __str__(self) -> str:
        asked = f"{self.asked}: " if self.asked else ""
        tries = f" ({self.tries} tries)" if self.tries > 1 else ""
        return f"{asked}{_without_stop(self.description)}{tries}. {_without_stop(self.advice)}."


class KountaRefused(KountaError, ValueError):  # noqa: N818 - it reads as what happened
    """The call cannot be right and was refused before upstream was asked."""

    def __init__(self, description: str, advice: str) -> None:
        super().__init__(None, None, description, advice)
        self.args = (description, advice)


class KountaAccessLost(KountaError):  # noqa: N818
    """The credentials are wrong or have no right for the company (401, 403; 404 on the list itself)."""


class PermissionEndedError(KountaAccessLost):
    """Upstream says that a code or a refresh token is no longer good (`invalid_grant`, RFC 6749)."""


class KountaUnavailable(KountaError):  # noqa: N818
    """No answer, a cut one, or a 5xx: upstream may well answer later."""

    retry = Retry.PATIENTLY


class KountaWrongShape(KountaError):  # noqa: N818
    """An answer that is not what upstream documents: nothing of it may be used."""


class KountaOtherCustomer(KountaWrongShape):
    """A read that answered another customer, or pointed to one: nothing is known of the one asked for."""

    asked_at: datetime | None = None
    answered_at: datetime | None = None
    sent: int = 0
    """As in `Read`."""


class IncompleteListError(KountaWrongShape):
    """A walk of the list ended without having seen all of it, or did not end."""


class KountaThrottled(KountaError):  # noqa: N818
    """429, or the company's budget is closed because of an earlier one, for longer than the call may last."""

    retry = Retry.PATIENTLY

    def __init__(
        self,
        status: int | None,
        code: str | None,
        description: str,
        advice: str,
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(status, code, description, advice)
        self.retry_at = retry_at


@dataclass(frozen=True)
class Complaint:
    """What an error's body says: upstream's code, if it has one, and a text for people.

    A code is one word without a long number in it; anything else in its place is text.
    """

    code: str | None
    text: str

    def after(self, status: int) -> str:
        """Give the status, the code and the text in one line; each is there once."""
        code = f" {self.code}" if self.code else ""
        text = f" ({_without_stop(self.text)})" if self.text and self.text != self.code else ""
        return f"{status}{code}{text}"

    @property
    def quoted(self) -> Mapping[str, str]:
        """Give what of `after` may hold a person's data -> what a log shows in its place."""
        if not self.text or self.text in {self.code, _A_PAGE, _NO_TEXT}:
            return {}
        return {f" ({_without_stop(self.text)})": " (…)"}


def complaint(body: bytes) -> Complaint:
    """Read the body of an error in any of upstream's shapes, or none of them.

    Those are JSON with `error` and `error_description`, with `message` or with `error_message`, plain text,
    HTML, and nothing at all (kounta-api.md). The text is one line of at most 300 characters.
    """
    try:
        said = from_json(body, allow_inf_nan=False)
    except ValueError:
        return Complaint(None, _readable(body))
    if not isinstance(said, Mapping):
        return Complaint(None, _line(said) if isinstance(said, str) else _readable(body))
    inner = said.get("error")
    word = None if isinstance(inner, Mapping) else _word(inner)
    code = _code(word)
    for level in (said, inner if isinstance(inner, Mapping) else {}):
        code = code or _code(_word(level.get("code")))
        for key in ("error_description", "error_message", "message"):
            if text := _word(level.get(key)):
                more = f"{word}: " if word and not _code(word) else ""
                return Complaint(code, _line(f"{more}{text}"))
    return Complaint(code, _line(word or code or "") or _readable(body))


def refusal(status: int, said: Complaint) -> KountaError:
    """Give the error for an answer of `status` that nobody wanted; a 429 is read in retries.py."""
    description = f"answered {said.after(status)}"
    if status in {401, 403}:
        advice = (
            "Check KOUNTA_CLIENT_ID, KOUNTA_CLIENT_SECRET and KOUNTA_COMPANY_ID: these credentials are "
            + ("not known" if status == 401 else "known, but have no right for this")  # noqa: PLR2004 - HTTP
        )
        return KountaAccessLost(status, said.code, description, advice).quoting(said.quoted)
    if status >= 500:  # noqa: PLR2004 - HTTP
        later = "Try again later: the fault is upstream's"
        return KountaUnavailable(status, said.code, description, later).quoting(said.quoted)
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP
        return KountaWrongShape(
            status,
            said.code,
            f"answered {status}, a redirect where none is documented",
            "Check KOUNTA_API_URL: credentials are sent to no other place",
        )
    advice = "See what upstream says; the same call will not do"
    return KountaError(status, said.code, description, advice).quoting(said.quoted)


def throttled(said: Complaint, until: datetime, wait: float) -> KountaThrottled:
    """Give the error for a 429 after which the budget is closed until `until`, `wait` seconds from now."""
    error = KountaThrottled(
        429,
        said.code,
        f"answered {said.after(429)}, no more calls before {until:%H:%M:%S} UTC",
        "Wait until then; lower KOUNTA_REQUESTS_PER_MINUTE if this happens often",
        until,
    )
    error.wait = wait
    return error.quoting(said.quoted)


def for_log(error: object) -> str:
    """Give the sentence of an error, or a sentence as it is, as a log may show it."""
    return error.for_log() if isinstance(error, KountaError) else str(error)


def says_expired(status: int, body: bytes) -> bool:
    """Whether an answer means that the token has expired: 401, or an older 400 whose text says so."""
    if status == 400:  # noqa: PLR2004 - HTTP
        said = complaint(body)
        words = f"{said.code or ''} {said.text}".lower()
        return "token" in words and ("expired" in words or "invalid" in words)
    return status == 401  # noqa: PLR2004 - HTTP


def looks_like_html(body: bytes) -> bool:
    """Whether a body that should be JSON begins like a page."""
    return body.lstrip()[:1] == b"<"


def _readable(body: bytes) -> str:
    if looks_like_html(body):
        title = _TITLE.search(body[:_HEAD])
        named = _line(html.unescape(title[1].decode(errors="replace"))) if title else ""
        return f"{_A_PAGE} titled {named!r}" if named else _A_PAGE
    return _line(body[: 4 * _LONGEST_TEXT].decode(errors="replace")) or _NO_TEXT


def _word(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _code(word: str | None) -> str | None:
    return word if word and _CODE.fullmatch(word) and not _DIGITS.search(word) else None


def _line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _without_stop(text: str) -> str:
    return text.rstrip(" .")
