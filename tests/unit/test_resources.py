"""How to add a resource: the page names every module that knows what a customer is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/how-to/add-a-resource.md"
KNOWING: Final = {
    "CUSTOMERS",
    "COLUMNS",
    "Customer",
    "CustomerId",
    "Subscription",
    "ATTRIBUTES",
    "attributes_of",
}


def named() -> set[str]:
    """Give the files that the page names; one without a room lies in the room of the one before."""
    found, room = set(), ""
    for name in re.findall(r"`([\w/]+\.py)`", PAGE.read_text(encoding="utf-8")):
        room = name.rpartition("/")[0] or room
        found.add(f"{room}/{name.rpartition('/')[2]}")
    return found


def knowing() -> Iterator[str]:
    """Give the modules of sync that import what says what a customer is, or the table that holds them."""
    for path in (ROOT / "sync").rglob("*.py"):
        where = path.relative_to(ROOT).as_posix()
        if where.startswith(("sync/sandbox/", "sync/mirror/migrations/", "sync/demo/", "sync/cli/")):
            continue
        if any(map(tells, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
            yield where


def tells(node: ast.AST) -> bool:
    """Whether it is such an import."""
    if not isinstance(node, ast.ImportFrom) or node.module not in {
        "sync.merge.customers",
        "sync.mirror.schema",
    }:
        return False
    return not KNOWING.isdisjoint(one.name for one in node.names)


def test_every_module_that_knows_what_a_customer_is_is_named() -> None:
    assert set(knowing()) - named() == set()


def test_every_file_that_is_named_is_there_but_for_the_new_ones() -> None:
    assert {name for name in named() if not (ROOT / name).is_file()} == {"sync/merge/products.py"}
