"""Notices: what an action has to say on the page that its form leads to."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
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
        self._notices: OrderedDict[str, Callable[[], Notice]] = OrderedDict()

    def leave(self, say: Callable[[], Notice]) -> str:
        """Keep what says it, each time anew, and give its name."""
        name = secrets.token_urlsafe(9)
        self._notices[name] = say
        while len(self._notices) > MOST:
            self._notices.popitem(last=False)
        return name

    def find(self, name: str | None) -> Notice | None:
        """Give it; None: there is none of this name, or no longer."""
        say = None if name is None else self._notices.get(name)
        return None if say is None else say()
