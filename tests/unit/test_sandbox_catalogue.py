"""The table of upstream's behaviours is complete, true, and what the references say."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from sync.sandbox import Faults, Sandbox, Settings
from sync.sandbox.catalogue import CATALOGUE, GROUPS, SOURCES, SURENESS
from sync.sandbox.reference import renewed, upstream

NOT_OF_UPSTREAM = {
    *("company_id", "company_name", "time_zone", "client_id", "client_secret", "signature_token"),
    *("other_applications", "requests_per_minute", "oauth_requests_per_minute", "token_seconds"),
    *("code_seconds", "authorize", "delivery_timeout_seconds", "edits_per_second", "max_delay_seconds"),
    *("retry_seconds", "hang_seconds", "only_calls", "limit_body", "location", "created_body", "ascii_json"),
}
"""Options that say who the company is, or how long something takes, or that belong to another one."""


@pytest.fixture
def root(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath


def test_every_option_that_is_a_behaviour_is_in_the_catalogue() -> None:
    options = {field.name for kind in (Settings, Faults) for field in fields(kind)}

    assert {one.option for one in CATALOGUE.values()} == options - NOT_OF_UPSTREAM
    assert sum(map(len, GROUPS.values())) == len(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_behaviour_can_be_set_and_says_where_it_is_from(name: str) -> None:
    one = CATALOGUE[name]
    for value in one.draws:
        sandbox = Sandbox()
        options = sandbox.settings if hasattr(Settings, one.option) else sandbox.faults
        sandbox.change(options, {one.option: value})
        assert getattr(options, one.option) == value
    assert one.source in SOURCES
    assert one.sure in SURENESS
    assert one.does.endswith(".")
    assert one.mirror.endswith(".")


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_test_that_proves_it_exists(name: str, root: Path) -> None:
    one = CATALOGUE[name]
    file, _, test = one.proof.partition("::")
    function = test.partition("[")[0]
    tree = ast.parse((root / file).read_text())
    assert function in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert bool(one.draws) or bool(one.test)


def test_the_references_are_what_the_catalogue_makes_of_them(root: Path) -> None:
    reference = root / "docs" / "reference"
    sandbox = (reference / "sandbox.md").read_text()

    assert (reference / "upstream.md").read_text() == upstream(), "run scripts/dictionary"
    assert sandbox == renewed(sandbox), "run scripts/dictionary"


def test_what_cannot_be_survived_is_an_assumption(root: Path) -> None:
    page = (root / "docs" / "explanation" / "convergence.md").read_text()
    for one in CATALOGUE.values():
        assert one.assumption is None or f"`{one.name}`" in page, one.name
