"""What becomes of a delivery, from the inbox's file to the mirror's: the table of the merge by example."""

import json
from itertools import permutations
from typing import Any

import pytest


async def test_a_created_customer_is_a_row_a_moment_later(house: Any) -> None:
    delivery = await house.post(house.customer(7, first_name="Ann"), "created")
    assert await house.apply() == 1
    row = house.row("SELECT * FROM customers")
    assert (row["company_id"], row["id"], row["first_name"]) == (5678, 7, "Ann")
    assert (row["tags"], row["accepts_marketing"], row["reference_id"]) == ('["vip"]', 1, "")
    assert (row["primary_city"], row["shipping_city"], row["mobile"]) == ("Sydney", None, None)
    assert (row["as_of"], row["first_seen_at"]) == ("2026-11-24T12:00:00.000Z",) * 2
    assert (row["first_seen_by"], row["verified_at"], row["partial"]) == ("webhook", None, 0)
    assert house.verdict(delivery) == {
        "company_id": 5678,
        "delivery_id": delivery,
        "customer_id": 7,
        "topic": "customers/created",
        "verdict": "applied",
        "reason": "confirmation",
        "received_at": "2026-11-24T12:00:00.000Z",
        "applied_at": "2026-11-24T12:00:00.000Z",
    }
    assert house.doubts() == {7: "confirmation"}


async def test_a_newer_update_is_applied_and_is_to_be_confirmed(house: Any) -> None:
    await house.post(house.customer(7, 0), "created")
    house.at(10)
    await house.post(house.customer(7, 10, first_name="Ann"))
    await house.apply()
    assert house.verdicts() == ["applied", "applied"]
    assert house.name(7) == "Ann"
    assert house.doubts() == {7: "confirmation"}


async def test_an_equal_body_changes_nothing_but_how_old_the_picture_is(house: Any) -> None:
    await house.post(house.customer(7, 0), "created")
    house.at(10)
    await house.post(house.customer(7, 10))
    await house.apply()
    assert house.verdicts() == ["applied", "unchanged"]
    assert house.row("SELECT as_of FROM customers")["as_of"] == "2026-11-24T12:00:10.000Z"
    assert len(house.rows("SELECT * FROM customer_changes")) == 1


async def test_an_older_update_that_arrives_late_is_stale_and_doubted(house: Any) -> None:
    house.at(60)
    await house.post(house.customer(7, 30, first_name="New"))
    await house.post(house.customer(7, 0, first_name="Old"))
    await house.apply()
    assert house.verdicts() == ["applied", "stale"]
    assert house.name(7) == "New"
    assert house.doubts() == {7: "stale"}


@pytest.mark.parametrize("order", [*permutations(["First", "Second"])])
async def test_two_updates_in_the_same_second_in_either_order_are_doubted(
    house: Any, order: tuple[str, ...]
) -> None:
    await house.post(house.customer(7, -60), "created")
    for name in order:
        await house.post(house.customer(7, 0, first_name=name))
    await house.apply()
    assert house.verdicts() == ["applied", "applied", "applied"]
    assert house.name(7) == order[-1]
    assert house.doubts() == {7: "ambiguous"}


async def test_a_b_a_within_a_second_keeps_all_three(house: Any) -> None:
    await house.post(house.customer(7, -60, first_name="A"), "created")
    for name in ("B", "A", "B", "A"):
        await house.post(house.customer(7, 0, first_name=name))
    await house.apply()
    assert house.verdicts() == ["applied"] * 5
    assert house.name(7) == "A"
    assert house.doubts() == {7: "ambiguous"}
    versions = house.rows("SELECT first_name FROM customer_versions ORDER BY seq")
    assert [one["first_name"] for one in versions] == ["A", "B", "A", "B", "A"]


async def test_an_update_after_a_delete_never_resurrects(house: Any) -> None:
    house.at(20)
    await house.post(house.customer(7, 0), "created")
    await house.post(house.customer(7, 10), "deleted")
    await house.post(house.customer(7, 5, first_name="Late"))
    await house.post(house.customer(7, 20, first_name="Back?"))
    await house.apply()
    assert house.verdicts() == ["applied", "tombstoned", "stale", "contradicted"]
    assert house.name(7) is None
    assert house.row("SELECT * FROM all_customers")["deleted_at"] is not None
    assert house.doubts() == {7: "stale"}


async def test_a_delete_before_its_create_leaves_no_customer(house: Any) -> None:
    house.at(10)
    await house.post(house.customer(7, 10), "deleted")
    await house.post(house.customer(7, 0), "created")
    await house.apply()
    assert house.verdicts() == ["tombstoned", "stale"]
    assert house.name(7) is None
    assert house.doubts() == {7: "stale"}


