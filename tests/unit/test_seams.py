"""The seams that import-linter holds name every room: one that is left out could cross them unseen."""

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FREE: Final[dict[str, set[str]]] = {
    "The merge is pure: no I/O": set(),
    "Only the stores know SQL": {"mirror", "demo"},  # the demo compares rows without any code of the mirror
    "Only sync.kounta speaks HTTP to upstream": {
        *("kounta", "sandbox", "demo"),
        *("cli", "erasure", "retention"),  # over the local sockets
        *("alerts", "ping"),  # to others than upstream
        *("credentials", "engine", "login"),  # they hand a transport on
    },
    "The local Kounta stands alone, so that a mistake cannot cancel itself out": set(),
    "Nothing but its command stands on the local Kounta": {"cli"},
}
"""Contract -> the rooms that may do what it forbids to the others."""


def contracts() -> dict[str, dict[str, Any]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        linter = tomllib.load(file)["tool"]["importlinter"]
    return {contract["name"]: contract for contract in linter["contracts"]}


def rooms() -> set[str]:
    places = (ROOT / "sync").iterdir()
    return {place.stem for place in places if place.suffix == ".py" or (place / "__init__.py").exists()} - {
        "__init__",
        "__main__",
    }


@pytest.mark.parametrize("name", FREE)
def test_every_room_is_named_or_free(name: str) -> None:
    contract = contracts()[name]
    named = {
        module.split(".")[1]
        for module in (*contract["source_modules"], *contract["forbidden_modules"])
        if module.startswith("sync.")
    }
    assert rooms() - named == FREE[name]
