"""What went wrong, said to the person who can mend it."""

from __future__ import annotations

from typing import ClassVar


class MirrorError(Exception):
    """One sentence: what was expected, what came, what to do. A command prints it and exits `exit_code`."""

    exit_code: ClassVar[int] = 1


class SettingsError(MirrorError):
    """A setting is missing or malformed; the sentence names it and never shows a secret."""

    exit_code: ClassVar[int] = 2
