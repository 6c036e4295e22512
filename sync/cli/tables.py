"""Tables for people; in a pipe no line is folded, so that other programs can cut them."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_WIDTH_IN_A_PIPE: Final = 1000


def print_table(rows: Iterable[Sequence[object]], headings: Sequence[str] | None = None) -> None:
    """Print rows under their headings; without headings the first column names what the others say."""
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=_WIDTH_IN_A_PIPE)
    table = Table(*(headings or ()), box=None, show_header=bool(headings), padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    with console.capture() as printed:
        console.print(table, markup=False)
    for line in printed.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def cell(value: Any) -> str:
    """Give a value in one line that no terminal takes for a command; None is empty."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(sign if sign.isprintable() else " " for sign in text)
