"""What `status` says, as Prometheus metrics of one company: gauges and counters in base units."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sync.merge.decisions import Verdict
from sync.status import Status


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls to Kounta of this process: sent, and answered as hoped."""

    sent: int
    answered: int


class StatusCollector(Collector):
    """One look at one company. What is not known has no sample."""

    def __init__(self, status: Status, calls: Calls, *, gets_on: bool) -> None:
        self._status = status
        self._calls = calls
        self._gets_on = gets_on
        self._company = str(status.company_id)

    def collect(self) -> Iterable[Metric]:
        """Give every metric of the company."""
        yield from self._of_deliveries()
        yield from self._of_customers()
        yield from self._of_proof()
        yield from self._of_processes()

    def _of_deliveries(self) -> Iterator[Metric]:
        status, figures, pending = self._status, self._status.figures, self._status.pending
        verdicts = figures.verdicts if figures else {}
        counted = {verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict}
        yield self._counter("deliveries", "Deliveries that have a verdict.", counted, "verdict")
        yield self._gauge("deliveries_pending", "Deliveries without a verdict.", pending.count)
        age = (status.now - pending.oldest).total_seconds() if pending.oldest else 0
        yield self._gauge("oldest_pending_seconds", "Age of the oldest delivery without a verdict.", age)
        refused = {one.reason: one.count for one in pending.refused}
        yield self._counter("refused", "Requests that the receiver refused.", refused, "reason")
        sign = pending.receiver.last_sign if pending.receiver else None
        yield self._moment("receiver_last_sign", "When the receiver last could store.", sign)
        is_open = status.gap is not None and status.gap.mended_at is None
        yield self._gauge("gap_open", "1 while the newest gap is not mended.", is_open)

    def _of_customers(self) -> Iterator[Metric]:
        figures = self._status.figures
        counts = {
            name: getattr(figures, name) if figures else 0
            for name in ("live", "deleted", "verified", "partial")
        }
        yield self._gauges("customers", "Customers in the mirror.", counts, "state")
        doubts = figures.doubts if figures else {}
        yield self._gauges("verifications_due", "Customers that are to be read.", doubts, "reason")
        held = figures.held_deletes if figures else 0
        yield self._gauge("held_deletes", "Deletions that wait for a person.", held)

    def _of_proof(self) -> Iterator[Metric]:
        status, figures = self._status, self._status.figures
        newest, complete = status.newest_sweep, status.complete_sweep
        finished = complete.finished_at if complete else None
        yield self._moment("sweep_last", "When the last complete sweep ended.", finished)
        running = newest is not None and newest.finished_at is None
        yield self._gauge("sweep_running", "1 while a sweep is under way.", running)
        whole = newest is not None and newest.complete
        yield self._gauge("sweep_complete", "1 if the newest sweep is complete.", whole)
        drift = status.drift
        yield self._gauge("drift_sampled", "Customers drawn in seven days.", drift.as_json()["sampled"])
        whole_drift = drift.whole
        yield self._gauge(
            "drift_ratio", "Share of rows that are wrong.", whole_drift.rate if whole_drift else None
        )
        yield self._gauge("drift_low_ratio", "Its lower bound.", whole_drift.low if whole_drift else None)
        yield self._gauge("drift_high_ratio", "Its upper bound.", whole_drift.high if whole_drift else None)
        rates = {name: one.rate for name, one in drift.by_attribute.items()}
        yield self._gauges("drift_attribute_ratio", "The same, by attribute.", rates, "attribute")
        loss = status.drift.webhook_loss
        yield self._gauge("webhook_loss_ratio", "Share of changes that no delivery announced.", loss)
        verified = figures.oldest_verified_at if figures else None
        age = (status.now - verified).total_seconds() if verified else None
        yield self._gauge("oldest_verified_seconds", "Age of the oldest proof of a live customer.", age)

    def _of_processes(self) -> Iterator[Metric]:
        status = self._status
        progress = status.figures.progress if status.figures else None
        per_minute = status.requests_per_minute
        yield self._gauge("budget_calls_per_minute", "Calls a minute that are allowed.", per_minute)
        closed = progress.closed_until if progress else None
        yield self._moment("budget_closed_until", "Until when Kounta wants no call.", closed)
        alive_at = progress.alive_at if progress else None
        yield self._moment("worker_alive", "When the worker last got on.", alive_at)
        failed = self._calls.sent - self._calls.answered
        calls = {"answered": self._calls.answered, "failed": max(0, failed)}
        yield self._counter("calls", "Calls to Kounta of this process.", calls, "outcome")
        alerts = {one.name: 1 for one in status.alerts}
        yield self._gauges("alert_open", "1 for each alert that is open.", alerts, "alert")
        yield self._gauge("up", "1 while work gets on, else 0.", self._gets_on)

    def _gauge(self, name: str, help_: str, value: float | None) -> Metric:
        metric = GaugeMetricFamily(f"kounta_mirror_{name}", help_, labels=["company"])
        if value is not None:
            metric.add_metric([self._company], float(value))
        return metric

    def _moment(self, name: str, help_: str, moment: datetime | None) -> Metric:
        value = None if moment is None else moment.timestamp()
        return self._gauge(f"{name}_timestamp_seconds", f"{help_} Seconds since 1970.", value)

    def _gauges(self, name: str, help_: str, values: Mapping[str, float], label: str) -> Metric:
        metric = GaugeMetricFamily(f"kounta_mirror_{name}", help_, labels=["company", label])
        for key, value in values.items():
            metric.add_metric([self._company, key], value)
        return metric

    def _counter(self, name: str, help_: str, values: Mapping[str, float], label: str) -> Metric:
        metric = CounterMetricFamily(f"kounta_mirror_{name}", help_, labels=["company", label])
        for key, value in values.items():
            metric.add_metric([self._company, key], value)
        return metric


class CompaniesCollector(Collector):
    """What was found at several companies, each metric once with the samples of all."""

    def __init__(self, looks: Iterable[StatusCollector]) -> None:
        self._looks = list(looks)

    def collect(self) -> Iterable[Metric]:
        """Give every metric."""
        found: dict[str, Metric] = {}
        for metric in chain.from_iterable(look.collect() for look in self._looks):
            if metric.name in found:
                found[metric.name].samples += metric.samples
            else:
                found[metric.name] = metric
        return found.values()


def exposition(looks: Iterable[StatusCollector]) -> bytes:
    """Render one scrape, from a registry of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CompaniesCollector(looks))
    return generate_latest(registry)