async def test_a_second_delete_changes_nothing(house: Any) -> None:
    await house.post(house.customer(7, 0), "deleted")
    house.at(5)
    await house.post(house.customer(7, 5), "deleted")
    await house.apply()
    assert house.verdicts() == ["tombstoned", "unchanged"]
    assert len(house.rows("SELECT * FROM customer_changes")) == 1


async def test_an_update_for_an_unknown_id_counts_as_a_missed_create(house: Any) -> None:
    delivery = await house.post(house.customer(7))
    await house.apply()
    assert house.name(7) == "Jamie"
    assert house.verdict(delivery)["verdict"] == "applied"
    assert house.verdict(delivery)["reason"] == "no created delivery had come"
    assert house.row("SELECT kind FROM customer_changes")["kind"] == "created"


async def test_a_body_about_another_company_is_quarantined(house: Any) -> None:
    delivery = await house.post(house.customer(7, company_id=99))
    await house.apply()
    assert house.verdict(delivery)["verdict"] == "quarantined"
    assert house.verdict(delivery)["reason"] == "the body is about company '99', not 5678"
    assert house.rows("SELECT * FROM all_customers") == []


UNREADABLE = {
    b"": "EOF",
    b"\xff\xfe": "expected value",
    b"null": "Input should be an object",
    b"[]": "Input should be an object",
    b"{}": "id: Field required",
    b'{"id": 0}': "id: Input should be greater than or equal to 1",
    b'{"id": true}': "id: Value error, expected a number",
    b'{"id": 9223372036854775808}': "id: ",
    b'{"id": 7, "first_name": "Jo"': "EOF",
}
READABLE_IN_PART = {
    b'"tags": "vip"': {"tags": '"vip"'},
    b'"first_name": "a\\u0000b"': {"first_name": '"a\\u0000b"'},
    b'"first_name": "a\x00b"': {"first_name": '"a\\x00b"'},
    b'"first_name": "\\ud800"': {"first_name": '"\\ud800"'},
    b'"first_name": "\xff"': {"first_name": '"\\udcff"'},
    b'"odd": {"a\\u0000b": 1}': {"other.odd": '{"a\\u0000b": 1}'},
    b'"odd": "\\udc00 and more"': {"other.odd": '"\\udc00 and more"'},
    b'"odd": NaN': {"other.odd": "NaN"},
    b'"odd": ' + b"[" * 50_000 + b"]" * 50_000: {"other.odd": "[" * 1024},
}


async def test_what_cannot_be_read_in_a_body_costs_only_itself_and_is_kept_on_both_databases(
    house: Any,
) -> None:
    for number, strange in enumerate(READABLE_IN_PART):
        whole = json.dumps(house.customer(number + 1, last_name=f"{number}")).encode()
        await house.post(whole[:-1] + b", " + strange + b"}")
    await house.apply()
    assert house.counts() == {"applied": len(READABLE_IN_PART)}
    rows = house.rows(
        "SELECT id, last_name, first_name, tags, other, partial, unread FROM _customers ORDER BY id"
    )
    for row, unread in zip(rows, READABLE_IN_PART.values(), strict=True):
        assert json.loads(row["unread"]) == unread
        assert row["last_name"] == f"{row['id'] - 1}"
        assert row["partial"] == any("." not in name for name in unread)
        assert row.get(*unread, row["other"]) is None


async def test_what_cannot_be_read_is_quarantined_with_its_reason_and_stops_no_other(house: Any) -> None:
    names = {}
    for number, body in enumerate(UNREADABLE):
        names[await house.post(body)] = body
        await house.post(house.customer(100 + number))
    await house.apply()
    for delivery, body in names.items():
        ruling = house.verdict(delivery)
        assert (ruling["verdict"], ruling["customer_id"]) == ("quarantined", None), body
        assert UNREADABLE[body] in ruling["reason"], (body, ruling["reason"])
    assert house.counts() == {"quarantined": len(UNREADABLE), "applied": len(UNREADABLE)}
    assert len(house.rows("SELECT * FROM customers")) == len(UNREADABLE)
    assert house.doubts()[7] == "failed"  # named in bytes that say nothing else
    assert house.mirror.progress.lost_at == house.now  # and some name nobody


async def test_the_deliveries_of_another_company_are_left_to_its_own_mirror(house: Any) -> None:
    await house.post(house.customer(7), company=99)
    await house.post(house.customer(8))
    await house.post(house.customer(9), company=99)
    assert await house.apply() == 1
    assert [one["id"] for one in house.rows("SELECT id FROM all_customers")] == [8]
    assert house.mirror.progress.missing == 0
