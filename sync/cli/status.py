"""The command `status`."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Any

from sync.cli.company import Company  # noqa: TC001 - cyclopts reads annotations
from sync.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync.settings import MirrorSettings
    from sync.status import Status


async def status(*, company: Company = None, json: bool = False, check: bool = False) -> int:
    """Say how the mirror is: a sentence first, then what needs attention and the figures.

    Where several companies are configured and none is named, it says a sentence of each.

    Parameters
    ----------
    json
        Print one JSON object instead.
    check
        End as monitors expect: 0 all is well, 1 warning, 2 critical.
    """
    from receiver.settings import CompanyNotChosen
    from sync.settings import MirrorSettings

    try:
        chosen = [MirrorSettings.load(company)]
    except CompanyNotChosen:
        if json:
            raise
        chosen = list(MirrorSettings.load_all().values())
    try:
        found = await _statuses(chosen)
    except Exception as error:
        from sync.cli import explained
        from sync.concerns import CRITICAL

        waiting = await _waiting(chosen)
        if not check and not waiting:
            raise
        sentence, code = explained(error)
        sys.stderr.write(" ".join(f"{sentence}{waiting}".split()) + "\n")
        return CRITICAL if check else code  # to a monitor, what cannot be told is the worst
    if json:
        sys.stdout.write(json_format.dumps(found[0].as_json()) + "\n")
    elif len(found) == 1:
        _print(found[0].as_json())
    else:
        print_table([(one.company_id, one.sentence()) for one in found])
    worst = max((concern.severity for one in found for concern in one.concerns()), default=0)
    return worst if check else 0


async def _statuses(companies: Sequence[MirrorSettings]) -> list[Status]:
    from sync.engine import utc_now
    from sync.status import status_of

    return [await status_of(settings, utc_now()) for settings in companies]


async def _waiting(companies: Sequence[MirrorSettings]) -> str:
    """Say what waits on this machine, which is all that can be said while PostgreSQL is away."""
    from receiver.spool import look
    from sync.concerns import spooled_sentence
    from sync.engine import utc_now

    spooled = [await look(settings.data_dir, settings.company_id) for settings in companies]
    return "".join(f" {spooled_sentence(one, utc_now())}" for one in spooled if one and one.count)


def _print(said: dict[str, Any]) -> None:
    sys.stdout.write(said["sentence"] + "\n")
    for concern in said["attention"][1:]:
        action = f" → {concern['action']}" if concern["action"] else ""
        sys.stdout.write(f"  {concern['sentence']}{action}\n")
    sys.stdout.write("\n")
    doubts, sweep = said["verifications"], said["sweep"]
    print_table(
        [
            ("deliveries", _counted(said["deliveries"])),
            ("customers", _counted(said["customers"])),
            ("to be read", _counted(doubts["by_reason"])),
            ("last sweep", (sweep["last_at"] or "none yet") + (", one is running" * sweep["running"])),
            ("oldest proof", said["freshness"]["oldest_verified_at"] or "none yet"),
            ("receiver", _receiver(said["receiver"])),
            ("last gap", _gap(said["gap"])),
            *([("refused", _refused(said["refused"]))] if said["refused"] else []),
            ("drift", _drift(said["drift"])),
            ("lost webhooks", _lost(said["webhook_loss"])),
        ]
    )


def _receiver(receiver: dict[str, Any] | None) -> str:
    if receiver is None:
        return "none yet"
    return f"{'stopped at' if receiver['stopped_at'] else 'last sign of life'} {receiver['last_sign_at']}"


def _gap(gap: dict[str, Any] | None) -> str:
    """Say since when and until when deliveries may have been lost, and what the sweep after it repaired."""
    if gap is None:
        return "none known"
    when = f"{gap['since'] or 'nobody knows since when'}, until {gap['until'] or gap['noticed_at']}"
    if gap["mended_at"] is None:
        return f"{when}; not mended yet"
    return f"{when}; repaired: " + ", ".join(
        f"{gap[what]:,} {what}" for what in ("created", "updated", "deleted")
    )


def _refused(refused: dict[str, Any]) -> str:
    """Say what was refused, by reason; most of it is noise of the internet, and no problem."""
    newest_first = sorted(refused.items(), key=lambda item: item[1]["last_at"], reverse=True)
    return ", ".join(f"{one['count']:,} {reason} (last {one['last_at']})" for reason, one in newest_first)


def _drift(drift: dict[str, Any]) -> str:
    """Say how many rows are wrong without anybody knowing."""
    if not drift["sampled"]:
        return "not known yet: nobody was drawn at random in the last 7 days"
    worst = max(drift["by_attribute"].items(), key=lambda one: one[1]["rate"], default=None)
    most = f", most in {worst[0]}" if worst else ""
    return (
        f"{drift['rate']:.2%} of customers ({drift['low']:.2%} to {drift['high']:.2%}) differ and nothing "
        f"says so{most}; {drift['sampled']:,} drawn in 7 days"
    )


def _lost(loss: float | None) -> str:
    return "not known yet: nothing changed in the last 7 days" if loss is None else f"{loss:.1%} in 7 days"


def _counted(numbers: dict[str, int]) -> str:
    """Say those that are not 0."""
    return ", ".join(f"{number:,} {what}" for what, number in numbers.items() if number) or "none"
