import hashlib
import hmac
import json
from random import Random
from typing import Any

import pytest

from sync.sandbox import Company, Faults, Sandbox, Settings
from sync.sandbox.refusal import RefusedError


class Clock:
    def __init__(self, now: float = 1_700_000_000.25) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def sandbox(settings: Settings | None = None, faults: Faults | None = None, **options: Any) -> Sandbox:
    made = Sandbox(settings or Settings(), faults or Faults(), clock=options.pop("clock", Clock()), **options)
    made.deliver_to("http://receiver")
    return made


def posted(company: Company, now: float) -> list[tuple[str, Any]]:
    """Carry all that is due and give where it went and what it said."""
    posts = []
    while due := company.due_deliveries(now):
        for delivery in due:
            post = company.post(delivery)
            posts.append((post.url, json.loads(post.body)))
            company.finished(delivery, 200, now)
    return posts


def test_each_change_is_announced_at_the_path_of_its_topic_with_the_complete_customer() -> None:
    company = sandbox().company
    customer = company.create({"first_name": "Ana", "email": "a@example.com"})
    company.update(customer.id, {"tags": ["vip"]})
    company.delete(customer.id)

    created, updated, deleted = posted(company, company.clock())

    stamp = {"created_at": "2023-11-14T22:13:20+00:00", "updated_at": "2023-11-14T22:13:20+00:00"}
    assert created == ("http://receiver/webhooks/5678/customers/created", {**customer.seen_by("x"), **stamp})
    assert updated[0] == "http://receiver/webhooks/5678/customers/updated"
    assert updated[1] == {**created[1], "tags": ["vip"]}
    assert deleted == ("http://receiver/webhooks/5678/customers/deleted", updated[1])


def test_a_silent_change_is_made_and_not_announced() -> None:
    company = sandbox().company

    company.create({"first_name": "Ana"}, announce=False)

    assert len(company.customers) == 1
    assert posted(company, company.clock()) == []
    assert company.changes["silent"] == 1


def test_the_signature_is_lower_case_hex_hmac_sha256_over_the_exact_bytes() -> None:
    company = sandbox(Settings(signature_token="sesame")).company
    company.create({"first_name": "Zoë ☕"})

    post = company.post(company.due_deliveries(company.clock())[0])

    assert "Zoë ☕".encode() in post.body
    assert post.headers["X-Kounta-Signature"] == hmac.new(b"sesame", post.body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("stamps", "seconds"), [("change", "20"), ("departure", "27")], ids=["at the change", "as it leaves"]
)
def test_a_stamp_is_made_at_the_change_or_as_the_delivery_leaves(stamps: Any, seconds: str) -> None:
    clock = Clock()
    company = sandbox(faults=Faults(stamps=stamps), clock=clock).company
    company.create({"first_name": "Ana"})
    clock.now += 7

    [(_, body)] = posted(company, clock.now)

    assert body["updated_at"] == body["created_at"] == f"2023-11-14T22:13:{seconds}+00:00"


def test_a_stamp_may_be_absent() -> None:
    company = sandbox(faults=Faults(stamps="absent")).company
    company.create({"first_name": "Ana"})

    [(_, body)] = posted(company, company.clock())

    assert "updated_at" not in body
    assert "created_at" not in body


def test_stamps_are_by_upstreams_own_clock() -> None:
    company = sandbox(faults=Faults(clock_skew_seconds=-20)).company
    customer = company.create({"first_name": "Ana"})

    [(_, body)] = posted(company, company.clock())

    assert body["updated_at"] == "2023-11-14T22:13:00+00:00"
    assert company.shown(customer, "ours")["updated_at"] == "2023-11-14T22:13:00+00:00"


def test_a_body_shows_the_state_after_its_own_change_however_late_it_leaves() -> None:
    company = sandbox().company
    customer = company.create({"first_name": "A"})
    company.update(customer.id, {"first_name": "B"})
    company.update(customer.id, {"first_name": "A"})

    assert [body["first_name"] for _, body in posted(company, company.clock())] == ["A", "B", "A"]


