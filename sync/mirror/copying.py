"""How the mirror goes from a file into a schema."""

from typing import Final

from receiver.copying import Store
from sync.mirror.reader import MIGRATIONS
from sync.mirror.schema import METADATA, TAGS

MIRROR: Final = Store("mirror", METADATA, MIGRATIONS, made_by_triggers=frozenset({TAGS.name}))
