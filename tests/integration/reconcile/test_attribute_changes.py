"""MIRROR_ATTRIBUTES changed on a mirror that is in use: what goes, goes at once; what is new is read."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sync.merge.customers import ADDRESS_PARTS
from sync.merge.doubts import Reason
from sync.mirror import resubscription
from sync.mirror.resubscription import WIDENED

VIEWS = {
    "customers": "SELECT * FROM customers",
    "all_customers": "SELECT * FROM all_customers",
    "customer_versions": "SELECT * FROM customer_versions",
}
PHONES = ("phone", "mobile")
ADDRESSES = tuple(f"{kind}_{part}" for kind in ("primary", "shipping") for part in ADDRESS_PARTS)


def values(shop: Any, view: str, columns: tuple[str, ...]) -> set[Any]:
    return {row[column] for row in shop.rows(VIEWS[view]) for column in columns}


async def in_use(shop: Any, **settings: str) -> None:
    """Fill it, and let a customer change twice and another one go."""
    shop.settings |= settings
    await shop.fill(30)
    first, second, *_ = shop.ids
    await shop.deliver(shop.update(first, phone="02 1111 1111", tags=["vip", "gold"]))
    shop.skip(60)
    await shop.deliver(shop.update(first, first_name="Other", mobile="0400 000 000"))
    await shop.deliver(shop.update(second, first_name="Gone"), "customers/deleted")
    shop.delete(second)


async def test_what_is_no_longer_subscribed_is_blanked_in_rows_and_history(shop: Any) -> None:
    await in_use(shop)
    kept = values(shop, "all_customers", ("first_name", "last_name", "email", "reference_id"))
    assert values(shop, "all_customers", PHONES) - {None}
    await shop.reopen(MIRROR_ATTRIBUTES="name,email")
    gone = (*PHONES, *ADDRESSES, "tags", "image", "accepts_marketing", "other")
    assert values(shop, "all_customers", gone) == {None}
    assert values(shop, "customer_versions", gone) == {None}
    assert shop.rows("SELECT * FROM customer_tags") == []
    assert values(shop, "all_customers", ("first_name", "last_name", "email", "reference_id")) == kept
    assert json.loads(shop.rows("SELECT attributes FROM mirror_status")[0]["attributes"]) == [
        "name",
        "email",
    ]


async def test_what_came_and_could_not_be_read_is_kept_only_of_what_is_subscribed(shop: Any) -> None:
    await shop.fill(30)
    first = shop.ids[0]
    strange = {"phone": ["private"], "email": ["kept"], "loyalty": "\x00private"}
    await shop.deliver(shop.update(first, **strange))
    query = "SELECT unread FROM _customers WHERE id = ?"
    (row,) = shop.rows(query, first)
    assert json.loads(row["unread"]).keys() == {"phone", "email", "other.loyalty"}
    await shop.reopen(MIRROR_ATTRIBUTES="name,email")
    (row,) = shop.rows(query, first)
    assert json.loads(row["unread"]) == {"email": '["kept"]'}
    await shop.reopen(MIRROR_ATTRIBUTES="name")
    assert shop.rows(query, first) == [{"unread": None}]


async def test_changes_keep_what_is_still_subscribed(shop: Any) -> None:
    await in_use(shop)
    first = shop.ids[0]
    columns = "seq, kind, attributes, before, after"
    query = f"SELECT {columns} FROM customer_changes WHERE customer_id = ? ORDER BY seq"  # noqa: S608 - ours
    before = shop.rows(query, first)
    await shop.reopen(MIRROR_ATTRIBUTES="name")
    created, *_, phoned, renamed = after = shop.rows(query, first)
    assert [row["seq"] for row in after] == [row["seq"] for row in before]
    assert set(json.loads(created["after"])) == {"first_name", "last_name", "reference_id"}
    assert (json.loads(phoned["attributes"]), phoned["before"], phoned["after"]) == ([], "{}", "{}")
    assert json.loads(renamed["attributes"]) == ["name"]
    assert json.loads(renamed["after"]) == {"first_name": "Other"}
    assert "02 1111" not in json.dumps(shop.rows("SELECT * FROM _changes"))


async def test_what_is_newly_subscribed_is_read_of_every_live_customer(shop: Any) -> None:
    await in_use(shop, MIRROR_ATTRIBUTES="name,email")
    await shop.reopen(MIRROR_ATTRIBUTES="name,email,phone,address,tags,image,accepts_marketing")
    figures = await shop.figures()
    assert (figures.live, figures.partial, figures.verified) == (29, 29, 0)
    assert figures.doubts[Reason.PARTIAL.value] == 28  # the one that changed awaits its confirmation
    assert sum(figures.doubts.values()) == 29 + 1
    assert shop.engine.mirror.progress.sweep_due == WIDENED
    shop.skip(60)
    report = await shop.reconcile()
    assert (report.updated, report.unchanged, report.failed) == (0, 30, 0)
    assert (await shop.figures()).partial == 0
    assert shop.wrong == {}


async def test_a_list_that_carries_all_makes_it_whole_without_a_read(shop: Any) -> None:
    await shop.build(30, list_shape="complete")
    await shop.reopen(MIRROR_ATTRIBUTES="name")
    await shop.reconcile()
    await shop.reopen()
    shop.skip(60)
    assert (await shop.reconcile()).calls == shop.pages()
    assert shop.wrong == {}


async def test_some_may_go_while_others_come(shop: Any) -> None:
    await in_use(shop, MIRROR_ATTRIBUTES="name,phone")
    await shop.reopen(MIRROR_ATTRIBUTES="name,tags")
    assert values(shop, "customers", PHONES) == {None}
    shop.skip(60)
    await shop.reconcile()
    assert shop.wrong == {}
    assert shop.rows("SELECT * FROM customer_tags")


async def test_a_delivery_completes_a_customer_that_was_widened(shop: Any) -> None:
    await in_use(shop, MIRROR_ATTRIBUTES="name,email")
    await shop.reopen(MIRROR_ATTRIBUTES="name,email,phone")
    first = shop.ids[0]
    shop.skip(60)
    await shop.deliver(shop.update(first, phone="02 2222 2222"))
    (row,) = shop.rows("SELECT phone, partial FROM customers WHERE id = ?", first)
    assert (row["phone"], row["partial"]) == ("02 2222 2222", 0)


async def test_killed_meanwhile_it_is_done_by_the_next_owner(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_use(shop, MIRROR_ATTRIBUTES="name,phone")

    async def killed(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resubscription, "_unsettle", killed)
        with pytest.raises(KeyboardInterrupt):
            await shop.reopen(MIRROR_ATTRIBUTES="name,email")
    assert values(shop, "customers", PHONES) == {None}
    await shop.open(MIRROR_ATTRIBUTES="name,email")
    assert (await shop.figures()).partial == 29
    shop.skip(60)
    await shop.reconcile()
    assert shop.wrong == {}


async def test_nothing_happens_while_it_stays_the_same(shop: Any) -> None:
    await in_use(shop, MIRROR_ATTRIBUTES="name,phone")
    before = replace(await shop.figures(), progress=None)
    await shop.reopen(MIRROR_ATTRIBUTES="phone, name")
    assert replace(await shop.figures(), progress=None) == before
