"""The command `migrate`: both schemas, brought to this version."""

import sys

from sync.cli.company import Company


def migrate(*, company: Company = None) -> None:
    """Bring the schema of both databases to this version; receiver and worker do it when they start, too.

    Neither may run meanwhile. A migration that fails leaves the database as it was, and says why. The
    databases are those of all companies, whichever is named.
    """
    from receiver.database import migrate as migrate_database
    from receiver.inbox.schema import MIGRATIONS
    from receiver.ownership import Ownership
    from receiver.settings import Settings, companies
    from sync.inbox import inbox_path
    from sync.mirror.store import OWNER, migrate_mirror

    settings = Settings.load(company or companies()[0])
    with (
        Ownership.take(settings.data_dir, "inbox", "kounta-mirror migrate"),
        Ownership.take(settings.data_dir, OWNER, "kounta-mirror migrate"),
    ):
        migrate_database(inbox_path(settings.data_dir), MIGRATIONS)
        migrate_mirror(settings.data_dir)
    sys.stdout.write(f"The databases in {settings.data_dir} have this version's schema.\n")
