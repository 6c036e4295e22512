"""What `status` says, as Prometheus metrics of a company; docs/reference/metrics.md explains each."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sync.concerns import CRITICAL, WARNING
from sync.merge.decisions import Verdict
from sync.reconcile.drift import Drift
from sync.status import Status


class StatusCollector(Collector):
    """One look at one company. What is not known has no sample."""

    def __init__(self, status: Status, tries: Mapping[str, int], *, gets_on: bool) -> None:
        """Make it of what `status` says, and of calls to Kounta by outcome, as Kounta counts them."""
        self._status = status
        self._tries = tries
        self._gets_on = gets_on
        self._company = str(status.company_id)

    def collect(self) -> Iterable[Metric]:
        """Give every metric of the company."""
        yield from self._of_deliveries()
        yield from self._of_customers()
        yield from self._of_proof()
        yield from self._of_work()

    def _of_deliveries(self) -> Iterator[Metric]:
        status, pending = self._status, self._status.pending
        verdicts = status.figures.verdicts if status.figures else None
        ruled = None if verdicts is None else {one.value: verdicts.get(one.value, 0) for one in Verdict}
        yield self._gauges("deliveries", "Deliveries by the verdict they have now.", ruled, "verdict")
        total = None if ruled is None else sum(ruled.values())
        yield self._counter("deliveries_ruled", "Deliveries that have got a verdict.", total)
        yield self._gauge("deliveries_pending", "Deliveries without a verdict.", pending.count)
        age = (status.now - pending.oldest).total_seconds() if pending.oldest else 0
        yield self._gauge("oldest_pending_seconds", "Age of the oldest delivery without a verdict.", age)
        spooled = status.spooled.count if status.spooled else 0
        yield self._gauge("deliveries_spooled", "Deliveries that wait here for PostgreSQL.", spooled)
        refused = {one.reason: one.count for one in pending.refused}
        yield self._counters("refused", "Requests that the receiver refused.", refused, "reason")
        sign = pending.receiver.last_sign if pending.receiver else None
        yield self._moment("receiver_last_sign", "When the receiver last noted that it can store.", sign)
        is_open = status.gap is not None and status.gap.mended_at is None
        yield self._gauge("gap_open", "1 while the newest gap is not mended.", is_open)

    def _of_customers(self) -> Iterator[Metric]:
        figures = self._status.figures
        names = ("live", "deleted", "verified", "partial")
        counts = None if figures is None else {name: getattr(figures, name) for name in names}
        yield self._gauges("customers", "Customers of the mirror.", counts, "state")
        doubts = None if figures is None else figures.doubts
        yield self._gauges("verifications_due", "Customers that are to be read.", doubts, "reason")
        held = None if figures is None else figures.held_deletes
        yield self._gauge("held_deletes", "Deletions that wait for a person.", held)
        verified = figures.oldest_verified_at if figures else None
        age = (self._status.now - verified).total_seconds() if verified else None
        yield self._gauge("oldest_verified_seconds", "Age of the oldest proof of a live customer.", age)

    def _of_proof(self) -> Iterator[Metric]:
        newest, complete, drift = self._status.newest_sweep, self._status.complete_sweep, self._status.drift
        finished = complete.finished_at if complete else None
        yield self._moment("sweep_last", "When the last complete sweep ended.", finished)
        running = newest is not None and newest.finished_at is None
        yield self._gauge("sweep_running", "1 while a sweep is under way.", running)
        yield from self._of_drift(drift)
        loss = drift.webhook_loss
        yield self._gauge("webhook_loss_ratio", "Share of changes that no delivery announced.", loss)

    def _of_drift(self, drift: Drift) -> Iterator[Metric]:
        whole = drift.whole
        rate, low, high = (whole.rate, whole.low, whole.high) if whole else (None, None, None)
        sampled = whole.sampled if whole else 0
        yield self._gauge("drift_sampled", "Customers drawn at random and read in seven days.", sampled)
        yield self._gauge("drift_ratio", "Share of rows that differ unannounced.", rate)
        yield self._gauge("drift_low_ratio", "Lower end of the 95 % interval of drift_ratio.", low)
        yield self._gauge("drift_high_ratio", "Upper end of the 95 % interval of drift_ratio.", high)
        rates = {name: one.rate for name, one in drift.by_attribute.items()}
        help_ = "Share of rows that differ unannounced, by attribute."
        yield self._gauges("drift_attribute_ratio", help_, rates, "attribute")

    def _of_work(self) -> Iterator[Metric]:
        status = self._status
        progress = status.figures.progress if status.figures else None
        per_minute = status.requests_per_minute
        yield self._gauge("budget_calls_per_minute", "Calls a minute that are allowed.", per_minute)
        closed = progress.closed_until if progress else None
        yield self._moment("budget_closed_until", "Until when Kounta wants no call.", closed)
        tries = {outcome: self._tries.get(outcome, 0) for outcome in ("answered", "failed")}
        yield self._counters("calls", "Calls to Kounta since work began, each try.", tries, "outcome")
        alive_at = progress.alive_at if progress else None
        yield self._moment("worker_alive", "When the worker last noted that it gets on.", alive_at)
        concerns = status.concerns()
        attention = {
            name: sum(one.severity == severity for one in concerns)
            for name, severity in (("warning", WARNING), ("critical", CRITICAL))
        }
        yield self._gauges("attention", "What needs attention, as status says.", attention, "severity")
        alerts = {one.alert: 1 for one in concerns if one.alert is not None and one.is_told}
        yield self._gauges("alert_open", "1 for each alert that stands.", alerts, "alert")
        yield _up([self._company], gets_on=self._gets_on)

    def _gauge(self, name: str, help_: str, value: float | None) -> Metric:
        metric = GaugeMetricFamily(f"kounta_mirror_{name}", help_, labels=["company"])
        if value is not None:
            metric.add_metric([self._company], float(value))
        return metric

    def _moment(self, name: str, help_: str, moment: datetime | None) -> Metric:
        value = None if moment is None else moment.timestamp()
        return self._gauge(f"{name}_timestamp_seconds", f"{help_} Seconds since 1970.", value)

    def _gauges(self, name: str, help_: str, values: Mapping[str, float] | None, label: str) -> Metric:
        metric = GaugeMetricFamily(f"kounta_mirror_{name}", help_, labels=["company", label])
        for key, value in (values or {}).items():
            metric.add_metric([self._company, key], value)
        return metric

    def _counter(self, name: str, help_: str, value: float | None) -> Metric:
        metric = CounterMetricFamily(f"kounta_mirror_{name}", help_, labels=["company"])
        if value is not None:
            metric.add_metric([self._company], value)
        return metric

    def _counters(self, name: str, help_: str, values: Mapping[str, float], label: str) -> Metric:
        metric = CounterMetricFamily(f"kounta_mirror_{name}", help_, labels=["company", label])
        for key, value in values.items():
            metric.add_metric([self._company, key], value)
        return metric


def _up(companies: Iterable[str], *, gets_on: bool) -> Metric:
    help_ = "1 while work for the company gets on, else 0."
    metric = GaugeMetricFamily("kounta_mirror_up", help_, labels=["company"])
    for company in companies:
        metric.add_metric([company], float(gets_on))
    return metric


class CompaniesCollector(Collector):
    """What was found at several companies, each metric once with the samples of all."""

    def __init__(self, looks: Iterable[StatusCollector], failed: Iterable[int]) -> None:
        self._looks = list(looks)
        self._failed = list(map(str, failed))

    def collect(self) -> Iterable[Metric]:
        """Give every metric."""
        found: dict[str, Metric] = {}
        metrics = chain.from_iterable(look.collect() for look in self._looks)
        for metric in chain(metrics, [_up(self._failed, gets_on=False)]):
            if metric.name in found:
                found[metric.name].samples += metric.samples
            else:
                found[metric.name] = metric
        return found.values()


def exposition(looks: Iterable[StatusCollector], failed: Iterable[int] = ()) -> bytes:
    """Render one scrape; of the companies whose work has `failed` it is known alone that they stand still."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CompaniesCollector(looks, failed))
    return generate_latest(registry)
