"""The receiver's side: which tokens are of use, what was refused, and the way from outside."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from receiver.inbox import Refusal
from receiver.signature import fingerprint
from sync.concerns import SIGNATURE_INVALID, UNAVAILABLE, ago, many
from sync.doctor.finding import Finding, failed, ok, warning

LONG_UNUSED: Final = timedelta(days=7)
RECENTLY: Final = timedelta(hours=24)
_OF_TOKENS: Final = frozenset({"signature_missing", "signature_invalid"})


def of_tokens(tokens: Sequence[bytes], used: Mapping[str, datetime], now: datetime) -> Iterator[Finding]:
    """Say of each token, in the order of the setting, when it verified a delivery last."""
    check = "tokens"
    last = [used.get(fingerprint(token)) for token in tokens]
    if not any(last):
        yield warning(
            check,
            f"{_named(len(tokens))}: no delivery has been verified yet.",
            "kounta-mirror webhooks test; then kounta-mirror webhooks capture --minutes 10",
        )
        return
    newest = max(one for one in last if one is not None)
    for place, one in enumerate(last, 1):
        which = "The token" if len(tokens) == 1 else f"Token {place} of {len(tokens)}"
        if one is None and len(tokens) > 1:
            yield warning(check, f"{which} has never verified a delivery.", "wait for one, or take it out")
        elif one is not None and newest - one > LONG_UNUSED:
            yield warning(
                check,
                f"{which} verified a delivery last {ago(now - one)} ago; others do meanwhile.",
                "take it out of KOUNTA_SIGNATURE_TOKENS: it is no longer needed",
            )
        elif one is not None:
            yield ok(check, f"{which} verified a delivery last {ago(now - one)} ago.")


def of_refusals(refused: Sequence[Refusal], now: datetime, *, heard: bool) -> Iterator[Finding]:
    """Say what the receiver refused, and when last.

    `heard`: a delivery of Kounta's own has verified; then requests of strangers are shown and are no finding.
    """
    check = "refused"
    if not refused:
        yield ok(check, "Nothing was refused.")
    for one in refused:
        sentence = (
            f"{one.count:,} since {one.first_at:%Y-%m-%d %H:%M} UTC, the last {ago(now - one.last_at)} ago: "
        )
        sentence += f"{one.reason}."
        if one.reason in _OF_TOKENS:
            sentence += " Is the token right?"
        recent = now - one.last_at <= RECENTLY
        if recent and one.reason == UNAVAILABLE:
            yield warning(check, sentence, "kounta-mirror status: the queue was full, or the disk")
        elif recent and one.reason == SIGNATURE_INVALID and not heard:
            yield warning(check, sentence, "kounta-mirror webhooks capture --minutes 10")
        else:
            yield ok(check, f"{sentence}{_ADVICE.get(one.reason, '')}")


def of_processes(*, receiver: bool, worker: bool, shared: bool) -> Iterator[Finding]:
    """Say who runs on this machine; on PostgreSQL (`shared`) others may run elsewhere."""
    for name, runs in (("receiver", receiver), ("worker", worker)):
        if runs:
            yield ok(name, "It runs here.")
        elif shared:
            yield warning(
                name, "None runs on this machine.", f"if none runs elsewhere either: kounta-mirror {name}"
            )
        else:
            yield failed(name, "It does not run.", f"kounta-mirror {name}")


def _named(number: int) -> str:
    return many(number, "token is set", "tokens are set")


_ADVICE: Final = {
    "unknown_company": " If it is Kounta, look at the address: kounta-mirror webhooks list.",
    "unknown_topic": " If it is Kounta, look at the address: kounta-mirror webhooks list.",
    "body_too_large": " No customer is that large.",
    "upgrade_unsupported": " No webhook asks to upgrade its connection.",
}
