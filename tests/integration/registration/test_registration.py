"""Three topics, once each, ours: against the local Kounta, over real HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from sync.kounta import KountaAccessLost, KountaError, KountaRefused
from sync.mirror.registration import registration_of
from sync.registration.registrar import LATE, RegistrationError

ELSEWHERE = "https://other.example/hook"


async def test_ensure_registers_each_topic_once(shop: Any, site: Any) -> None:
    outcome = await site.ensure()
    assert sorted(outcome.registered) == sorted(shop.shown())
    assert await site.is_registered_once()
    again = await site.ensure()
    assert (again.registered, again.repaired, again.removed) == ([], [], [])
    assert len(shop.shown()) == 3


async def test_a_public_url_may_carry_a_path(shop: Any) -> None:
    site = await shop.site("server", "https://shop.example/mirror")
    await site.ensure()
    assert await site.is_registered_once()
    assert "https://shop.example/mirror/webhooks/5678/customers/deleted" in {
        webhook["address"] for webhook in shop.shown().values()
    }


async def test_nothing_is_registered_before_a_person_asked(shop: Any, site: Any) -> None:
    await site.registrar.check()
    assert shop.shown() == {}
    assert site.kounta.calls == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"address": ELSEWHERE},
        {"format": "xml"},
        {"topic": "orders/created"},
        {"filter": {"attributes": ["name"]}},
        {"address": ELSEWHERE, "format": "xml", "topic": "customers/created"},
    ],
)
async def test_what_was_changed_of_ours_is_repaired_and_taken_for_a_gap(
    shop: Any, site: Any, fields: dict[str, Any]
) -> None:
    first = (await site.ensure()).registered[-1]
    await site.mirror.note(sweep_due=None)
    shop.change(first, **fields)
    outcome = await site.registrar.check()
    assert (outcome.repaired, outcome.registered) == ([first], [])
    assert await site.is_registered_once()
    assert site.mirror.progress.sweep_due == "gap"


async def test_what_was_deleted_of_ours_is_registered_again_and_taken_for_a_gap(shop: Any, site: Any) -> None:
    first = (await site.ensure()).registered[0]
    await site.mirror.note(sweep_due=None)
    shop.delete(first)
    outcome = await site.registrar.check()
    assert len(outcome.registered) == 1
    assert await site.is_registered_once()
    assert site.mirror.progress.sweep_due == "gap"


async def test_a_check_that_finds_all_well_asks_for_no_sweep(shop: Any, site: Any) -> None:
    await site.ensure()
    await site.mirror.note(sweep_due=None)
    calls = site.kounta.calls
    await site.registrar.check()
    assert site.mirror.progress.sweep_due is None
    assert site.kounta.calls == calls + 1
    registration = await registration_of(site.mirror)
    assert registration is not None
    assert registration.checked_at == shop.now


async def test_registrations_of_others_are_never_touched(shop: Any, site: Any) -> None:
    shop.by_hand("customers/created", ELSEWHERE)
    shop.by_hand("orders/created", ELSEWHERE, format="xml")
    shop.by_hand("customers/updated", site.address("customers/updated"), filter={"attributes": ["name"]})
    others = shop.shown()
    await site.ensure()
    await site.registrar.remove()
    assert shop.shown() == others


async def test_a_double_that_somebody_made_stays_until_it_is_adopted(shop: Any, site: Any) -> None:
    await site.ensure()
    double = shop.by_hand("customers/updated", site.address("customers/updated"))
    await site.registrar.check()
    assert double in shop.shown()
    outcome = await site.ensure(adopt=double)
    assert outcome.adopted == [double]
    assert outcome.removed == [double]
    assert len(shop.shown()) == 3


async def test_an_adopted_registration_is_ours_and_made_right(shop: Any, site: Any) -> None:
    existing = shop.by_hand("customers/updated", ELSEWHERE, format="xml")
    outcome = await site.ensure(adopt=existing)
    assert (outcome.adopted, outcome.repaired) == ([existing], [existing])
    assert len(outcome.registered) == 2
    assert await site.is_registered_once()
    await site.registrar.remove()
    assert shop.shown() == {}


async def test_what_cannot_be_adopted_is_told_and_nothing_is_registered(shop: Any, site: Any) -> None:
    with pytest.raises(RegistrationError, match="no webhook 1 "):
        await site.ensure(adopt=1)
    orders = shop.by_hand("orders/created", ELSEWHERE)
    with pytest.raises(RegistrationError, match="orders/created"):
        await site.ensure(adopt=orders)
    assert list(shop.shown()) == [orders]
    assert await registration_of(site.mirror) is None


async def test_remove_ends_it(shop: Any, site: Any) -> None:
    await site.ensure()
    outcome = await site.registrar.remove()
    assert len(outcome.removed) == 3
    assert shop.shown() == {}
    await site.registrar.check()
    assert shop.shown() == {}
    assert (await site.registrar.remove()).removed == []


async def test_two_mirrors_of_one_application_do_not_fight(shop: Any) -> None:
    server = await shop.site("server", "https://mirror.example")
    laptop = await shop.site("laptop", "https://tunnel.example")
    await server.ensure()
    await laptop.ensure()
    registered = shop.shown()
    for _ in range(3):
        await server.registrar.check()
        await laptop.registrar.check()
    assert shop.shown() == registered
    assert await server.is_registered_once()
    assert await laptop.is_registered_once()
    await laptop.registrar.remove()
    assert await server.is_registered_once()
    assert len(shop.shown()) == 3


async def test_the_worker_keeps_to_the_address_that_was_ensured_and_a_new_one_takes_ensure(
    shop: Any, site: Any
) -> None:
    await site.ensure()
    await site.registrar.check()
    outcome = await site.registrar.ensure("https://new.example")
    assert len(outcome.repaired) == 3
    assert len(shop.shown()) == 3
    site.public_url = "https://new.example"
    assert await site.is_registered_once()


@pytest.mark.parametrize(
    ("fault", "after_write"),
    [
        *((fault, 0.0) for fault in ("server_errors", "cut_bodies", "hangs")),
        *((fault, 1.0) for fault in ("server_errors", "cut_bodies", "html_answers", "hangs")),
    ],
)
async def test_a_registration_whose_fate_is_unknown_is_looked_up_and_never_made_twice(
    shop: Any, fault: str, after_write: float
) -> None:
    shop.sandbox.faults.fault_after_write = after_write
    shop.sandbox.faults.hang_seconds = 0.1
    site = await shop.site("server")
    shop.sandbox.calls.ask(["none", fault, "none", fault, fault])
    await site.ensure()
    assert await site.is_registered_once()
    assert len(shop.shown()) == 3


async def test_what_was_there_before_did_not_come_of_a_registration_of_ours(shop: Any, site: Any) -> None:
    double = shop.by_hand("customers/created", site.address("customers/created"))
    shop.sandbox.calls.ask(["none", "server_errors"])
    await site.ensure()
    assert double in shop.shown()
    assert double not in {row["id"] for row in await site.ours()}
    assert await site.is_registered_once()


async def test_an_answer_about_something_else_names_no_registration(shop: Any) -> None:
    site = await shop.site("server")
    shop.sandbox.faults.fault_after_write = 1.0
    shop.sandbox.calls.ask(["none", "wrong_answers", "wrong_answers", "wrong_answers"])
    await site.ensure()
    assert await site.is_registered_once()
    assert len(shop.shown()) == 3


@pytest.mark.parametrize("fault", ["wrong_answers", "html_answers"])
async def test_a_registration_that_was_accepted_is_not_sent_again_before_an_hour_or_a_person_asks(
    shop: Any, site: Any, fault: str
) -> None:
    shop.sandbox.faults.fault_after_write = 0.0
    shop.sandbox.calls.ask(["none", fault])
    with pytest.raises(KountaError) as caught:
        await site.ensure()
    assert caught.value.fate_unknown
    assert len(shop.shown()) == 2
    await site.registrar.check()
    assert len(shop.shown()) == 2
    shop.now += LATE
    await site.registrar.check()
    assert await site.is_registered_once()


async def test_a_person_who_asks_has_it_sent_again(shop: Any, site: Any) -> None:
    shop.sandbox.faults.fault_after_write = 0.0
    shop.sandbox.calls.ask(["none", "wrong_answers"])
    with pytest.raises(KountaError):
        await site.ensure()
    await site.ensure()
    assert await site.is_registered_once()


@pytest.mark.parametrize("refusal", ["400", "yes"])
async def test_a_filter_that_does_not_go_is_replaced_by_a_new_registration(
    shop: Any, site: Any, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    first = (await site.ensure()).registered[0]
    shop.change(first, filter={"attributes": ["name"]})
    told = []

    async def stubborn(id_: int, fields: dict[str, Any]) -> bool:
        told.append((id_, fields))
        if refusal == "400":
            raise KountaError(400, "invalid_request", "answered 400", "See what it says")
        return True

    monkeypatch.setattr(site.kounta.webhooks, "change", stubborn)
    outcome = await site.registrar.check()
    assert told == [(first, {"filter": {}})]
    assert (len(outcome.registered), outcome.removed) == (1, [first])
    assert await site.is_registered_once()
    assert len(shop.shown()) == 3


async def test_a_filter_that_every_registration_gets_is_told_and_not_replaced_for_ever(
    shop: Any, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await site.ensure()).registered[0]
    register, listed = site.kounta.webhooks.register, site.kounta.webhooks.all
    made: list[int] = []

    async def says_yes(*_: Any) -> bool:
        return True

    async def counted(*asked: Any) -> int:
        made.append(await register(*asked))
        return made[-1]

    async def filtered() -> list[Any]:
        return [
            one.model_copy(update={"filter": {"attributes": ["name"]}}) if one.id in {first, *made} else one
            for one in await listed()
        ]

    monkeypatch.setattr(site.kounta.webhooks, "change", says_yes)
    monkeypatch.setattr(site.kounta.webhooks, "register", counted)
    monkeypatch.setattr(site.kounta.webhooks, "all", filtered)
    for _ in range(3):
        await site.registrar.check()
    assert len(made) == 1
    assert len(shop.shown()) == 3
    registration = await registration_of(site.mirror)
    assert registration is not None
    assert "still shows filter" in (registration.failure or "")


@pytest.mark.parametrize("shown", [{}, [], None, {"attributes": []}])
async def test_an_unset_filter_is_none_however_it_is_shown(shop: Any, site: Any, shown: Any) -> None:
    first = (await site.ensure()).registered[0]
    shop.sandbox.change(shop.sandbox.settings, {"unset_filter": "object" if shown == {} else "null"})
    shop.change(first, filter=shown)
    assert (await site.registrar.check()).repaired == []
    assert ("unset-filter" in site.kounta.observations.unstored()) is (shown == {})


@pytest.mark.parametrize(
    "written",
    [
        "HTTPS://MIRROR.example/webhooks/5678/{topic}",
        "https://mirror.example:443/webhooks/5678/{topic}",
        "https://mirror.example/webhooks/5678/{topic}/",
    ],
)
async def test_an_address_that_upstream_normalises_is_known_again(shop: Any, site: Any, written: str) -> None:
    for id_, webhook in zip((await site.ensure()).registered, list(shop.shown().values()), strict=True):
        shop.change(id_, address=written.format(topic=webhook["topic"]))
    calls = site.kounta.calls
    outcome = await site.registrar.check()
    assert (outcome.repaired, outcome.registered, site.kounta.calls) == ([], [], calls + 1)
    assert site.kounta.observations.unstored()["normalised-addresses"].count == len(shop.shown())


async def test_an_address_in_another_case_is_a_problem_that_says_so(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await shop.site("server", "https://mirror.example/Shop")
    await site.ensure()
    for id_, webhook in shop.shown().items():
        shop.change(id_, address=webhook["address"].lower())

    async def says_yes(*_: Any) -> bool:
        return True

    monkeypatch.setattr(site.kounta.webhooks, "change", says_yes)
    with pytest.raises(RegistrationError, match=r"differs from .* in upper and lower case"):
        await site.ensure()


async def test_a_registration_that_becomes_visible_late_is_known_as_ours_and_removed(
    shop: Any, site: Any
) -> None:
    shop.sandbox.faults.fault_after_write = 0.0
    shop.sandbox.calls.ask(["none", "server_errors"])
    await site.ensure()
    late = shop.by_hand("customers/created", site.address("customers/created"))
    await site.registrar.check()
    assert late not in shop.shown()
    assert await site.is_registered_once()
    shop.now += LATE + timedelta(seconds=1)
    await site.registrar.check()
    later = shop.by_hand("customers/created", site.address("customers/created"))
    await site.registrar.check()
    assert later in shop.shown()


async def test_a_kill_between_the_registration_and_its_answer_is_made_good(shop: Any, site: Any) -> None:
    class KilledError(BaseException):
        pass

    register = site.kounta.webhooks.register

    async def killed(*asked: Any) -> int:
        await register(*asked)
        raise KilledError

    site.kounta.webhooks.register = killed
    with pytest.raises(KilledError):
        await site.ensure()
    assert len(shop.shown()) == 1
    site.kounta.webhooks.register = register
    await site.mirror.note(sweep_due=None)
    await site.registrar.check()
    assert len(shop.shown()) == 3
    assert await site.is_registered_once()
    assert site.mirror.progress.sweep_due == "gap"


async def test_a_repair_that_a_kill_cut_short_is_still_a_gap(shop: Any, site: Any) -> None:
    first = (await site.ensure()).registered[0]
    await site.mirror.note(sweep_due=None)
    shop.change(first, address=ELSEWHERE)
    change = site.kounta.webhooks.change

    class KilledError(BaseException):
        pass

    async def killed(*asked: Any) -> bool:
        await change(*asked)
        raise KilledError

    site.kounta.webhooks.change = killed
    with pytest.raises(KilledError):
        await site.registrar.check()
    site.kounta.webhooks.change = change
    await site.registrar.check()
    assert site.mirror.progress.sweep_due == "gap"


async def test_reads_that_lag_behind_a_registration_do_not_double_it(
    shop: Any, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing_yet() -> list[Any]:
        return []

    async def not_yet(_: int) -> None:
        return None

    with monkeypatch.context() as lagging:
        lagging.setattr(site.kounta.webhooks, "all", nothing_yet)
        lagging.setattr(site.kounta.webhooks, "get", not_yet)
        await site.ensure()
    assert len(shop.shown()) == 3
    await site.registrar.check()
    assert len(shop.shown()) == 3
    assert await site.is_registered_once()


async def test_an_upstream_that_says_yes_and_does_nothing_is_told_and_not_asked_for_ever(
    shop: Any, site: Any
) -> None:
    first = (await site.ensure()).registered[0]
    shop.change(first, address=ELSEWHERE)

    async def says_yes(*_: Any) -> bool:
        return True

    site.kounta.webhooks.change = says_yes
    with pytest.raises(RegistrationError, match=f"webhook {first} and still shows address"):
        await site.ensure()


@pytest.mark.parametrize("lost", ["401", "403", "404"])
async def test_lost_access_is_an_error_and_nothing_is_forgotten(shop: Any, site: Any, lost: str) -> None:
    await site.ensure()
    registered = shop.shown()
    shop.sandbox.faults.lost_access = lost
    with pytest.raises(KountaAccessLost):
        await site.ensure()
    await site.registrar.check()
    registration = await registration_of(site.mirror)
    assert registration is not None
    assert registration.failure is not None
    assert lost in registration.failure
    assert registration.failure_since == shop.now
    shop.sandbox.faults.lost_access = "no"
    await site.registrar.check()
    assert shop.shown() == registered
    mended = await registration_of(site.mirror)
    assert mended is not None
    assert mended.failure is None


async def test_read_only_refuses_registration_and_removal_but_not_looking(shop: Any) -> None:
    site = await shop.site("server", read_only=True)
    for refused in (site.ensure(), site.registrar.remove()):
        with pytest.raises(KountaRefused, match="KOUNTA_READ_ONLY"):
            await refused
    assert site.kounta.calls == 0
    assert await registration_of(site.mirror) is None
    assert await site.ours() == []


async def test_a_refused_registration_leaves_nothing_under_way(shop: Any) -> None:
    site = await shop.site("server", "not a url")
    with pytest.raises(KountaError) as raised:
        await site.ensure()
    assert raised.value.status == 400
    assert shop.shown() == {}


async def test_what_is_gone_is_shown_as_gone(shop: Any, site: Any) -> None:
    first = (await site.ensure()).registered[0]
    other = shop.by_hand("orders/created", ELSEWHERE)
    shop.delete(first)
    rows = {row["id"]: (row["owner"], row["gone"]) for row in (await site.registrar.view()).as_json()}
    assert rows.pop(first) == ("ours", True)
    assert rows.pop(other) == ("another", False)
    assert list(rows.values()) == [("ours", False)] * 2
