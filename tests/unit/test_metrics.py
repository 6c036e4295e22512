"""What a scrape says, and that docs/reference/metrics.md says all of it."""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from receiver.inbox import Refusal, Start
from sync.console.metrics import StatusCollector, exposition
from sync.merge.decisions import Verdict
from sync.merge.doubts import Reason
from sync.mirror.counts import Counted, differed_in
from sync.mirror.figures import Figures
from sync.mirror.gaps import GapRow
from sync.mirror.progress import Progress
from sync.mirror.sweeps import SweepRow
from sync.reconcile.drift import drift_of
from sync.status import Pending, Status
from tests.clock import NOON

HOUR = timedelta(hours=1)
ROW = re.compile(r"\| `(kounta_mirror_\w+)` \| (\w+) \| (?:`(\w+)`)? ?\| (.+) \|")

FULL = Status(
    now=NOON,
    company_id=5678,
    running=True,
    has_inbox=True,
    has_mirror=True,
    figures=Figures(
        progress=Progress(
            inbox_id="one",
            position=9,
            alive_at=NOON - timedelta(seconds=20),
            closed_until=NOON + timedelta(minutes=1),
            upstream_failure="answered 403. Check it.",
            upstream_failure_since=NOON - HOUR,
        ),
        live=60,
        deleted=3,
        verified=50,
        partial=10,
        verdicts={"applied": 5, "unchanged": 2, "failed": 2},
        doubts={"confirmation": 2, "stale": 1},
        held_deletes=12,
        held_since=NOON - timedelta(hours=1),
        oldest_verified_at=NOON - 48 * HOUR,
        last_quarantined_at=None,
        last_delivery_at=NOON,
        last_sweep_at=NOON - HOUR,
    ),
    pending=Pending(
        count=4,
        oldest=NOON - timedelta(minutes=11),
        accepted=(13, 13),
        newest=NOON,
        refused=(Refusal("signature_invalid", 14, NOON - HOUR, NOON),),
        receiver=Start(1, NOON - HOUR, None, NOON - timedelta(seconds=7)),
    ),
    newest_sweep=SweepRow(2, "schedule", NOON, None, False, None, 25, None),
    complete_sweep=SweepRow(1, "backfill", NOON - 2 * HOUR, NOON - HOUR, True, None, 60, None),
    requests_per_minute=60.0,
    drift=drift_of(
        {
            Counted.SAMPLED: 200,
            Counted.DIFFERED: 2,
            Counted.ANNOUNCED: 30,
            Counted.UNANNOUNCED: 10,
            differed_in("email"): 2,
        }
    ),
    gap=GapRow(1, "Nobody listened", NOON - HOUR, NOON, NOON, 0, NOON, None, None, None, None, None),
)
EMPTY = replace(
    FULL,
    has_mirror=False,
    figures=None,
    pending=Pending(),
    newest_sweep=None,
    complete_sweep=None,
    drift=drift_of({}),
    gap=None,
)


def scraped(*statuses: Status, failed: Iterable[int] = (), gets_on: bool = True) -> dict[str, Metric]:
    """Give the metrics of a scrape by name, read as Prometheus reads them."""
    tries = {"answered": 7, "failed": 2}
    looks = [StatusCollector(status, tries, gets_on=gets_on) for status in statuses]
    families = list(text_string_to_metric_families(exposition(looks, failed).decode()))
    named = {family.name: family for family in families}
    assert len(named) == len(families), "a metric is there more than once"
    return named


def values(families: dict[str, Metric]) -> dict[Any, float]:
    """Give the samples by name and, if there is one, the value of the label beside `company`."""
    found: dict[Any, float] = {}
    for family in families.values():
        for sample in family.samples:
            name = sample.name.removeprefix("kounta_mirror_")
            rest = [value for label, value in sample.labels.items() if label != "company"]
            found[(name, *rest) if rest else name] = sample.value
    return found


