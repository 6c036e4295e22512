"""Whom a body is about, as far as it can be told: also of bodies that say nothing a mirror could use."""

import re
from hashlib import sha256
from typing import Final

from pydantic import BaseModel, ValidationError

from sync.merge.customers import CustomerId

MOST_NAMED: Final = 5
"""Ids of one unreadable body that are followed up: each costs a call."""
_ID: Final = re.compile(rb'"id(?:_str)?"\s*:\s*"?(\d{1,19})(?!\d)')
_WHOLE_ID: Final = re.compile(rb'"id(?:_str)?"\s*:\s*"?(\d{1,19})[^\d]')
"""An id that something follows: one that the body's end cuts off may be the beginning of another."""
_CUT_BEFORE_ID: Final = re.compile(rb'\s*(\{\s*("(i(d("\s*(:\s*"?\d*)?)?)?)?)?)?')
"""What is left of a customer that was cut off before its id was complete."""
_LARGEST: Final = 2**63 - 1


class _Named(BaseModel):
    id: CustomerId


def mentioned(body: bytes) -> frozenset[int]:
    """Give the ids of the customers that a body may be about.

    It is the one id that the worker reads in it; of what cannot be read (cut off, no customer, no UTF-8) it
    is every id that stands in it.
    """
    try:
        return frozenset({_Named.model_validate_json(body).id})
    except ValidationError:
        return frozenset(int(digits) for digits in _ID.findall(body))


def named_in(body: bytes) -> tuple[int, ...]:
    """Return the ids of the customers that a lost body was about, at most MOST_NAMED, in their order.

    It is the one id that can be read in it, or those in its bytes. Nothing that cannot be a customer's id,
    and none that the body's end may have cut, is among them.
    """
    try:
        return (_Named.model_validate_json(body).id,)
    except ValidationError:
        found = dict.fromkeys(int(digits) for digits in _WHOLE_ID.findall(body))
    return tuple(one for one in found if 1 <= one <= _LARGEST)[:MOST_NAMED]


def known_by(body: bytes) -> str | None:
    """Return the digest by which the same bytes are known again.

    None: too little is left of the body. Those of two customers, cut off before the id, may be equal.
    """
    return None if _CUT_BEFORE_ID.fullmatch(body) else sha256(body).hexdigest()
