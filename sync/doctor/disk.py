"""Where everything lies: directory, files, who owns them, and for how many days the disk is enough."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from pwd import getpwuid
from typing import Final

from sync.concerns import TOO_LITTLE_BYTES
from sync.doctor.finding import Finding, failed, ok, warning

FEW_DAYS: Final = 30
TOO_FEW_DAYS: Final = 3
LITTLE_BYTES: Final = 1 << 30
LARGE_LOG_BYTES: Final = 256 << 20
"""A log of SQLite is 16 MiB between two checkpoints, and 64 MiB of it are kept: more has a reason."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP


def of_directory(directory: Path) -> Iterator[Finding]:
    """Look at the data directory itself."""
    check = "directory"
    try:
        found = directory.stat()
    except FileNotFoundError:
        yield warning(
            check, f"{directory} is not there yet.", "start receiver and worker: each makes it (0750)"
        )
        return
    except OSError as error:
        yield failed(check, f"{directory} cannot be looked at: {error.strerror}.", "correct MIRROR_DATA_DIR")
        return
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        yield failed(
            check,
            f"{directory} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}.",
            f"run this, receiver and worker as {_user(found.st_uid)}",
        )
    elif not os.access(directory, os.W_OK | os.X_OK):
        yield failed(check, f"{directory} cannot be written to.", f"chmod u+rwx {directory}")
    elif mode & _OPEN_TO_OTHERS:
        yield warning(
            check,
            f"{directory} is open to others ({mode:04o}): it holds people's data.",
            f"chmod 0750 {directory}",
        )
    else:
        yield ok(check, f"{directory}, {mode:04o}, of {_user(found.st_uid)}.")


def of_file(path: Path) -> Iterator[Finding]:
    """Look at a database of SQLite from outside: its size, its log, and who owns what lies beside it."""
    check = path.name
    try:
        found = path.stat()
    except FileNotFoundError:
        yield warning(check, f"{path} is not there yet.", "start the process that writes it")
        return
    except OSError as error:
        yield failed(check, f"{path} cannot be looked at: {error.strerror}.", None)
        return
    log = size_of(path.with_name(path.name + "-wal"))
    sizes = f"{path}, {size_text(found.st_size)}, log {size_text(log)}"
    shared = path.with_name(path.name + "-shm")
    try:
        sharer = shared.stat().st_uid
    except OSError:
        sharer = found.st_uid
    if sharer != found.st_uid:
        yield failed(
            check,
            f"{shared} belongs to {_user(sharer)}, who has opened the database before {_user(found.st_uid)} "
            "did; the writer may not use it.",
            f"stop all that have {path.name} open, remove {shared.name}, let others read a copy: "
            "kounta-mirror backup FILE",
        )
    elif found.st_uid != os.geteuid():
        yield failed(
            check, f"{path} belongs to {_user(found.st_uid)}.", f"chown {_user(os.geteuid())} {path}"
        )
    elif log > LARGE_LOG_BYTES:
        yield warning(
            check,
            f"{sizes}: somebody keeps a transaction open, so that the log cannot be emptied.",
            f"end the report that reads {path.name}; which: lsof {path}",
        )
    else:
        yield ok(check, f"{sizes}.")


def of_disk(directory: Path, bytes_a_day: float | None) -> Finding:
    """Say how much is left, and for how many days at what comes in now; None: not known."""
    check = "disk"
    there = next(one for one in (directory, *directory.parents) if one.exists())
    free = shutil.disk_usage(there).free
    days = free / bytes_a_day if bytes_a_day else None
    lasts = "" if days is None else f", enough for {_days_text(days)} at what comes in now"
    sentence = f"{size_text(free)} left{lasts}."
    action = f"make room on the disk of {directory}, or lower MIRROR_RETENTION_DAYS"
    if free < TOO_LITTLE_BYTES or (days is not None and days < TOO_FEW_DAYS):
        return failed(check, sentence, action)
    if free < LITTLE_BYTES or (days is not None and days < FEW_DAYS):
        return warning(check, sentence, action)
    return ok(check, sentence)


def size_text(size: float) -> str:
    """Say a size in bytes as people read it: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - SI
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def size_of(path: Path) -> int:
    """Give the bytes of a file; 0 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _days_text(days: float) -> str:
    return "years" if days > 1000 else f"{days:.0f} days"  # noqa: PLR2004 - what nobody plans for


def _user(number: int) -> str:
    try:
        return getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
