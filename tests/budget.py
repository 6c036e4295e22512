"""How much of what is drawn or repeated is tried: a part in the whole check, all in `scripts/test --long`."""

import os
from typing import Final

LONG: Final = os.environ.get("MIRROR_TEST_LONG") == "1"


def tries(short: int, long: int) -> int:
    """Give the number of examples, seeds or kills for this run."""
    return long if LONG else short
