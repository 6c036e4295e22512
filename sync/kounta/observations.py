"""Which behaviours this company's upstream has shown: counted here, by names of the reference of upstream.

No value and no id is kept. `Observations.see(NAME)` is all that a reader of answers has to call.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sync.kounta.errors import looks_like_html

BEHAVIOURS: Final[Mapping[str, str]] = {
    "garbled-bodies": "a delivery could not be read",
    "nul-bodies": "a delivery held a NUL",
    "not-utf8": "a delivery was not UTF-8",
    "nameless-bodies": "a delivery named no customer",
    "replayed-elsewhere": "a deletion came with bytes that had come at another topic",
    "bare-deletions": "a deletion carried the id alone",
    "empty-object-as-list": "an empty object was []",
    "holes-as-object": "a list was an object",
    "none-as-text": 'what is unset was "" or false',
    "numbers-for-text": "a text was a number",
    "text-for-numbers": "a number or truth value was a text",
    "strange-fields": "a field could not be read",
    "deep-nesting": "a field was nested too deep to be read",
    "half-surrogates": "a text held half of a surrogate pair",
    "mobile-absent": "a read carried no mobile",
    "poor-reads": "a read carried only some of the fields",
    "gone": "a read was answered 410",
    "deleted-flags": "a read was answered 200 with a flag that says: deleted",
    "false-flags": "a customer carried a flag that says: not deleted",
    "strange-flags": "a deleted flag could not be read",
    "listed-deleted": "a customer that reads call deleted was listed",
    "answers-another": "a read was answered with another customer",
    "redirects-another": "a read redirected to another customer",
    "redirects-same": "a read redirected to another address of the customer",
    "html-answers": "an HTML page came in place of JSON",
    "server-errors": "a call was answered 5xx",
    "cut-walks": "a page named no next one though X-Pages says that there are more",
    "endless-pages": "pages repeated without a new customer",
    "http-next-page": "the next page's address had http",
    "null-writes": "a write was answered with null, no body, or an HTML page",
    "no-location": "a creation was answered without a Location",
    "too-many": "a call was answered 429",
    "reset-in-milliseconds": "a reset was named in milliseconds",
    "far-reset": "a reset was named more than 5 minutes ahead",
    "remaining-headers": "answers said how much of the call limit is left",
    "company-redirects": "/companies/me redirected",
    "token-answers": "the token endpoint answered neither tokens nor invalid_grant",
    "expired-token": "an expired token was answered 400",
    "unset-filter": "an unset filter of a webhook was shown as {}",
    "normalised-addresses": "the address of a webhook was changed",
}
"""Name -> what was seen, as the end of a sentence. The names are those of docs/reference/upstream.md."""

FAR_SECONDS: Final = 300.0
_MILLISECONDS: Final = 10.0**11
_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?(?:\?.*)?$")
_TEXT_FOR_NUMBER: Final = re.compile(rb'"(?:id|accepts_marketing)"\s*:\s*"\w')
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True)
class Observed:
    """How often something was seen, and when first and last (UTC)."""

    count: int
    first_at: datetime
    last_at: datetime


class Observations:
    """Counts what upstream shows. What was stored is taken out with `stored`, so that it is added once."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._seen: dict[str, Observed] = {}
        self._ever: set[str] = set()

    def see(self, name: str, count: int = 1) -> None:
        """Count a behaviour of BEHAVIOURS. Raises KeyError for any other name: a mistake of the program."""
        if name not in BEHAVIOURS:
            raise KeyError(name)
        now = self._clock()
        self._ever.add(name)
        known = self._seen.get(name)
        self._seen[name] = (
            Observed(count, now, now)
            if known is None
            else replace(known, count=known.count + count, last_at=now)
        )

    def recall(self, names: Iterable[str]) -> None:
        """Take behaviours for seen that an earlier process has counted."""
        self._ever.update(names)

    def has_seen(self, name: str) -> bool:
        """Return whether a behaviour has ever been seen."""
        return name in self._ever

    def unstored(self) -> dict[str, Observed]:
        """Return what was seen since it was last stored."""
        return dict(self._seen)

    def stored(self, seen: Mapping[str, Observed]) -> None:
        """Take out what has been stored; what was seen meanwhile stays."""
        for name, one in seen.items():
            now = self._seen[name]
            if now.count == one.count:
                del self._seen[name]
            else:
                self._seen[name] = replace(now, count=now.count - one.count)


def shown_by(
    kind: str, method: str, url: str, status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> Iterator[str]:
    """Name what one answer shows, by its status, its headers and the look of its body.

    `kind` is that of the call: list, read, find, company, write. Both are cheap: nothing is parsed.
    """
    if "X-Ratelimit-Remaining" in headers:
        yield "remaining-headers"
    if status in _OK:
        yield from _shown_by_success(kind, method, url, headers, body)
    elif status == 429:  # noqa: PLR2004 - HTTP
        yield from _shown_by_limit(headers, now)
    elif status == 410 and kind == "read":  # noqa: PLR2004 - HTTP
        yield "gone"
    elif status in _REDIRECTS:
        yield from _shown_by_redirect(kind, url, headers)
    elif status >= 500:  # noqa: PLR2004 - HTTP
        yield "server-errors"


def _shown_by_success(
    kind: str, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> Iterator[str]:
    if kind == "write":
        if body.strip() in (b"", b"null") or looks_like_html(body):
            yield "null-writes"
        if method == "POST" and not headers.get("Location"):
            yield "no-location"
    elif looks_like_html(body):
        yield "html-answers"
    elif kind == "read" and b'"id"' in body:
        if b'"phone"' not in body:
            yield "poor-reads"
        elif b'"mobile"' not in body:
            yield "mobile-absent"
    if kind in {"list", "read"} and _TEXT_FOR_NUMBER.search(body):
        yield "text-for-numbers"
    if url.startswith("https:") and headers.get("X-Next-Page", "").startswith("http:"):
        yield "http-next-page"


def _shown_by_limit(headers: Mapping[str, str], now: datetime) -> Iterator[str]:
    yield "too-many"
    try:
        reset = float(headers.get("X-Ratelimit-Reset", ""))
    except ValueError:
        return
    if reset >= _MILLISECONDS:
        yield "reset-in-milliseconds"
        reset /= 1000
    if reset > now.timestamp() + FAR_SECONDS:
        yield "far-reset"


def _shown_by_redirect(kind: str, url: str, headers: Mapping[str, str]) -> Iterator[str]:
    if kind == "company":
        yield "company-redirects"
    elif kind == "read":
        asked, named = _ID.search(url), _ID.search(headers.get("Location", ""))
        is_same = asked is not None and named is not None and asked[1] == named[1]
        yield "redirects-same" if is_same else "redirects-another"
