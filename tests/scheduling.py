"""Which tests stay together in one process of pytest-xdist.

Each test is handed out by itself, but for those that share an expensive set-up, or what all processes share.
Marks (`xdist_group`) have no effect here: pytest-xdist 3.8.0 loses them with pytest 9.2
(findings/xdist-groups.sh).
"""

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

BROWSER: Final = "one house and one browser"
ROLES: Final = "roles, which belong to the server of all databases"
SEEDS: Final = "outcomes of the simulation's seeds"
TOGETHER: Final = {
    "tests/browser/": BROWSER,
    "tests/integration/mirror/test_dashboards.py": ROLES,
    "tests/integration/mirror/test_dictionary.py::test_who_may_not_comment": ROLES,
    "tests/integration/mirror/test_open_mirror.py::test_the_role_for_reporting": ROLES,
    "tests/integration/mirror/test_recipes.py": ROLES,
    "tests/integration/test_reporting_role.py": ROLES,
    "tests/simulation/test_simulation.py": SEEDS,
}
"""How a test's id begins -> what it shares with others."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out one test after another, the largest groups first."""

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for start, shared in TOGETHER.items() if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)  # one runs tests without xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling | None:
    """Take the place of `--dist load`."""
    return Scheduling(config, log) if config.getvalue("dist") == "load" else None
