"""Times as people type them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, TypeAlias

from cyclopts import Parameter, Token

from receiver.clock import utc_now
from sync.cli.owner import UsageError
from sync.console.moments import moment_of


def _converted(_type: object, tokens: Sequence[Token]) -> datetime:
    return moment_of(tokens[0].value, utc_now())


def _zoned(_type: object, tokens: Sequence[Token]) -> datetime:
    text = tokens[0].value.strip()
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(microsecond=0)
            raise UsageError(
                f"{text!r} does not say in which zone: write {moment.isoformat()}Z for UTC, or with the "
                f"difference to it, as in {moment.isoformat()}+10:00."
            )
    return _converted(_type, tokens)


Moment: TypeAlias = Annotated[datetime | None, Parameter(converter=_converted, n_tokens=1)]

ZonedMoment: TypeAlias = Annotated[datetime | None, Parameter(converter=_zoned, n_tokens=1)]
"""The same, but that ISO 8601 has to name its zone."""
