"""What Kounta's answers carry of a customer, and what cannot be read in them. Pure: it reads counts."""

from collections.abc import Iterator, Mapping
from typing import Final

from sync.doctor.finding import Finding, ok, warning
from sync.mirror.unread import Unread

_CHECK: Final = "fields"


def of_fields(unread: Unread, *, mobile_read: bool | None) -> Iterator[Finding]:
    """Say which attributes are unknown because of what Kounta sends; of none it names a value."""
    if mobile_read is False:
        yield ok(_CHECK, "No read of this company has carried mobile: the column is NULL.")
    if unread.strange:
        yield warning(
            _CHECK,
            f"Kounta sent values that cannot be understood: {_counted(unread.strange)}.",
            "kounta-mirror explain ID shows what came",
        )
    if unread.missing:
        yield warning(_CHECK, f"Kounta's answers lack attributes: {_counted(unread.missing)}.")
    if not unread.strange and not unread.missing:
        yield ok(_CHECK, "Every customer that was read could be read in full.")


def _counted(columns: Mapping[str, int]) -> str:
    most = sorted(columns.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{name} of {count:,} customer{'s' * (count != 1)}" for name, count in most)
