"""docs/reference/customers.md is true: tests, calls and commands are there, and no line is left out."""

import ast
import re
import shlex
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest

from sync.cli import app
from sync.kounta import Kounta, Webhooks

PAGE = (
    "Customers are people who buy from the authenticated company",
    "`GET /v1/companies/5678/customers`",
    "`GET …/customers?reference_id=ABC123`",
    "an array of zero or more, always 200",
    "`GET …/customers/389427`",
    "`GET …/customers?email=jmcdonald@kounta.kom`",
    "`GET …/customers?first_name=Jamie&last_name=McDonald&phone=02+8765+4321`",
    "no reference_id then an empty string",
    "all values first_name, last_name, and phone must be provided",
    "a 302 redirect to the matching customer record, or 404",
    "created_at and updated_at will always be set to the current timestamp",
    "`POST /v1/companies/5678/customers`",
    "Creation is limited to the fields below",
    "first_name and either email or phone are required",
    "reference_id is applicable only to your application",
    "two-character ISO 3166-1 country code",
    "Modification is limited to the fields below",
    *("… `first_name`", "… `last_name`", "… `phone`", "… `email`", "… `tags`", "… `image`"),
    *("… `primary_address`", "… `shipping_address`", "… `reference_id`", "… `accepts_marketing`"),
    "`PUT …/customers/389427`: update a customer",
    "`PUT …/customers/389427`: update a customer's address",
    "When a customer is created. You will receive the complete customer",
    "When a customer is updated. You will receive the complete customer after the modifications",
    "When a customer is deleted. You will receive the complete customer",
    "`name`: if either first_name or last_name are updated",
    *("filter `phone`", "filter `email`", "filter `tags`", "filter `image`", "filter `accepts_marketing`"),
    "`address`: if either primary_address or shipping_address are updated",
)
"""What each line of the seed says, or enough of it to know it by."""

Rows = list[list[str]]


@pytest.fixture(scope="module")
def tables(pytestconfig: pytest.Config) -> list[Rows]:
    """Give the rows of each table, without its head."""
    text = (pytestconfig.rootpath / "docs/reference/customers.md").read_text()
    found: list[Rows] = []
    for before, line in pairwise(text.splitlines()):
        if not line.startswith("|"):
            continue
        if set(line) <= set("|- "):
            found.append([])
        elif before.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


@pytest.fixture(scope="module")
def known(pytestconfig: pytest.Config) -> dict[str, set[str]]:
    """Give the names of all tests by the path of their file."""
    root = pytestconfig.rootpath
    return {
        path.relative_to(root).as_posix(): {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        for path in (root / "tests").rglob("test_*.py")
    }


def named_in(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)


def test_no_line_of_the_page_is_left_out(tables: list[Rows]) -> None:
    said = [row[1] for row in tables[0]]
    assert [line for line in PAGE if not any(line in one for one in said)] == []
    assert len(said) >= len(PAGE)


def test_the_local_kounta_is_held_to_the_same_lines(tables: list[Rows]) -> None:
    assert [row[0] for row in tables[1]] == [row[0] for row in tables[0]]


def test_each_row_names_tests_and_all_of_them_exist(tables: list[Rows], known: dict[str, set[str]]) -> None:
    assert [len(table) > 10 for table in tables] == [True] * 3
    cells = [
        cell
        for table, columns in zip(tables, (1, 1, 2), strict=True)
        for row in table
        for cell in row[-columns:]
    ]
    assert [cell for cell in cells if not named_in(cell)] == []
    named = {test for cell in cells for test in named_in(cell)}
    assert sorted(f"{path}::{name}" for path, name in named if name not in known.get(path, ())) == []
    assert all(cell.count("::") == len(named_in(cell)) for cell in cells)


def test_each_line_is_proved_against_the_local_kounta(
    tables: list[Rows], pytestconfig: pytest.Config
) -> None:
    named = {path for table in tables[:2] for row in table for path, _ in named_in(row[-1])}

    def over_the_local_kounta(path: Path) -> bool:
        fixtures = path.with_name("conftest.py")
        return any("from sync.sandbox" in file.read_text() for file in (path, fixtures) if file.exists())

    paths = [pytestconfig.rootpath / path for path in sorted(named)]
    assert [path.name for path in paths if not over_the_local_kounta(path)] == []


def test_each_call_can_be_made(tables: list[Rows]) -> None:
    for row in tables[0]:
        calls = re.findall(r"kounta\.([a-z_.]+)\(", row[2])
        assert calls or "Kounta(" in row[2]
        for call in calls:
            reduce(getattr, call.removeprefix("webhooks.").split("."), Webhooks if "." in call else Kounta)


def test_each_command_can_be_typed(tables: list[Rows]) -> None:
    for row in tables[0]:
        typed = re.findall(r"`((?:customers|webhooks) [^`]+)`", row[3])
        assert typed or "MIRROR_ATTRIBUTES" in row[3]
        for command in typed:
            app.parse_args(shlex.split(command), exit_on_error=False, print_error=False)
