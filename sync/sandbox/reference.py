"""Writes what the references say of upstream: `python -m sync.sandbox.reference DIRECTORY`."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from sync.sandbox.catalogue import CATALOGUE, GROUPS, SOURCES, SURENESS, Behaviour
from sync.sandbox.settings import Faults, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "<!-- {}: made by scripts/dictionary -->", "<!-- end of {} -->"
_INTRODUCTION = """# What upstream does, and what the mirror does about it

This page is made from the catalogue of the [local Kounta](sandbox.md), `sync/sandbox/catalogue.py`, by
`scripts/dictionary`. The [simulation](../explanation/simulation.md) draws from the same table.
`kounta-mirror doctor` says which of it your company's upstream has shown so far.

"""


def upstream() -> str:
    """Return the page upstream.md: each behaviour, its source, how sure, what the mirror does, the test."""
    parts = [_INTRODUCTION, "| source | |\n|---|---|\n"]
    parts += [f"| {name} | {meaning} |\n" for name, meaning in SOURCES.items()]
    parts += ["\n| how sure | |\n|---|---|\n"]
    parts += [f"| {name} | {meaning} |\n" for name, meaning in SURENESS.items()]
    for title, group in GROUPS.items():
        parts.append(f"\n## {title}\n\n")
        parts.append("| behaviour | what upstream does | source | how sure | what the mirror does | test |\n")
        parts.append("|---|---|---|---|---|---|\n")
        parts += map(_row, group)
    assumed = [one for one in CATALOGUE.values() if one.assumption]
    parts.append("\n## What the mirror cannot survive\n\n")
    parts.append("Each is an assumption of [convergence](../explanation/convergence.md).\n\n")
    parts += [f"- **{one.name}**: {one.assumption}.\n" for one in assumed]
    return "".join(parts)


def _row(one: Behaviour) -> str:
    return (
        f"| {one.name} | {one.does} | {one.source} | {one.sure} | {one.mirror} "
        f"| `{one.proof.removeprefix('tests/')}` |\n"
    )


def options(kind: type[Settings | Faults]) -> str:
    """Return the table of the options of one kind, from their docstrings."""
    rows = ["| option | default | |\n", "|---|---|---|\n"]
    hints = get_type_hints(kind)
    for name, said in _docstrings(kind):
        meaning = said.removesuffix(".")
        choices = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if choices:
            meaning += f": {', '.join(f'`{one}`' for one in choices)}"
        rows.append(f"| `--{name.replace('_', '-')}` | {_default(getattr(kind, name))} | {meaning} |\n")
    return "".join(rows)


def behaviours() -> str:
    """Return the table of the catalogue's names, the options that bring them, and their sources."""
    rows = ["| behaviour | option | source | how sure |\n", "|---|---|---|---|\n"]
    for one in CATALOGUE.values():
        option = one.option.replace("_", "-")
        values = " ".join(f"`{_written(value)}`" for value in one.draws)
        rows.append(
            f"| {one.name} | `--{option}` {values} | {one.source} | {one.sure} |\n".replace("  ", " ")
        )
    return "".join(rows)


def renewed(page: str) -> str:
    """Return the page sandbox.md with its three tables as they are now."""
    for name, table in (
        ("settings", options(Settings)),
        ("faults", options(Faults)),
        ("catalogue", behaviours()),
    ):
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"sandbox.md has no place for the table of {name}: {begin} … {end}")
        page = f"{before}{begin}\n\n{table}\n{end}{after}"
    return page


def _docstrings(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """Walk the fields of a dataclass with the strings that follow them."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    name = ""
    for statement in getattr(body, "body", ()):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=named)):
                name = named
            case ast.Expr(value=ast.Constant(value=str(said))) if name:
                yield name, said


def _default(value: Any) -> str:
    return "none" if value == () else f"`{_written(value)}`"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def main() -> None:
    """Write both pages in the directory that is given."""
    directory = Path(sys.argv[1])
    (directory / "upstream.md").write_text(upstream())
    page = directory / "sandbox.md"
    page.write_text(renewed(page.read_text()))


if __name__ == "__main__":
    main()