def test_a_garbled_body_is_no_json_but_well_signed_and_a_bad_signature_is_wrong() -> None:
    company = sandbox(Settings(signature_token="t"), Faults(garbled=1)).company
    company.create({"first_name": "Ana"})
    garbled = company.post(company.due_deliveries(company.clock())[0])
    with pytest.raises(ValueError, match=r"\w"):
        json.loads(garbled.body)
    assert garbled.headers["X-Kounta-Signature"] == hmac.new(b"t", garbled.body, hashlib.sha256).hexdigest()

    company = sandbox(Settings(signature_token="t"), Faults(badly_signed=1)).company
    company.create({"first_name": "Ana"})
    forged = company.post(company.due_deliveries(company.clock())[0])
    assert forged.headers["X-Kounta-Signature"] != hmac.new(b"t", forged.body, hashlib.sha256).hexdigest()


def test_a_filter_lets_through_only_updates_of_its_attributes() -> None:
    made = sandbox()
    company = made.company
    hook = {"topic": "customers/updated", "address": "http://f", "filter": {"attributes": ["name", "tags"]}}
    company.webhooks.register("sandbox-client", hook, 0)
    customer = company.create({"first_name": "Ana"})

    for values in ({"last_name": "B"}, {"tags": ["x"]}, {"phone": "1"}, {"reference_id": "r"}):
        company.update(customer.id, values)
    filtered = [body for url, body in posted(company, company.clock()) if url == "http://f"]
    assert [(body["last_name"], body["tags"], body["phone"]) for body in filtered] == [
        ("B", [], None),
        ("B", ["x"], None),
    ]

    made.change(made.settings, {"webhook_filters": "ignored"})
    company.update(customer.id, {"phone": "2"})
    assert "http://f" in [url for url, _ in posted(company, company.clock())]


def test_whether_an_update_that_changes_nothing_is_announced_is_a_setting() -> None:
    made = sandbox()
    customer = made.company.create({"first_name": "Ana"}, announce=False)

    made.company.update(customer.id, {"first_name": "Ana"})
    assert len(posted(made.company, made.clock())) == 1

    made.change(made.settings, {"announce_unchanged": False})
    made.company.update(customer.id, {"first_name": "Ana"})
    assert posted(made.company, made.clock()) == []


def test_an_application_receives_its_own_reference_signed_with_its_own_token() -> None:
    company = sandbox(Settings(other_applications=("theirs:secret:their-token",))).company
    hook = {"topic": "customers/created", "address": "http://theirs"}
    company.webhooks.register("theirs", hook, 0)
    company.create({"first_name": "Ana", "reference_id": "OURS"})

    ours, theirs = (company.post(delivery) for delivery in company.due_deliveries(company.clock()))

    assert json.loads(ours.body)["reference_id"] == "OURS"
    assert json.loads(theirs.body)["reference_id"] == ""
    signature = hmac.new(b"their-token", theirs.body, hashlib.sha256).hexdigest()
    assert theirs.headers["X-Kounta-Signature"] == signature


def test_text_that_is_no_valid_unicode_travels_as_an_escape() -> None:
    company = sandbox().company
    company.create({"first_name": "lone \ud800"})

    post = company.post(company.due_deliveries(company.clock())[0])

    assert rb"lone \ud800" in post.body


def test_a_mobile_belongs_to_one_customer_and_a_customer_may_keep_its_own() -> None:
    company = sandbox().company
    customer = company.create({"first_name": "Ana", "mobile": "0400"})

    with pytest.raises(RefusedError, match="Another customer has this mobile"):
        company.create({"first_name": "Bo", "mobile": "0400"})
    company.update(customer.id, {"mobile": "0400", "last_name": "B"})
    company.delete(customer.id)
    company.create({"first_name": "Bo", "mobile": "0400"})


def test_reads_lag_behind_while_the_truth_does_not() -> None:
    clock = Clock()
    company = sandbox(faults=Faults(read_lag_seconds=5), clock=clock).company
    customer = company.create({"first_name": "A"})

    assert company.moment().get(customer.id) is None
    assert [one["first_name"] for one in company.truth()] == ["A"]
    clock.now += 5
    seen = company.moment().get(customer.id)
    assert seen is not None
    assert seen.first_name == "A"


def test_customers_that_were_there_from_the_start_are_seen_despite_the_lag() -> None:
    company = sandbox(faults=Faults(read_lag_seconds=600), customers=30).company

    assert len(company.moment()) == 30


