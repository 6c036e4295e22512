"""What the check-up says of what it has seen."""

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.inbox import Refusal
from receiver.signature import fingerprint
from sync.doctor import disk
from sync.doctor.behaviours import of_observations
from sync.doctor.disk import of_directory, of_disk, of_file, size_text
from sync.doctor.fields import of_fields
from sync.doctor.finding import Outcome
from sync.doctor.kounta import of_clock, of_credentials, of_registration
from sync.doctor.receiving import of_processes, of_refusals, of_tokens
from sync.mirror.observations import Observation
from sync.mirror.unread import Unread

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SAID = {
    "company_id": 5678,
    "company": "Harbour Roasters (company 5678)",
    "complaint": None,
    "clock_ahead_seconds": 0.4,
    "public_url": "https://mirror.example",
    "webhooks": [{"owner": "ours", "topic": "customers/created", "gone": False}],
    "webhooks_complaint": None,
}


def outcomes(findings: Any) -> list[str]:
    return [str(one.outcome) for one in findings]


def test_fields_that_cannot_be_read_are_told_with_counts_and_a_missing_mobile_is_no_fault() -> None:
    unread = Unread(Counter(email=2, other=1), Counter(phone=1200))
    strange, missing = of_fields(unread, mobile_read=True)
    assert strange.sentence == (
        "Kounta sent values that cannot be understood: email of 2 customers, other of 1 customer."
    )
    assert missing.sentence == "Kounta's answers lack attributes: phone of 1,200 customers."
    assert outcomes([strange, missing]) == ["warning", "warning"]
    assert outcomes(of_fields(Unread(), mobile_read=None)) == ["ok"]
    without, _ = of_fields(Unread(), mobile_read=False)
    assert (without.outcome, "mobile" in without.sentence) == (Outcome.OK, True)


def test_a_directory_that_others_can_read_is_told_with_the_command(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (found,) = of_directory(tmp_path)
    assert (found.outcome, found.action) == (Outcome.WARNING, f"chmod 0750 {tmp_path}")
    tmp_path.chmod(0o750)
    assert outcomes(of_directory(tmp_path)) == ["ok"]
    assert outcomes(of_directory(tmp_path / "none")) == ["warning"]


def test_files_of_somebody_else_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mirror.db"
    path.write_bytes(b"x")
    assert outcomes(of_file(path)) == ["ok"]
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert outcomes(of_file(path)) == ["failed"]
    assert outcomes(of_directory(tmp_path)) == ["failed"]


def test_who_took_the_shared_memory_from_the_writer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mirror.db"
    path.write_bytes(b"x")
    (tmp_path / "mirror.db-shm").write_bytes(b"x")
    look = Path.stat

    def stat(self: Path) -> Any:
        found = look(self)
        if self.suffix != ".db-shm":
            return found
        return os.stat_result((*found[:4], 987_654, *found[5:]))

    monkeypatch.setattr(Path, "stat", stat)
    (found,) = of_file(path)
    assert found.outcome is Outcome.FAILED
    assert "belongs to user 987654" in found.sentence


def test_a_log_that_cannot_be_emptied_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mirror.db"
    path.write_bytes(b"x")
    with (tmp_path / "mirror.db-wal").open("wb") as log:
        log.truncate(disk.LARGE_LOG_BYTES + 1)
    (found,) = of_file(path)
    assert (found.outcome, found.action) == (
        Outcome.WARNING,
        f"end the report that reads mirror.db; which: lsof {path}",
    )


@pytest.mark.parametrize(
    ("free", "bytes_a_day", "outcome"),
    [
        (1 << 40, None, "ok"),
        (1 << 40, 1e6, "ok"),
        (1 << 40, 1e11, "warning"),
        (1 << 40, 1e12, "failed"),
        (1 << 29, None, "warning"),
        (1 << 20, None, "failed"),
    ],
)
def test_the_disk_is_judged_by_the_days_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, bytes_a_day: float | None, outcome: str
) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert of_disk(tmp_path / "data", bytes_a_day).outcome == outcome


def test_sizes_are_said_as_people_read_them() -> None:
    assert [size_text(size) for size in (0, 999, 1_500, 2.5e6, 7e13)] == [
        *("0 B", "999 B", "1.5 kB", "2.5 MB", "70.0 TB"),
    ]


