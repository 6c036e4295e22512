"""Who else may read or write files with secrets and people's data."""

import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from sync.doctor.finding import Finding, ok, warning

CHECK: Final = "modes"
OF_OTHERS: Final = stat.S_IRWXO
OF_GROUP_AND_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
WRITING: Final = stat.S_IWGRP | stat.S_IWOTH
_IN_DIRECTORY: Final = ("inbox.db", "mirror.db", "spool/inbox.db", "erased.jsonl")
_BESIDE: Final = ("", "-wal", "-shm")


def of_modes(directory: Path, private: Mapping[Path, str], secret_files: Iterable[Path]) -> Iterator[Finding]:
    """Look at `private` files and what each holds, files of one secret, and what lies in the data directory.

    A file of a secret may be readable to a group, as a service manager makes it. What lies in the directory
    may be readable to others as long as the directory lets none of them in.
    """
    found = [
        *(_open(path, OF_GROUP_AND_OTHERS, what, "600") for path, what in private.items()),
        *(_open(path, OF_OTHERS | stat.S_IWGRP, "a secret", "o-rwx,g-w") for path in sorted(secret_files)),
        *_in_directory(directory),
    ]
    wrong = [one for one in found if one is not None]
    yield from wrong or [ok(CHECK, "No file with secrets or people's data is open to others.")]


def _in_directory(directory: Path) -> Iterator[Finding | None]:
    lets_in = _mode_of(directory) & stat.S_IXOTH
    wrong = WRITING | (stat.S_IROTH if lets_in else 0)
    for name in _IN_DIRECTORY:
        for end in _BESIDE:
            yield _open(directory / f"{name}{end}", wrong, "people's data", "o-rwx,g-w")


def _open(path: Path, wrong: int, what: str, right: str) -> Finding | None:
    """Say who else may use a file; None: no one, or there is none."""
    mode = _mode_of(path)
    if not mode & wrong:
        return None
    sentence = f"{path} is open to others ({mode:04o}): it holds {what}."
    return warning(CHECK, sentence, f"chmod {right} {path}")


def _mode_of(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
