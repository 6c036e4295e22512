"""Notices: what an action has to say on the page that its form leads to."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for whoever has done something."""

    sentence: str
    is_good: bool = True


class Notices:
    """The last ones, by a name that nobody can guess: no link can put words into a page."""

    def __init__(self) -> None:
        self._notices: OrderedDict[str, Notice] = OrderedDict()

    def leave(self, notice: Notice) -> str:
        """Keep it, and give its name."""
        name = secrets.token_urlsafe(9)
        self._notices[name] = notice
        while len(self._notices) > MOST:
            self._notices.popitem(last=False)
        return name

    def find(self, name: str | None) -> Notice | None:
        """Give it; None: there is none of this name, or no longer."""
        return None if name is None else self._notices.get(name)