def test_credentials_of_another_company_are_no_good() -> None:
    assert of_credentials(5678, SAID).outcome is Outcome.OK
    assert of_credentials(1, SAID).outcome is Outcome.FAILED
    assert of_credentials(5678, SAID | {"complaint": "401: no"}).sentence == "401: no"


@pytest.mark.parametrize(
    ("ahead", "outcome"),
    [(None, "skipped"), (0.4, "ok"), (-2.9, "ok"), (3.5, "warning"), (-30, "warning"), (61, "failed")],
)
def test_a_clock_is_judged_by_the_window_of_the_merge(ahead: float | None, outcome: str) -> None:
    assert of_clock(SAID | {"clock_ahead_seconds": ahead}).outcome == outcome


@pytest.mark.parametrize(
    ("also", "public_url", "outcome"),
    [
        ({}, "https://mirror.example", "ok"),
        ({}, "https://other.example", "failed"),
        ({}, None, "warning"),
        ({"public_url": None}, "https://mirror.example", "warning"),
        ({"webhooks": None}, "https://mirror.example", "skipped"),
        ({"webhooks_complaint": "403"}, "https://mirror.example", "failed"),
        (
            {"webhooks": [{"owner": "ours", "topic": "customers/created", "gone": True}]},
            "https://mirror.example",
            "failed",
        ),
    ],
)
def test_the_registration_is_where_it_should_be(also: Any, public_url: str | None, outcome: str) -> None:
    assert outcomes(of_registration(SAID | also, public_url)) == [outcome]


def test_the_old_token_can_go_once_the_new_one_alone_is_of_use() -> None:
    old, new = b"old-token", b"new-token"
    assert outcomes(of_tokens([old], {}, NOW)) == ["warning"]
    used = {fingerprint(old): NOW - timedelta(days=9)}
    assert outcomes(of_tokens([old, new], used, NOW)) == ["ok", "warning"]
    used[fingerprint(new)] = NOW
    first, second = of_tokens([old, new], used, NOW)
    assert (first.outcome, second.outcome) == (Outcome.WARNING, Outcome.OK)
    assert "take it out of KOUNTA_SIGNATURE_TOKENS" in str(first.action)
    assert old.decode() not in first.sentence


def test_what_was_refused_lately_leads_to_the_token() -> None:
    def refused(reason: str, hours: float) -> Refusal:
        return Refusal(reason, 14, NOW - timedelta(days=2), NOW - timedelta(hours=hours))

    assert outcomes(of_refusals([], NOW, heard=True)) == ["ok"]
    assert outcomes(of_refusals([refused("signature_invalid", 30)], NOW, heard=False)) == ["ok"]
    (found,) = of_refusals([refused("signature_invalid", 1)], NOW, heard=False)
    assert found.action == "kounta-mirror webhooks capture --minutes 10"
    assert found.sentence.endswith("signature_invalid. Is the token right?")
    assert outcomes(of_refusals([refused("unavailable", 1)], NOW, heard=True)) == ["warning"]


@pytest.mark.parametrize("heard", [True, False])
def test_what_strangers_sent_is_shown_and_no_finding(*, heard: bool) -> None:
    for reason in ("unknown_company", "method_not_allowed", "upgrade_unsupported", "signature_missing"):
        (found,) = of_refusals([Refusal(reason, 14, NOW, NOW)], NOW, heard=heard)
        assert found.outcome is Outcome.OK
        assert f"14 since 2026-11-24 12:00 UTC, the last 0 s ago: {reason}." in found.sentence


def test_a_process_may_run_elsewhere_only_on_postgresql() -> None:
    assert outcomes(of_processes(receiver=True, worker=False, shared=False)) == ["ok", "failed"]
    assert outcomes(of_processes(receiver=False, worker=True, shared=True)) == ["warning", "ok"]


def test_what_upstream_has_shown_is_told_by_its_name() -> None:
    seen = [
        Observation("null-writes", 1203, NOW - timedelta(days=9), NOW - timedelta(minutes=3)),
        Observation("gone", 1, NOW - timedelta(days=2), NOW - timedelta(days=2)),
        Observation("later", 1, NOW, NOW),
    ]
    said = [one.sentence for one in of_observations(seen, NOW)]
    assert said[0].startswith(
        "null-writes: a write was answered with null, no body, or an HTML page; 1,203 times"
    )
    assert said[1].startswith("gone: a read was answered 410; once, ")
    assert said[2].startswith("later: of another version of this program; once")
    assert outcomes(of_observations([], NOW)) == ["ok"]
