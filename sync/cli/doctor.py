"""The command `doctor`."""

from __future__ import annotations

import json as json_format
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations

if TYPE_CHECKING:
    from sync.doctor.finding import Finding
    from sync.settings import WorkerSettings

_MARKS: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "skipped": "skipped"}


async def doctor(
    *, quick: Annotated[bool, Parameter(negative="")] = False, company: Company = None, json: bool = False
) -> int:
    """Look at everything that can be wrong with an installation, and say for each finding what to do.

    Settings, directory and files, damage, disk, database, processes, tokens, refusals, credentials, clock,
    registration, the way through the public URL, behaviours of Kounta seen so far, and what `status`
    finds. Kounta is asked twice, and a ping is sent through MIRROR_PUBLIC_URL; nothing else changes. Ends
    with 1 if something failed.

    Parameters
    ----------
    quick
        Do not read the database files through to find damage.
    json
        Print a JSON object: ok, and findings, each with check, outcome, sentence, action.
    """
    from sync.doctor.examination import examination
    from sync.doctor.finding import Outcome
    from sync.engine import utc_now

    findings: list[Finding] = []
    async with aclosing(examination(company, _ask_upstream, utc_now(), quick=quick)) as found:
        async for finding in found:
            findings.append(finding)
            if not json:
                _print(finding)
    bad = any(one.outcome is Outcome.FAILED for one in findings)
    if json:
        said = {"ok": not bad, "findings": [one.as_json() for one in findings]}
        sys.stdout.write(json_format.dumps(said) + "\n")
    return int(bad)


def _print(finding: Finding) -> None:
    from sync.cli.tables import cell

    action = f" → {finding.action}" if finding.action else ""
    line = f"{_MARKS[finding.outcome]:<8} {finding.check:<12} {finding.sentence}{action}"
    sys.stdout.write(cell(line) + "\n")
    sys.stdout.flush()


async def _ask_upstream(settings: WorkerSettings) -> dict[str, Any]:
    """Have the worker ask, or ask in this process, which owns the mirror meanwhile."""
    from sync.cli.owner import ask, worker_client

    client = worker_client(settings)
    if client is not None:
        async with client:
            return await ask(client, "/upstream", {})

    from sync.console.upstream import asked_upstream
    from sync.engine import open_engine

    async with open_engine(settings, "kounta-mirror doctor") as engine:
        return await asked_upstream(engine)
