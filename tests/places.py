"""Where both stores of a test lie, as the settings say it, and what is wrong with the mirror there."""

import json
from collections.abc import Collection

from receiver.database import Place, Server, directory_of
from sync.demo.comparison import wrong_among
from sync.sandbox import Sandbox
from tests.databases import asked


def settings_of(place: Place) -> dict[str, str]:
    """Give the settings, by the names of their variables, of a process that has both stores there."""
    directory = {"MIRROR_DATA_DIR": str(directory_of(place))}
    return directory | {"DATABASE_URL": place.url} if isinstance(place, Server) else directory


def wrong_in(place: Place, sandbox: Sandbox, subscribed: Collection[str]) -> dict[int, str]:
    """Say for each customer whose row is wrong what is wrong with it."""
    company = sandbox.company
    truth = json.loads(json.dumps(list(company.truth()), default=str))
    rows = asked(place, "SELECT * FROM all_customers")
    return wrong_among(rows, truth, list(company.customers.deleted), subscribed)
