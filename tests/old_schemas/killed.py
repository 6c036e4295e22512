"""`python -m tests.old_schemas.killed STORE FILE FIRST EVERY`: migrations of copies of FILE that are killed.

The first copy's is killed at step FIRST, the next one's EVERY steps later, until one comes to its end. A step
is a statement, or the commit. The copies are FILE.STEP; printed is a line "STEP killed" or "STEP done" for
each. A process of its own, because it forks: it has one thread.
"""

import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from sqlalchemy import Engine, event

from receiver.database import migrate
from tests.old_schemas import STORES

KILLED = -signal.SIGKILL


def main(store: str, file: Path, first: int, every: int) -> None:
    migrate(Path(shutil.copy(file, file.with_suffix(".warm"))), STORES[store])  # everything is imported then
    for step in count(first, every):
        path = Path(shutil.copy(file, f"{file}.{step}"))
        child = os.fork()
        if child == 0:
            _migrate_until(path, STORES[store], step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in {0, KILLED}, code
        sys.stdout.write(f"{step} {'killed' if code else 'done'}\n")
        if not code:
            return


def _migrate_until(path: Path, migrations: str, step: int) -> None:
    steps = 0

    def step_on(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", step_on)
    event.listen(Engine, "commit", step_on)
    migrate(path, migrations)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
