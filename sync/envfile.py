"""The text of a `.env`: values written so that they are read back as they are."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


class UnwritableError(ValueError):
    """A value that no line of a `.env` can hold; the message is the name of its variable."""


def merged(text: str, values: Mapping[str, str], dropped: frozenset[str] = frozenset()) -> str:
    """Set `values` in the text of a `.env`, and take `dropped` out; every other line stays as it is.

    What was set already stands where it stood. Raises UnwritableError.
    """
    lines, missing = [], dict(values)
    for binding in parse_stream(StringIO(text)):
        if binding.key in values:
            if binding.key in missing:
                lines.append(_line(binding.key, missing.pop(binding.key)))
        elif binding.key not in dropped:
            lines.append(binding.original.string)
    whole = "".join(lines)
    if missing and whole and not whole.endswith("\n"):
        whole += "\n"
    return whole + "".join(_line(name, value) for name, value in missing.items())


def _line(name: str, value: str) -> str:
    line = f"{name}={_quoted(value)}\n"
    if dotenv_values(stream=StringIO(line)) != {name: value}:
        raise UnwritableError(name)
    return line


def _quoted(value: str) -> str:
    r"""Quote a value as `.env` readers and POSIX shells take it alike, where they agree.

    python-dotenv puts the environment in place of `${NAME}` even within single quotes; `${:-$}` is the
    dollar, as the default of a variable without a name.
    """
    if _PLAIN.fullmatch(value) or not value:
        return value
    value = value.replace("${", "${:-$}{")
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
