"""The command `backup`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads annotations

from sync.cli.company import Company  # noqa: TC001 - the same
from sync.cli.permissions import Mode  # noqa: TC001 - the same


def backup(file: Path, /, *, mode: Mode = None, company: Company = None, json: bool = False) -> None:
    """Copy the mirror, as it is at one moment, into one file of SQLite that needs nothing beside it.

    Nobody has to stop meanwhile, on PostgreSQL neither. The copy holds every company, or with --company that
    one alone; OAuth tokens stay out of it. It is checked before it takes the place of an older one. How to
    restore it: docs/how-to/backup.md.

    Parameters
    ----------
    file
        Where the copy goes. An older copy there is replaced.
    json
        Print a JSON object: file, bytes.
    """
    import json as json_format

    from receiver.settings import companies
    from sync.cli.interruption import interruptible
    from sync.cli.progress import Bar
    from sync.mirror.backup import back_up
    from sync.settings import MirrorSettings

    settings = MirrorSettings.load(company or companies()[0])
    with interruptible(), Bar() as bar:
        back_up(
            settings.place,
            file,
            company_id=company,
            mode=mode,
            show=lambda done, total: bar.show("Copying the mirror", done, total),
        )
    size = file.stat().st_size
    if json:
        sys.stdout.write(json_format.dumps({"file": str(file), "bytes": size}) + "\n")
    else:
        sys.stdout.write(f"The mirror was copied to {file} ({size / 1_000_000:,.1f} MB).\n")
