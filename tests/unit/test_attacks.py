"""The table of attacks is the page, and names tests that exist."""

import ast

import pytest

from tests.attacks import ATTACKS, PAGE, ROOT, page

TESTS = sorted({test for attack in ATTACKS for test in attack.tests})


def test_the_page_is_what_the_table_makes_of_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.attacks"


@pytest.mark.parametrize("name", TESTS)
def test_each_test_that_it_names_exists(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in found
