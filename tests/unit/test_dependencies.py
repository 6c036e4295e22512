"""What is locked for a program that runs, and the page that says what each package is for."""

import re
import tomllib

from tests.dependencies import LOCK, PAGE, ROOT, WHAT_FOR, locked

BUILD_TOOLS = {"editables", "hatchling", "pluggy", "pathspec", "trove-classifiers"}


def test_the_page_lists_what_is_locked() -> None:
    listed = re.findall(r"^\| ([a-z][\w.-]*) \| ([\w.]+) \|", PAGE.read_text(), flags=re.MULTILINE)
    wanted = [(one.name, one.version) for one in locked(LOCK.read_text()) if not one.elsewhere]
    assert [one for one in listed if one[0] != "package"] == wanted, "run scripts/dependencies"


def test_each_package_that_is_asked_for_has_a_purpose() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["run"]]
    assert {re.split(r"[^\w-]", one)[0] for one in asked} == WHAT_FOR.keys()


def test_no_build_tool_is_installed_beside_a_program_that_runs() -> None:
    names = {one.name for one in locked(LOCK.read_text())}
    assert not names & BUILD_TOOLS
    assert {one.name for one in locked((ROOT / "requirements/build.txt").read_text())} >= BUILD_TOOLS


def test_every_lock_has_a_hash_for_each_package_and_the_same_versions() -> None:
    versions: dict[tuple[str, str], set[str]] = {}
    for name in ("run", "build", "extras", "test"):
        text = (ROOT / f"requirements/{name}.txt").read_text()
        for one in locked(text):
            versions.setdefault((name, one.name), set()).add(one.version)
        for part in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
            assert "--hash=sha256:" in part, f"{name}: {part[:40]}"
    for name in ("run", "build", "extras"):
        for one in locked((ROOT / f"requirements/{name}.txt").read_text()):
            assert one.version in versions["test", one.name], f"scripts/lock makes all of them: {one}"
