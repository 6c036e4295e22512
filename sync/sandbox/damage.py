"""Bodies of deliveries that are damaged before they are signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sync.sandbox.chance import Chance
    from sync.sandbox.settings import Faults

_NAMELESS = (b"", b"null", b"[]", b'{"status":"ok"}', b"<html><body>Back soon</body></html>")
_NULS = (b"\x00", b"\\u0000")


def damaged(body: bytes, faults: Faults, chance: Chance, key: str) -> bytes:
    """Give the body that leaves. `key` names the delivery: a copy or a retry of it has the same damage."""
    if chance.fixed("nul_bodies", key) < faults.nul_bodies:
        return _inside(body, _NULS[chance.fixed("which nul", key) < 0.5])  # noqa: PLR2004 - one of two
    if chance.fixed("not_utf8", key) < faults.not_utf8:
        return _inside(body, b"\xff\xfe")
    if chance.fixed("nameless_bodies", key) < faults.nameless_bodies:
        return _NAMELESS[int(chance.fixed("which body", key) * len(_NAMELESS))]
    return body


def _inside(body: bytes, foreign: bytes) -> bytes:
    """Put something into the first text of the body: a value where there is one, else at the end."""
    place = body.find(b'":"')
    return body + foreign if place < 0 else body[: place + 3] + foreign + body[place + 3 :]
