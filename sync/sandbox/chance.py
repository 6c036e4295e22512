"""Whether something odd happens: drawn for each answer, or once for each customer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from sync.sandbox.settings import Settings

T = TypeVar("T")


class Chance:
    """Draws from a seed. A share of 0 draws nothing, so that it leaves the other draws as they are."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self._settings = settings
        self._salt = random.getrandbits(64)
        self._random = random

    def hits(self, share: float, name: str, customer_id: int) -> bool:
        """Draw whether the oddity of this name befalls a record, in the way that `oddities_per` says."""
        if not share:
            return False
        return (self.fixed(name, customer_id) if self._is_fixed else self._random.random()) < share

    def choice(self, options: Sequence[T], name: str, customer_id: int) -> T:
        """Choose one of the options for a record, in the same way."""
        draw = self.fixed(f"which {name}", customer_id) if self._is_fixed else self._random.random()
        return options[int(draw * len(options))]

    def fixed(self, name: str, key: object) -> float:
        """Give a number from 0 up to 1 that is always the same for this name and key."""
        return crc32(f"{self._salt}/{name}/{key}".encode()) / 2**32

    @property
    def _is_fixed(self) -> bool:
        return self._settings.oddities_per == "customer"
