"""What a command asks a person: on a terminal with prompts, else one line of stdin for each question."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync.cli.owner import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Question:
    """One thing to ask. `read` makes of a line what is meant, or raises UsageError."""

    name: str
    asks: str
    read: Callable[[str], str]
    default: str = ""
    secret: bool = False

    def answer(self, line: str) -> str:
        return self.read(line.strip() or self.default)


def line_of_stdin() -> str | None:
    """Read a line; None at the end of stdin. What is no UTF-8 can be no answer, and reads as one."""
    line = sys.stdin.buffer.readline().decode(errors="replace")
    return line.rstrip("\r\n") if line else None


def answers_to(questions: list[Question]) -> dict[str, str]:
    """Ask them one after the other. On a terminal an answer that cannot be is asked for again."""
    if sys.stdin.isatty():
        return {question.name: _asked(question) for question in questions}
    given = {}
    for question in questions:
        line = line_of_stdin()
        if line is None:
            names = ", ".join(one.name for one in questions)
            raise UsageError(f"stdin ended before {question.name}. Give a line for each of: {names}.")
        given[question.name] = question.answer(line)
    return given


def _asked(question: Question) -> str:
    from rich.console import Console
    from rich.prompt import InvalidResponse, Prompt
    from rich.text import Text

    class Asking(Prompt):
        def process_response(self, value: str) -> str:
            try:
                return question.answer(value)
            except UsageError as error:
                raise InvalidResponse(Text(str(error), "prompt.invalid")) from error

    asks = f"{question.asks} ({question.default})" if question.default else question.asks
    try:
        return Asking(Text(asks), console=Console(stderr=True), password=question.secret)()
    except EOFError:
        raise UsageError("Nothing more was given, and nothing was written.") from None
