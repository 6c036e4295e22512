"""The command `webhooks capture`: refused requests in a file, and whether a token verifies them."""

from __future__ import annotations

import asyncio
import json as json_format
import os
import sys
from base64 import b64decode
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter, validators

from receiver.errors import MirrorError
from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.owner import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from receiver.settings import Settings

FILE: Final = "captured.jsonl"
MOST_REQUESTS: Final = 1_000
MOST_BYTES: Final = 64 * 1024 * 1024


async def capture(
    *,
    minutes: Annotated[float | None, Parameter(validator=validators.Number(gt=0, lte=24 * 60))] = None,
    try_: Annotated[str | None, Parameter(name="--try")] = None,
    discard: Annotated[bool, Parameter(negative="")] = False,
    company: Company = None,
    json: bool = False,
) -> int:
    """Find the right token: keep refused requests for a while, and say whether a token verifies them.

    Requests whose signature is missing or does not verify are written to captured.jsonl in the data
    directory, for this user alone; they are never applied. The file stays until the next capture or
    --discard: it holds customers' data. A receiver has to run on this machine.

    Parameters
    ----------
    minutes
        Capture for so long; Ctrl-C ends it earlier.
    try_
        Say of each captured request whether this token verifies it; "-" reads the token from stdin, which
        keeps it out of the shell's history. Ends with 1 unless it verifies all that carry a signature.
    discard
        Remove the file.
    json
        Print a JSON object: file, captured, by_reason; or with --try: verified, of, requests.
    """
    from receiver.settings import Settings

    if sum((minutes is not None, try_ is not None, discard)) != 1:
        raise UsageError("Say one of --minutes N, --try TOKEN, --discard.")
    settings = Settings.load(company)
    file = settings.data_dir / FILE
    if discard:
        file.unlink(missing_ok=True)
        return 0
    if try_ is not None:
        return _tried(file, _token(try_), settings.company_id, json=json)
    assert minutes is not None  # noqa: S101 - one of the three
    return await _captured(settings, file, minutes, json=json)


async def _captured(settings: Settings, file: Path, minutes: float, *, json: bool) -> int:
    reasons: Counter[str] = Counter()
    size = 0
    descriptor: int | None = None
    try:
        async with aclosing(_refused(settings)) as lines:
            async with asyncio.timeout(minutes * 60) as patience:
                async for line in lines:
                    if descriptor is None:  # it has begun
                        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                        os.fchmod(descriptor, 0o600)  # one that was there may have been open to others
                        sys.stderr.write(f"Capturing for {minutes:g} min; Ctrl-C ends it.\n")
                        continue
                    reasons[line["reason"]] += 1
                    written = json_format.dumps({"company_id": settings.company_id, **line}) + "\n"
                    size += os.write(descriptor, written.encode())
                    sys.stderr.write(f"{line['topic']}: {line['reason']}\n")
                    if reasons.total() == MOST_REQUESTS or size >= MOST_BYTES:
                        sys.stderr.write("These are as many as are kept.\n")
                        break
    except TimeoutError:
        if not patience.expired():
            raise
    except asyncio.CancelledError:  # Ctrl-C
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it runs in one
        task.uncancel()
    finally:
        if descriptor is not None:
            os.close(descriptor)
    if json:
        said = {"file": str(file), "captured": reasons.total(), "by_reason": dict(reasons)}
        sys.stdout.write(json_format.dumps(said) + "\n")
    elif reasons:
        counted = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        sys.stdout.write(f"Captured in {file}: {counted}.\n")
        sys.stdout.write("Try a token on them: kounta-mirror webhooks capture --try -\n")
    else:
        sys.stdout.write("Nothing was refused meanwhile.\n")
    return 0


async def _refused(settings: Settings) -> AsyncGenerator[dict[str, Any], None]:
    """Give what the receiver tells: nothing yet once it has begun, then each refused request."""
    from receiver.local import connect_locally
    from sync.cli.owner import follow

    client = connect_locally(settings.data_dir, "receiver")
    if client is None:
        raise MirrorError(
            f"No receiver runs on {settings.data_dir}, so nothing can be captured. "
            "Start it: kounta-mirror receiver"
        )
    async with (
        client,
        aclosing(follow(client, "/capture", {"company_id": settings.company_id}, of="receiver")) as lines,
    ):
        async for line in lines:
            if "error" in line:
                raise MirrorError(line["error"])
            yield line


def _token(given: str) -> bytes:
    from sync.cli.questions import line_of_stdin

    token = (line_of_stdin() or "").strip() if given == "-" else given.strip()
    if not token:
        raise UsageError("The token is empty. Give it after --try, or as a line on stdin after --try -.")
    return token.encode()


def _tried(file: Path, token: bytes, company_id: int, *, json: bool) -> int:
    from receiver.signature import Verified, verify
    from sync.cli.tables import cell, print_table

    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise MirrorError(
            f"There is no {file}. Capture some requests first: kounta-mirror webhooks capture --minutes 10"
        ) from None
    requests = [one for one in map(json_format.loads, lines) if one["company_id"] == company_id]
    rows = []
    for one in requests:
        signatures = [value.encode("latin-1") for value in one["signatures"]]
        verdict = verify(b64decode(one["body_base64"]), signatures, [token])
        said = "verifies" if isinstance(verdict, Verified) else verdict.reason
        rows.append((one["topic"], one["reason"], said))
    signed = sum(reason != "signature_missing" for _, reason, _ in rows)
    verified = sum(said == "verifies" for _, _, said in rows)
    if json:
        told = [dict(zip(("topic", "reason", "tried"), row, strict=True)) for row in rows]
        sys.stdout.write(json_format.dumps({"verified": verified, "of": signed, "requests": told}) + "\n")
    else:
        print_table((list(map(cell, row)) for row in rows), ("topic", "refused as", "with this token"))
    if not signed:
        sys.stderr.write("None of the captured requests carries a signature: no token can verify them.\n")
    elif verified == signed:
        sys.stderr.write("It is the right token: put it into KOUNTA_SIGNATURE_TOKENS.\n")
    else:
        sys.stderr.write(f"It verifies {verified} of {signed}.\n")
    return int(not signed or verified < signed)