def test_ids_go_beyond_32_bits_and_are_never_used_again() -> None:
    company = sandbox(customers=100).company
    ids = [customer.id for customer in company.customers]
    assert ids[0] < 2**31 < ids[-1]
    assert len(set(ids)) == 100

    last = company.delete(ids[-1])
    assert company.create({"first_name": "New"}).id > last.id


def test_a_webhook_may_be_dropped_after_refusals_one_after_another() -> None:
    made = sandbox(faults=Faults(disable_after=3))
    company = made.company

    def refuse(*statuses: int) -> None:
        for status in statuses:
            company.create({"first_name": "A"})
            for delivery in company.due_deliveries(company.clock()):
                company.post(delivery)
                company.finished(delivery, status, company.clock())

    refuse(500, 500, 200, 500, 500)
    assert len(list(company.webhooks)) == 3
    refuse(500)
    assert [webhook.topic for webhook in company.webhooks] == ["customers/updated", "customers/deleted"]


def edited(seed: int, count: int = 400) -> tuple[list[tuple[str, Any]], list[Any], dict[str, Any]]:
    clock = Clock()
    faults = Faults(lost=0.1, doubled=0.1, disordered=0.1, delayed=0.1)
    made = sandbox(faults=faults, clock=clock, seed=seed, customers=50)
    posts: list[tuple[str, Any]] = []
    for _ in range(count):
        clock.now += 0.1
        made.editor.follow_up(clock.now)
        made.editor.edit()
        posts += posted(made.company, clock.now)
    return posts, list(made.company.truth()), made.report()


def test_the_same_seed_gives_the_same_bodies_in_the_same_order() -> None:
    assert edited(7) == edited(7)
    assert edited(7) != edited(8)


def test_edits_are_of_every_kind() -> None:
    posts, truth, report = edited(3)

    assert min(report["changes"][topic] for topic in ("customers/created", "customers/deleted")) > 3
    assert report["changes"]["customers/updated"] > 300
    assert len(truth) == 50 + report["changes"]["customers/created"] - report["changes"]["customers/deleted"]
    deliveries = report["deliveries"]
    assert min(deliveries[name] for name in ("lost", "doubled", "disordered", "delayed")) > 10
    assert len(posts) == deliveries["sent"]


def test_some_edits_go_there_and_back_within_a_second() -> None:
    clock = Clock()
    made = sandbox(clock=clock, seed=5, customers=20)
    histories = {customer.id: [(clock.now, customer)] for customer in made.company.customers}
    for step in range(3000):
        clock.now += 0.1
        made.editor.follow_up(clock.now)
        if step % 10 == 0:
            made.editor.edit()
        for customer in made.company.customers:
            states = histories.setdefault(customer.id, [])
            if not states or states[-1][1] != customer:
                states.append((clock.now, customer))

    back = [
        third[0] - second[0]
        for states in histories.values()
        for first, second, third in zip(states, states[1:], states[2:], strict=False)
        if first[1] == third[1]
    ]
    assert len([seconds for seconds in back if seconds <= 1]) > 5


def test_made_up_customers_are_varied() -> None:
    truth = list(sandbox(customers=500, seed=1).company.truth())

    texts = json.dumps(truth, ensure_ascii=False)
    assert all(
        part in texts for part in ("👩", "O'Brien", '\\"quoted\\"', "+news@", "山田", "الخطيب", "\\\\")
    )
    assert any(one["last_name"] is None for one in truth)
    assert any(one["last_name"] == "" for one in truth)
    assert any(one["email"] is None for one in truth)
    assert any(one["tags"] is None for one in truth)
    assert any(len(tag) > 200 for one in truth for tag in one["tags"] or [])
    assert any((one["phone"] or "").startswith("00") for one in truth)
    assert any(one["reference_id"].startswith("000") for one in truth)
    assert any(one["reference_id"] == "" for one in truth)
    assert all(one["first_name"] and (one["email"] or one["phone"] or one["mobile"]) for one in truth)


def test_the_random_generator_is_the_callers() -> None:
    def first(random: Random) -> Any:
        company = Company(Settings(), Faults(), Clock(), random)
        company.populate(3)
        return list(company.truth())

    assert first(Random(1)) == first(Random(1)) != first(Random(2))
