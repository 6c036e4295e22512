"""Whom a body is about, as far as it can be told: also of bodies that say nothing a mirror could use."""

import re
from typing import Final

from pydantic import BaseModel, ValidationError

from sync.merge.customers import CustomerId

_ID: Final = re.compile(rb'"id(?:_str)?"\s*:\s*"?(\d{1,19})(?!\d)')


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
