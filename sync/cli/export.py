"""The command `export`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads annotations

from sync.cli.company import Company  # noqa: TC001 - the same
from sync.cli.moments import ZonedMoment  # noqa: TC001 - the same
from sync.cli.permissions import Mode  # noqa: TC001 - the same


def export(
    file: Path,
    /,
    *,
    as_of: ZonedMoment = None,
    mode: Mode = None,
    company: Company = None,
    json: bool = False,
) -> None:
    """Write the customers of one moment to FILE.csv or FILE.parquet: the columns of the view customers.

    Every company that is configured is in it, or with --company that one alone. The file is complete before
    it takes the place of an older one. Parquet needs an extra: pip install 'kounta-mirror[export]'.

    Parameters
    ----------
    file
        Where they go; .csv or .parquet says in which format. An older file there is replaced.
    as_of
        As the mirror had them at that time, without verified_at and partial: an age (15min, 2h, 3d), or
        ISO 8601 with its zone.
    json
        Print a JSON object: file, customers, bytes, as_of.
    """
    import json as json_format

    from receiver.database import utc_text
    from receiver.settings import companies
    from sync.cli.interruption import interruptible
    from sync.cli.progress import Bar
    from sync.mirror.export import export_customers
    from sync.settings import MirrorSettings

    chosen = companies() if company is None else (company,)
    settings = MirrorSettings.load(chosen[0])
    with interruptible(), Bar() as bar:

        def show(done: int, total: int) -> None:
            bar.show("Writing customers", done, total)

        written = export_customers(
            settings.place, file, chosen, as_of=as_of, mode=mode, show=show if bar.is_seen else None
        )
    if json:
        moment = None if as_of is None else utc_text(as_of)
        told = {"file": str(file), **written._asdict(), "as_of": moment}
        sys.stdout.write(json_format.dumps(told) + "\n")
    else:
        number = f"{written.customers:,} customer{' was' if written.customers == 1 else 's were'}"
        sys.stdout.write(f"{number} written to {file} ({written.bytes / 1_000_000:,.1f} MB).\n")
