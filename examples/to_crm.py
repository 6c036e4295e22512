"""Tell a CRM of each change of a customer, in order and at least once: `seq` tells a repetition.

CRM_URL=https://crm.example/changes python examples/to_crm.py
"""

import os
from pathlib import Path
from typing import Any

import httpx2
from tenacity import retry, stop_after_delay, wait_random_exponential

from sync.mirror import open_mirror

CURSOR = Path(os.environ.get("CRM_CURSOR", "crm.seq"))  # the last change that the CRM has taken


@retry(wait=wait_random_exponential(max=30), stop=stop_after_delay(600), reraise=True)
def tell(crm: httpx2.Client, change: dict[str, Any]) -> None:
    crm.post(os.environ["CRM_URL"], json=change).raise_for_status()


with open_mirror() as mirror, httpx2.Client(timeout=30) as crm:
    for change in mirror.follow(int(CURSOR.read_text()) if CURSOR.exists() else 0):
        tell(crm, change.as_json())
        beside = CURSOR.with_suffix(".new")
        beside.write_text(str(change.seq))
        beside.replace(CURSOR)  # a kill leaves the old number or the new one