def test_a_scrape_says_what_status_says() -> None:
    said = values(scraped(FULL))
    assert [said.pop(("deliveries", one)) for one in ("stale", "tombstoned", "contradicted")] == [0, 0, 0]
    low, high = said.pop("drift_low_ratio"), said.pop("drift_high_ratio")
    assert 0 < low < 0.01 < high < 0.05
    assert said == {
        "up": 1,
        ("attention", "warning"): 3,
        ("attention", "critical"): 2,
        ("alert_open", "failed"): 1,
        ("alert_open", "gap"): 1,
        ("alert_open", "held-deletes"): 1,
        ("alert_open", "late"): 1,
        ("alert_open", "upstream"): 1,
        ("deliveries", "applied"): 5,
        ("deliveries", "unchanged"): 2,
        ("deliveries", "quarantined"): 0,
        ("deliveries", "failed"): 2,
        "deliveries_ruled_total": 9,
        "deliveries_pending": 4,
        "deliveries_spooled": 0,
        "oldest_pending_seconds": 660,
        ("refused_total", "signature_invalid"): 14,
        "receiver_last_sign_timestamp_seconds": NOON.timestamp() - 7,
        "gap_open": 1,
        ("customers", "live"): 60,
        ("customers", "deleted"): 3,
        ("customers", "verified"): 50,
        ("customers", "partial"): 10,
        ("verifications_due", "confirmation"): 2,
        ("verifications_due", "stale"): 1,
        "held_deletes": 12,
        "oldest_verified_seconds": 48 * 3600,
        "sweep_last_timestamp_seconds": NOON.timestamp() - 3600,
        "sweep_running": 1,
        "drift_sampled": 200,
        "drift_ratio": 0.01,
        ("drift_attribute_ratio", "email"): 0.01,
        "webhook_loss_ratio": 0.25,
        ("calls_total", "answered"): 7,
        ("calls_total", "failed"): 2,
        "budget_calls_per_minute": 60,
        "budget_closed_until_timestamp_seconds": NOON.timestamp() + 60,
        "worker_alive_timestamp_seconds": NOON.timestamp() - 20,
    }


def test_what_is_not_known_has_no_sample() -> None:
    said = values(scraped(EMPTY, gets_on=False))
    assert said == {
        "up": 0,
        ("attention", "warning"): 0,
        ("attention", "critical"): 0,
        "deliveries_pending": 0,
        "deliveries_spooled": 0,
        "oldest_pending_seconds": 0,
        "gap_open": 0,
        "sweep_running": 0,
        "drift_sampled": 0,
        ("calls_total", "answered"): 7,
        ("calls_total", "failed"): 2,
        "budget_calls_per_minute": 60,
    }


def test_two_companies_share_each_metric() -> None:
    one, two = FULL, replace(FULL, company_id=91011)
    families = scraped(one, two)
    for family in families.values():
        counted = [sample.labels["company"] for sample in family.samples]
        assert set(counted) == {"5678", "91011"}, family.name
        assert counted.count("5678") == counted.count("91011")
    text = exposition([StatusCollector(status, {}, gets_on=True) for status in (one, two)]).decode()
    for name in ("HELP", "TYPE"):
        headed = re.findall(rf"^# {name} (\S+)", text, re.MULTILINE)
        assert sorted(headed) == sorted(set(headed))


def test_of_a_company_whose_work_has_failed_it_is_known_that_it_stands_still() -> None:
    ups = scraped(FULL, failed=[91011])["kounta_mirror_up"].samples
    assert {sample.labels["company"]: sample.value for sample in ups} == {"5678": 1, "91011": 0}
    assert values(scraped(failed=[91011])) == {"up": 0}


def test_every_metric_keeps_to_the_rules_of_its_kind() -> None:
    """As `promtool check metrics` has them: a help text, `_total` for counters alone, base units."""
    units = re.compile(r"_(milli|micro|minutes?|hours?|days?|percent|kilobytes|megabytes)$")
    for family in scraped(FULL).values():
        assert family.documentation.endswith("."), family.name
        assert family.type in {"counter", "gauge"}
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)
        if family.name != "kounta_mirror_budget_calls_per_minute":  # as the setting has it
            assert not units.search(family.name)


@pytest.fixture
def page(pytestconfig: pytest.Config) -> str:
    """The part of the page that is about the worker."""
    page = (pytestconfig.rootpath / "docs/reference/metrics.md").read_text()
    return page.partition("## The receiver's own")[0]


def test_the_page_has_every_metric_with_its_type_and_labels(page: str) -> None:
    told = [(name, kind, label) for name, kind, label, _ in ROW.findall(page)]
    given = [
        (sample.name, family.type, "".join(sample.labels.keys() - {"company"}))
        for family in scraped(FULL).values()
        for sample in family.samples
    ]
    assert len(told) == len(set(told))
    assert set(told) == set(given)


def test_the_page_has_every_verdict_and_every_reason(page: str) -> None:
    meanings = {name: meaning for name, _, _, meaning in ROW.findall(page)}
    assert {one.value for one in Verdict} <= named(meanings["kounta_mirror_deliveries"])
    assert {one.value for one in Reason} <= named(meanings["kounta_mirror_verifications_due"])


def named(meaning: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", meaning))
