"""What one worker costs that works for many companies of which nothing comes: processor, statements, memory.

On PostgreSQL and on SQLite, with 1 company and with 100. The companies are filled and nothing is due.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from receiver.database import Place, Server, inbox_of
from receiver.inbox import InboxWriter
from sync.engine import utc_now
from sync.merge.customers import Subscription
from sync.mirror.store import Mirror, MirrorStore
from sync.mirror.sweeps import begin_sweep, end_sweep
from tests.databases import Cluster, asked

NOWHERE = "http://127.0.0.1:9"
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): ")
SETTLED = 120.0  # seconds until each company is worked for
TICK = os.sysconf("SC_CLK_TCK")


async def fill(place: Place, companies: int) -> None:
    """Make the rows of companies whose first sweep is over."""
    store = MirrorStore.open(place, "the bench")
    for company_id in range(1, companies + 1):
        mirror = await Mirror.of(store, company_id, Subscription())
        await end_sweep(mirror, await begin_sweep(mirror, "backfill", utc_now()), utc_now(), None)
    await store.close()
    async with await InboxWriter.open(inbox_of(place)):
        pass


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(process: int) -> float:
    """Give what it has in memory, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def held(place: Place) -> int:
    """Count the companies whose lease somebody holds."""
    (row,) = asked(place, "SELECT count(*) AS count FROM _progress WHERE lease_until >= now()")
    return int(row["count"])


def measure(directory: Path, cluster: Cluster | None, companies: int, seconds: float) -> str:
    place: Place = directory
    environment = {"PATH": os.environ["PATH"], "MIRROR_DATA_DIR": str(directory), "MIRROR_CONSOLE_PORT": "0"}
    if cluster is not None:
        place = Server(directory, cluster.url_of(cluster.fresh()))
        environment["DATABASE_URL"] = place.url
    asyncio.run(fill(place, companies))
    table = f'api_url = "{NOWHERE}"\nclient_id = "client"\nclient_secret_env = "SECRET"\n'
    tables = "".join(f"[companies.{number}]\n{table}" for number in range(1, companies + 1))
    (directory / "mirror.toml").write_text(tables)
    worker = subprocess.Popen(
        [sys.executable, "-m", "sync", "worker"],
        env=environment | {"SECRET": "secret", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=directory,
        stderr=subprocess.PIPE,
    )
    try:
        assert worker.stderr is not None
        for line in worker.stderr:
            if json.loads(line)["event"] == "worker_started":
                break
        time.sleep(10 + companies / 10)
        if cluster is not None:
            began_at = time.monotonic()
            while held(place) < companies:
                assert time.monotonic() - began_at < SETTLED, f"{held(place)} of {companies} are worked for"
                time.sleep(1)
        log = None if cluster is None else cluster.directory / "log"
        start = 0 if log is None else log.stat().st_size
        before, began_at = processor_seconds(worker.pid), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began_at
        share = (processor_seconds(worker.pid) - before) / took
        told = f"{companies:>4} companies: {100 * share:5.1f} % of a core, {memory(worker.pid):4.0f} MB"
        if log is not None:
            statements = len(STATEMENT.findall(log.read_bytes()[start:].decode(errors="replace")))
            told += f", {statements / took:6.1f} statements a second"
        return told
    finally:
        worker.terminate()
        worker.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench companies", description=__doc__)
    parser.add_argument("--companies", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    with Cluster() as cluster:
        cluster.execute("ALTER SYSTEM SET log_statement = 'all'")
        cluster.execute("SELECT pg_reload_conf()")
        for kind, server in (("PostgreSQL", cluster), ("SQLite", None)):
            for companies in given.companies:
                with tempfile.TemporaryDirectory() as directory:
                    told = measure(Path(directory), server, companies, given.seconds)
                sys.stdout.write(f"{kind:<10} {told}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
