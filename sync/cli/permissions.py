"""The flag `--mode` of the commands that write a file with people's data."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter, Token

_OCTAL: Final = re.compile("0?[0-7]{3}")
_OWNER: Final = 0o600
_EXECUTABLE: Final = 0o111


class Permissions(int):
    """The mode of a file."""


def _converted(_type: object, tokens: Sequence[Token]) -> Permissions:
    text = tokens[0].value
    mode = int(text, 8) if _OCTAL.fullmatch(text) else 0
    if mode & _OWNER != _OWNER or mode & _EXECUTABLE:
        raise ValueError(
            f"expected a mode in which the owner reads and writes and no one executes, as 0640; not {text!r}."
        )
    return Permissions(mode)


Mode: TypeAlias = Annotated[
    Permissions | None,
    Parameter(
        name="--mode",
        converter=_converted,
        n_tokens=1,
        help="Who may read the file, as chmod takes it: 0600, 0640, 0644. By default a new file is 0640, and "
        "one that is replaced keeps its mode.",
    ),
]
