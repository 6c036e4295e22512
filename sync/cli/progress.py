"""A bar on stderr where a person looks on; nothing in a pipe."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_STAGES = {"list": "Listing customers", "read": "Reading customers", "replay": "Applying deliveries again"}


class Bar:
    """One line that says how far a stage has come, and how long it will take."""

    def __init__(self) -> None:
        self.is_seen = sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not self.is_seen,  # what rich takes for a terminal may be a pipe: FORCE_COLOR
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Say how far `stage` has come; total None: not known."""
        known = {task.description: task.id for task in self._progress.tasks}
        description = _STAGES.get(stage, stage)
        task = known.get(description)
        if task is None:
            task = self._progress.add_task(description, total=total)
        self._progress.update(task, completed=done, total=total)
