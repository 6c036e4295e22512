"""The members of a JSON object and the items of an array as text, so that each can be read alone.

A parser reads a document whole or not at all: one member nested too deep, or half a surrogate pair in one
item, would hide all others. This one looks only at quotes and brackets, without recursion.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NoReturn

DEEPEST: Final = 200
"""Levels of arrays and objects inside a member: as many as pydantic reads."""
MOST_DIGITS: Final = 4300
"""Digits of a number: as many as pydantic reads, and Python by default."""

_SPACES: Final = " \t\n\r"
_SPACE: Final = re.compile(f"[{_SPACES}]*")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SIGNS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
_CLOSING: Final = {"[": "]", "{": "}"}


class NotJsonError(ValueError):
    """A text that is no JSON of the wanted kind, or is cut short."""


class UnreadError(ValueError):
    """A value whose meaning cannot be known, or that no database here can store."""


class TooDeepError(UnreadError):
    """A value that is nested too deep."""


def text_of(body: bytes) -> str:
    """Decode a body; bytes that are not UTF-8 become lone surrogates, which no database can store."""
    return body.decode(errors="surrogateescape")


def split_object(text: str) -> dict[str, str]:
    """Return the members of an object: name -> its value as text. The last one of a name counts.

    A name may hold what no database can store. Raises NotJsonError.
    """
    members: dict[str, str] = {}
    for part in _parts(text, "{"):
        name = _STRING.match(part)
        if name is None:
            raise NotJsonError("a member has no name")
        place = _after_space(part, name.end())
        if part[place : place + 1] != ":":
            raise NotJsonError("a member has no value")
        members[_loaded(name[0])] = part[place + 1 :].strip(_SPACES)
    return members


def split_array(text: str) -> list[str]:
    """Return the items of an array as text. Raises NotJsonError."""
    return _parts(text, "[")


def value_of(text: str) -> Any:
    """Read the value of one member.

    Raises UnreadError for what is nested too deep, for a number that is not finite or too long, and
    NotJsonError for what is no JSON.
    """
    if _is_too_deep(text):
        raise TooDeepError("it is nested too deep")
    return _loaded(text)


def is_storable(text: str) -> bool:
    """Return whether SQLite and PostgreSQL can both store a text: no NUL, no half of a surrogate pair."""
    if "\x00" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(text: str, opening: str) -> list[str]:
    """Cut what is between the outer brackets at its commas; each part has no space around it."""
    begin = _after_space(text, 0)
    if text[begin : begin + 1] != opening:
        raise NotJsonError(f"it does not begin with {opening}")
    cuts = [begin, *_cuts(text, begin)]
    if _after_space(text, cuts[-1] + 1) != len(text):
        raise NotJsonError("something follows it")
    parts = [text[start + 1 : end].strip(_SPACES) for start, end in pairwise(cuts)]
    if parts == [""]:
        return []
    if not all(parts):
        raise NotJsonError("there is nothing between two commas")
    return parts


def _cuts(text: str, begin: int) -> Iterator[int]:
    """Find the commas between the outer brackets, and the closing one at last."""
    awaited: list[str] = []
    for found in _SIGNS.finditer(text, begin):
        sign = found[0]
        if sign in _CLOSING:
            awaited.append(_CLOSING[sign])
        elif sign in {"]", "}"} and awaited.pop() != sign:
            raise NotJsonError("its brackets do not match")
        if not awaited or (sign == "," and len(awaited) == 1):
            yield found.start()
        if not awaited:
            return
    raise NotJsonError("it is cut short")


def _is_too_deep(text: str) -> bool:
    if text[:1] not in _CLOSING:
        return False
    depth = 0
    for found in _SIGNS.finditer(text):
        depth += (found[0] in _CLOSING) - (found[0] in {"]", "}"})
        if depth > DEEPEST:
            return True
    return False


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found is not None else place


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UnreadError("a number has too many digits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise UnreadError("a number is not finite")
    return number


def _no_number(_: str) -> NoReturn:
    raise UnreadError("a number is not finite")


_DECODER: Final = json.JSONDecoder(
    parse_int=_whole_number, parse_float=_number, parse_constant=_no_number, strict=False
)


def _loaded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except UnreadError:
        raise
    except RecursionError:
        raise TooDeepError("it is nested too deep") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
