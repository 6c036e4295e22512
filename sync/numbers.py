"""Whole numbers as people and programs write them: digits and nothing else, as a database can hold them."""

from typing import Final

BIGGEST: Final = 2**63 - 1
"""What a database can hold."""


def whole_number(text: str) -> int:
    """Return the number that `text` writes, at least 0 and at most 2^63 - 1.

    Raises ValueError unless it is ASCII digits and nothing else.
    """
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"expected digits and nothing else, not {text[:40]!r}.")
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(BIGGEST)) or int(digits) > BIGGEST:
        raise ValueError(f"must be at most {BIGGEST}.")
    return int(digits)
