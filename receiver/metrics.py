"""The receiver's own metrics, at a port of their own: never at the one that upstream reaches."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from receiver.inbox import InboxWriter
    from receiver.webhook import Webhook

log = structlog.get_logger("receiver")


class ReceiverCollector(Collector):
    """What one run of the receiver has counted, and how it stands at the moment of a scrape."""

    def __init__(self, webhook: Webhook, inbox: InboxWriter) -> None:
        self._webhook = webhook
        self._inbox = inbox

    def collect(self) -> Iterable[Metric]:
        """Give every metric; it is called in another thread, so it looks at each thing once."""
        answers = CounterMetricFamily(
            "kounta_mirror_receiver_answers",
            "Requests by their answer: stored, or the code of the refusal.",
            labels=["company", "answer"],
        )
        for (company_id, answer), count in dict(self._webhook.answers).items():
            answers.add_metric([str(company_id), answer], count)
        yield answers
        for commits in self._inbox.commit_seconds.collect():
            commits.samples = [one for one in commits.samples if not one.name.endswith("_created")]
            yield commits
        waiting = self._inbox.waiting
        yield _gauge("waiting", "Deliveries that wait for a commit, or are in the one that runs.", waiting)
        yield _gauge("ready", "1 while a delivery would be stored.", int(self._inbox.ready))
        spooled = self._inbox.spooled
        yield _gauge(
            "spooled", "Deliveries that wait on this machine for PostgreSQL.", spooled.count if spooled else 0
        )


@contextmanager
def serving_metrics(host: str, port: int, webhook: Webhook, inbox: InboxWriter) -> Iterator[int]:
    """Answer `/metrics` at `host` and `port`, 0 takes a free one, in a thread; give the port.

    Raises MirrorError when nothing can listen there.
    """
    registry = CollectorRegistry()
    registry.register(ReceiverCollector(webhook, inbox))
    ProcessCollector(registry=registry)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MirrorError(
            f"The receiver's metrics cannot be served at {host} port {port}: {reason}. "
            "Choose another with MIRROR_RECEIVER_METRICS_PORT."
        ) from error
    try:
        chosen = int(server.server_port)
        log.info("The receiver's metrics are served.", action="metrics_started", host=host, port=chosen)
        yield chosen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"kounta_mirror_receiver_{name}", meaning, value)
