"""Whether upstream's own fields say that a customer is deleted.

No documented field does; services of this kind mark what they keep (`kounta-api.md`: new fields appear
unannounced). Only what can be read beyond doubt is evidence (decision 0063).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

FLAGS: Final = ("deleted", "is_deleted")
TIMES: Final = ("deleted_at",)
_YES: Final = frozenset({"1", "true"})
_NO: Final = frozenset({"", "0", "false"})
_ZERO_TIME: Final = re.compile(r"0000-00-00([T ]00:00(:00(\.0+)?)?)?(Z|[+-]00:?00)?")
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]+)?")
_LARGEST: Final = 1e15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def says_deleted(fields: Mapping[str, object] | None) -> bool:
    """Return whether any of a customer's fields says that it is deleted.

    A flag says so when it is true, 1, "1" or "true"; a time when it is one that is not zero. `false`, 0, "",
    null, [], {} and a zero time (0000-00-00, the epoch) say no, and whatever else is unread: no evidence.
    """
    if not fields:
        return False
    return any(_is_yes(fields.get(name)) for name in FLAGS) or any(
        _is_time(fields.get(name)) for name in TIMES
    )


def flags_in(fields: Mapping[str, object] | None) -> str | None:
    """Name what such fields of a customer say, as docs/reference/upstream.md has it; None: there are none."""
    given = [fields[name] for name in (*FLAGS, *TIMES) if name in fields] if fields else []
    if not given:
        return None
    if says_deleted(fields):
        return "deleted-flags"
    return "false-flags" if all(map(_is_no, given)) else "strange-flags"


def _is_no(value: object) -> bool:
    if isinstance(value, str):
        text = value.strip().lower()
        return text in _NO or _ZERO_TIME.fullmatch(text) is not None or text.startswith("1970-01-01")
    return not value


def _is_yes(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _YES
    return isinstance(value, bool | int | float) and value == 1  # true equals 1


def _is_time(value: object) -> bool:
    """Return whether it is a time, of ISO 8601 or in seconds or milliseconds of Unix, that is not zero."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return (
            1 < value < _LARGEST
        )  # 1 is rather a flag than the second after the epoch; NaN compares as false
    if not isinstance(value, str) or _ZERO_TIME.fullmatch(value.strip()):
        return False
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text) > 1
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) != _EPOCH
