"""The text of a `.env`: values written so that they are read back as they are.

`dotenv.set_key` reads `${` back as something else, gives shells other backslashes than were given, and takes
the blank line before a value away.
"""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Final

from dotenv.parser import parse_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


def merged(text: str, values: Mapping[str, str], dropped: frozenset[str] = frozenset()) -> str:
    """Set `values` in the text of a `.env`, and take `dropped` out; every other line stays as it is.

    What was set already stands where it stood, once.
    """
    lines, missing = [], dict(values)
    for binding in parse_stream(StringIO(text)):
        name, line = binding.key, binding.original.string
        if name in missing:
            lines.append(f"{_blank_lines(line)}{name}={_quoted(missing.pop(name))}\n")
        elif name in values or name in dropped:
            lines.append(_blank_lines(line))
        else:
            lines.append(line)
    whole = "".join(lines)
    if missing and whole and not whole.endswith("\n"):
        whole += "\n"
    return whole + "".join(f"{name}={_quoted(value)}\n" for name, value in missing.items())


def _blank_lines(text: str) -> str:
    """Give what stands before the first word: the parser counts it to the line that follows."""
    return text[: len(text) - len(text.lstrip())]


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
