"""The table of what the program stands on: `python -m tests.dependencies` writes the page.

Packages and versions are those of the lock; sizes and days of release come from the index, by `uv lock`.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs/reference/dependencies.md"
LOCK: Final = ROOT / "requirements/run.txt"

WHAT_FOR: Final = {
    "aiosqlite": "SQLite without blocking the event loop",
    "alembic": "migrations of both schemas",
    "cryptography": "encrypts stored OAuth tokens",
    "cyclopts": "the command line",
    "honcho": "starts the Procfile; not needed under systemd",
    "httptools": "parses HTTP for the receiver and the console",
    "httpx2": "HTTP to Kounta, to alert addresses, to the local socket",
    "jinja2": "pages of the console",
    "prometheus-client": "metrics",
    "pycountry": "names of countries as their codes",
    "pydantic": "reads and checks what Kounta sends, and settings",
    "pydantic-settings": "settings from the environment, `.env` and files",
    "python-dotenv": "reads and writes `.env`",
    "rich": "tables and progress on a terminal",
    "sqlalchemy": "SQL for both databases",
    "starlette": "routes of the receiver and the console",
    "structlog": "the log",
    "tenacity": "retries",
    "typing-extensions": "types that Python 3.11 does not have",
    "tzdata": "time zones, where the machine has none",
    "uuid-utils": "UUIDv7, the names of deliveries",
    "uvicorn": "serves the receiver and the console",
    "uvloop": "a faster event loop",
}
"""Each package that the program imports itself, and why."""
OF_LINUX: Final = re.compile(r"-(py3-none-any|(cp311-cp311|cp3\d+-abi3)-manylinux.*x86_64)\.")


class Package(NamedTuple):
    """A line of the lock."""

    name: str
    version: str
    via: tuple[str, ...]
    """The packages that need it; none: the program itself does."""
    elsewhere: bool
    """Whether Linux does not need it."""


def locked(lock: str) -> list[Package]:
    """Read the packages of a lock as `uv pip compile` writes it."""
    found = []
    for part in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        head, _, rest = part.partition("\n")
        pinned, _, marker = head.rstrip(" \\").partition(" ; ")
        name, _, version = pinned.partition("==")
        needed_by = re.findall(r"^    #(?: via|  ) +([a-z][\w.-]*)", rest, flags=re.MULTILINE)
        via = tuple(one for one in needed_by if one != "kounta-mirror")
        own = "kounta-mirror" in needed_by
        elsewhere = "win32'" in marker.replace("!= 'win32'", "") or "== 'emscripten'" in marker
        found.append(Package(re.sub(r"\[.*", "", name), version, () if own else via, elsewhere))
    return found


def page(packages: list[Package], known: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page; `known` is what the index says of each package."""
    lines = [_line(one, known[one.name]) for one in packages if not one.elsewhere]
    return "\n".join([_HEAD, *lines]) + "\n"


def _line(one: Package, known: Mapping[str, Any]) -> str:
    wheels = [wheel for wheel in known["wheels"] if OF_LINUX.search(wheel["url"])]
    best = wheels or known["wheels"]
    size = max(wheel["size"] for wheel in best)
    released = max(wheel["upload-time"] for wheel in known["wheels"])
    purpose = WHAT_FOR.get(one.name) or f"needed by {', '.join(sorted(one.via))}"
    return f"| {one.name} | {one.version} | {purpose} | {size / 1000:,.0f} kB | {released[:10]} |"


_HEAD: Final = """# What it stands on

The packages that `requirements/run.txt` installs on Linux; `scripts/dependencies` writes this page. The size
is that of the download for Python 3.11 on x86-64, the day that of the release that is locked, the newest one
when the lock was made. `requirements/extras.txt` is the same with `psycopg` for PostgreSQL and `pyarrow`
for Parquet; `requirements/build.txt` holds what makes the package, which a program that runs does not need.
SQLite is the one that Python is linked with.

| package | version | what for | size | released |
|---|---|---|---|---|"""


def _from_index(packages: list[Package]) -> dict[str, dict[str, Any]]:
    pins = ", ".join(f'"{one.name}=={one.version}"' for one in packages)
    with tempfile.TemporaryDirectory() as directory:
        project = (ROOT / "pyproject.toml").read_text()
        (Path(directory) / "pyproject.toml").write_text(
            f"{project}\n[tool.uv]\nconstraint-dependencies = [{pins}]\n"
        )
        for name in ("README.md", "LICENSE"):
            (Path(directory) / name).touch()
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "lock", "--quiet"], cwd=directory, check=True)  # noqa: S603 - of the test lock
        found = tomllib.loads((Path(directory) / "uv.lock").read_text())
    return {one["name"]: one for one in found["package"]}


if __name__ == "__main__":
    of_lock = locked(LOCK.read_text())
    PAGE.write_text(page(of_lock, _from_index(of_lock)))
