"""The reference says all of it: settings, commands, flags and log lines have their place in docs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from receiver.settings import ReceiverSettings
from sync.cli import app
from sync.console.schema import ENDPOINTS
from sync.settings import PingSettings, ProcessSettings

OF_THEIR_OWN = ("customers", "sandbox", "demo")  # their flags are fields and faults, on pages of their own


@pytest.fixture
def docs(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "docs"


def test_every_setting_is_in_the_table_and_nothing_else_is(docs: Path) -> None:
    page = (docs / "reference/settings.md").read_text()
    table = page.split("\n| name |")[1].split("\n\n")[0]
    told = {name for row in table.splitlines()[2:] for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    models = (ReceiverSettings, ProcessSettings, PingSettings)
    known = {field.alias for model in models for field in model.model_fields.values()}
    assert told == known | {"MIRROR_CONFIG"}


def commands(of: App = app, way: str = "") -> Iterator[tuple[str, App]]:
    for name in of:
        if name.startswith("-"):
            continue
        found = of[name]
        inner = [(path, one) for path, one in commands(found, f"{way}{name} ")]
        yield from inner or [(f"{way}{name}", found)]


def test_every_command_and_flag_is_in_the_table(docs: Path) -> None:
    page = (docs / "reference/commands.md").read_text()
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    missing = []
    for way, command in commands():
        first = way.split()[0]
        own = [row for row in rows if re.search(rf"`{re.escape(way)}\b", row)]
        if not own:
            missing.append(way)
        if first in OF_THEIR_OWN:
            continue
        flags = {
            name
            for argument in command.assemble_argument_collection()
            for name in argument.names
            if name.startswith("--")
            and not name.startswith("--no-")
            and argument.parameter.name != ("--company",)
        }
        missing += [f"{way} {flag}" for flag in flags if not any(flag in row for row in own)]
    assert missing == []


def actions(root: Path) -> Iterator[str]:
    """Give the `action` of every line that is logged."""
    for path in (*root.glob("receiver/**/*.py"), *root.glob("sync/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="action", value=ast.Constant(value=str(action))):
                    yield action


def test_every_log_line_is_in_the_table_and_nothing_else_is(docs: Path) -> None:
    page = (docs / "reference/log.md").read_text()
    told = {
        name
        for row in page.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])
    }
    assert told == set(actions(docs.parent))


def test_everything_that_can_be_asked_of_the_worker_is_in_the_table(docs: Path) -> None:
    page = (docs / "reference/socket.md").read_text()
    told = re.findall(r"^\| `POST (\S+)` \| (.*?) \|", page, re.MULTILINE)
    assert told == [(path, endpoint.summary) for path, endpoint in ENDPOINTS.items()]
