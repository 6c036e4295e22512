"""How soon a process has to stop: within 4 s on a machine of its own, for honcho ends it after 5."""

import os
from typing import Final

STOP_SECONDS: Final = 4.0


def stop_seconds() -> float:
    """Give the seconds that a stop may take here and now, where other tests run, too."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return STOP_SECONDS * min(max(1.0, load), 4.0)
