"""Times as people type them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from cyclopts import Parameter, Token

from sync.console.moments import moment_of


def _converted(_type: object, tokens: Sequence[Token]) -> datetime:
    return moment_of(tokens[0].value, datetime.now(UTC))


Moment: TypeAlias = Annotated[datetime | None, Parameter(converter=_converted, n_tokens=1)]
