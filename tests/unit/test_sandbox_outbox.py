from collections.abc import Sequence
from random import Random
from typing import Any

from sync.sandbox import Faults
from sync.sandbox.customer import Customer
from sync.sandbox.outbox import Change, Delivery, Outbox
from sync.sandbox.webhooks import Webhook

HOOK = Webhook(
    id=1, application="ours", topic="customers/updated", address="http://x", created_at=0, updated_at=0
)
OTHER_HOOK = Webhook(
    id=2, application="ours", topic="customers/updated", address="http://x", created_at=0, updated_at=0
)


def outbox(**faults: Any) -> Outbox:
    return Outbox(Faults(**faults), Random(1))


def change(number: int, at: float = 100, customer: int = 7) -> Change:
    return Change(number, at, "customers/updated", Customer(id=customer))


def carried(box: Outbox, now: float, status: int | None = 200) -> list[int]:
    """Carry everything that is due, one delivery after another, and give the numbers of the changes."""
    numbers: list[int] = []
    while due := box.due(now):
        for delivery in due:
            box.left(delivery)
            numbers.append(delivery.change.number)
            box.finished(delivery, status, now)
    return numbers


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.change.number for delivery in deliveries]


def test_without_faults_every_change_leaves_once_at_once_and_in_order() -> None:
    box = outbox()
    for number in range(1, 6):
        box.announce(change(number), [HOOK])

    assert carried(box, 100) == [1, 2, 3, 4, 5]
    assert box.idle
    assert (box.counts.announced, box.counts.sent, box.counts.answered_200) == (5, 5, 5)


def test_two_about_one_customer_are_never_under_way_at_once_but_others_do_not_wait() -> None:
    box = outbox()
    box.announce(change(1), [HOOK])
    box.announce(change(2), [HOOK])
    box.announce(change(3, customer=8), [HOOK])

    first = box.due(100)
    assert numbers(first) == [1, 3]
    assert box.due(100) == []
    box.left(first[0])
    box.finished(first[0], 200, 100)

    assert numbers(box.due(100)) == [2]


def test_registering_twice_delivers_twice() -> None:
    box = outbox()
    box.announce(change(1), [HOOK, OTHER_HOOK])

    assert carried(box, 100) == [1, 1]


def test_a_lost_delivery_never_leaves() -> None:
    box = outbox(lost=1)
    box.announce(change(1), [HOOK])

    assert carried(box, 1000) == []
    assert box.idle
    assert (box.counts.announced, box.counts.lost, box.counts.sent) == (1, 1, 0)


def test_a_doubled_delivery_leaves_again_within_the_delay() -> None:
    box = outbox(doubled=1, max_delay_seconds=5)
    box.announce(change(1), [HOOK])

    assert carried(box, 100) == [1]
    assert carried(box, 105) == [1]
    assert box.counts.doubled == 1


def test_a_delayed_delivery_leaves_late_but_within_the_delay() -> None:
    box = outbox(delayed=1, max_delay_seconds=5)
    box.announce(change(1), [HOOK])

    due = box.next_due()
    assert due is not None
    assert 100 < due <= 105
    assert carried(box, due - 0.001) == []
    assert carried(box, due) == [1]
    assert box.counts.delayed == 1


def test_a_disordered_delivery_is_overtaken_by_the_next_about_its_customer() -> None:
    box = outbox(disordered=1, max_delay_seconds=5)
    box.announce(change(1), [HOOK])
    assert carried(box, 100) == []
    box.announce(change(2, at=101, customer=8), [HOOK])
    box.announce(change(3, at=101), [HOOK])

    assert carried(box, 101) == [3, 1]
    assert box.counts.disordered == 1


def test_a_disordered_delivery_that_nothing_overtakes_leaves_after_the_delay() -> None:
    box = outbox(disordered=1, max_delay_seconds=5)
    box.announce(change(1), [HOOK])

    assert carried(box, 104.9) == []
    assert carried(box, 105) == [1]
    assert box.counts.disordered == 0


def test_a_delivery_that_is_not_answered_2xx_is_tried_again_with_growing_pauses() -> None:
    box = outbox(delivery_retries=2, retry_seconds=10)
    box.announce(change(1), [HOOK])

    assert carried(box, 100, status=500) == [1]
    assert box.next_due() == 110
    assert carried(box, 110, status=None) == [1]
    assert box.next_due() == 130
    assert carried(box, 130, status=302) == [1]
    assert box.next_due() is None
    assert (box.counts.sent, box.counts.refused, box.counts.retried) == (3, 3, 2)


def test_without_retries_a_refused_delivery_is_gone() -> None:
    box = outbox()
    box.announce(change(1), [HOOK])

    assert carried(box, 100, status=503) == [1]
    assert box.idle
    assert box.counts.refused == 1


def test_hurry_sends_all_that_waits_now_in_the_order_of_its_times() -> None:
    box = outbox(delayed=1, max_delay_seconds=60)
    for number in range(1, 20):
        box.announce(change(number, customer=number), [HOOK])
    order = [entry[2].change.number for entry in sorted(box._heap)]

    box.hurry(100)

    assert carried(box, 100) == order
    assert order != sorted(order)
    assert box.idle


def test_the_counts_add_up_whatever_goes_wrong() -> None:
    box = outbox(lost=0.2, doubled=0.2, disordered=0.2, delayed=0.2, delivery_retries=1)
    random = Random(2)
    now = 100.0
    for number in range(1, 500):
        now += random.random()
        box.announce(change(number, at=now, customer=random.randrange(20)), [HOOK, OTHER_HOOK])
        carried(box, now, status=random.choice((200, 500)))
    while not box.idle:
        now += 1
        box.hurry(now)
        carried(box, now, status=200)

    counts = box.counts
    assert counts.announced == 2 * 499
    assert counts.sent == counts.announced - counts.lost + counts.doubled + counts.retried
    assert counts.sent == counts.answered_200 + counts.refused
    assert min(counts.lost, counts.doubled, counts.disordered, counts.delayed, counts.retried) > 50


def test_one_fault_does_not_change_the_draws_of_another() -> None:
    def delays(**faults: float) -> dict[int, float]:
        box = outbox(delayed=0.5, **faults)
        for number in range(1, 50):
            box.announce(change(number, customer=number), [HOOK])
        return {entry[2].change.number: entry[0] for entry in box._heap}

    alone, with_losses = delays(), delays(lost=0.5)

    assert 0 < len(with_losses) < len(alone)
    assert with_losses.items() <= alone.items()
