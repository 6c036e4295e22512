"""Schema versions, for those who only read a database: its owner alone changes them."""

from receiver.database import Database, NewerDatabase, StoreMissing, schema_revision


def require_version(database: Database, script_location: str) -> None:
    """See to it that `database` has the schema that this program reads.

    `script_location` is what `migrate` takes.

    Raises NewerDatabase, or StoreMissing while its owner has not made it or not yet brought it up to date.
    """
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    found = schema_revision(database)
    config = Config()
    config.set_main_option("script_location", script_location)
    script = ScriptDirectory.from_config(config)
    wanted = script.get_current_head()
    if found == wanted:
        return
    if found is None:
        raise StoreMissing(f"{database} has no tables yet: the process that writes it is about to start.")
    if found in {revision.revision for revision in script.walk_revisions()}:
        raise StoreMissing(
            f"{database} has schema version {found}, and this program reads version {wanted}: "
            "start the process that writes it, or run kounta-mirror migrate."
        )
    raise NewerDatabase(
        f"{database} has schema version {found}, and this program knows versions up to {wanted}: "
        "a newer kounta-mirror has written it. Use that version here, too."
    )
