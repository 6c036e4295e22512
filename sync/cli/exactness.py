"""What a value on the command line may be: the converter of every parameter of every command.

The parser alone is lenient: it rounds `389506.6`, reads `0x2a`, `1_000` and `+42`, and takes `null` for an
option that was not given. A command that erases, writes or deletes must not guess what was meant.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin

from cyclopts import Parameter, convert, validators

from sync.numbers import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token


def exact(type_: Any, tokens: Sequence[Token]) -> Any:
    """Convert what was typed, or refuse it: integers are digits, other numbers finite, nothing is `null`.

    `type_` is the parameter's without its `| None`, so the parser cannot take `null` for it.
    """
    if type_ is int:
        return whole_number(tokens[0].value)
    if get_origin(type_) is Literal and all(type(choice) is int for choice in get_args(type_)):
        whole_number(tokens[0].value)
    value = convert(type_, tokens)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"expected a finite number, not {tokens[0].value!r}.")
    return value


EXACT: Final = Parameter(converter=exact)
"""The default of every parameter of the application and the commands below it."""

Positive: TypeAlias = Annotated[int, Parameter(validator=validators.Number(gte=1))]
CustomerId: TypeAlias = Annotated[int, Parameter(validator=validators.Number(gte=1))]
"""Kounta's id of a customer."""
