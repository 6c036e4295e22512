"""What Kounta says of the credentials, the clock and the webhooks. Pure: it reads what was asked."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sync.doctor.finding import Finding, failed, ok, skipped, warning

TOLERATED_SECONDS: Final = 2.0
"""The merge's window. `Date` counts whole seconds and answers take a moment: one more is no difference."""
FAR_SECONDS: Final = 60.0


def of_credentials(company_id: int, said: Mapping[str, Any]) -> Finding:
    """Say whose the credentials are."""
    check = "credentials"
    if said["complaint"] is not None:
        return failed(check, said["complaint"], "kounta-mirror init, or kounta-mirror login for OAuth")
    if said["company_id"] != company_id:
        return failed(
            check,
            f"They are those of {said['company']}, not of company {company_id}.",
            "correct KOUNTA_COMPANY_ID, or the credentials: kounta-mirror init",
        )
    return ok(check, f"They are those of {said['company']}.")


def of_clock(said: Mapping[str, Any]) -> Finding:
    """Say whether both clocks agree: times of both are compared."""
    check, ahead = "clock", said["clock_ahead_seconds"]
    if ahead is None:
        return skipped(check, "Kounta has not said what time it is.")
    off = abs(ahead)
    if off <= TOLERATED_SECONDS + 1:
        return ok(check, "It agrees with Kounta's.")
    side = "ahead of" if ahead > 0 else "behind"
    found = failed if off > FAR_SECONDS else warning
    return found(check, f"It is {off:.0f} s {side} Kounta's.", "set it by NTP: timedatectl set-ntp true")


def of_registration(said: Mapping[str, Any], public_url: str | None) -> Iterator[Finding]:
    """Say whether the three webhooks are registered where they should be."""
    check = "webhooks"
    if said["webhooks_complaint"] is not None:
        yield failed(check, said["webhooks_complaint"], "kounta-mirror webhooks list")
        return
    if said["webhooks"] is None:
        yield skipped(check, "Kounta could not be asked.")
        return
    ours = [row for row in said["webhooks"] if row["owner"] == "ours"]
    gone = [row["topic"] for row in ours if row["gone"]]
    if public_url is None:
        yield warning(
            check,
            "MIRROR_PUBLIC_URL is not set, so this mirror keeps none registered.",
            "set it, then kounta-mirror webhooks ensure; or register them by hand",
        )
    elif said["public_url"] is None:
        yield warning(check, "None was registered by this mirror.", "kounta-mirror webhooks ensure")
    elif said["public_url"] != public_url:
        yield failed(
            check,
            f"They are registered at {said['public_url']}, and MIRROR_PUBLIC_URL is {public_url}.",
            "kounta-mirror webhooks ensure",
        )
    elif gone:
        yield failed(check, f"Gone at Kounta: {', '.join(gone)}.", "kounta-mirror webhooks ensure")
    else:
        yield ok(check, f"{len(ours)} are registered at {public_url}.")
