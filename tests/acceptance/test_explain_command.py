"""`explain` and `deliveries show`: from "why is her e-mail wrong?" to the answer, as a person types it."""

import json
from typing import Any

import pytest


@pytest.fixture
async def kept(shop: Any) -> Any:
    await shop.open(5)
    await shop.quiet_worker()
    return shop


async def said(shop: Any, command: str) -> Any:
    typed = await shop.type(f"{command} --json")
    assert (typed.child.returncode, typed.sentences) == (0, [])
    return json.loads(typed.out)


async def test_a_difference_to_kounta_is_shown_in_one_call_that_changes_nothing(kept: Any) -> None:
    ann = kept.ids[0]
    kept.sandbox.company.update(ann, {"email": "right@shop.example"}, announce=False)
    rows = kept.rows("SELECT * FROM all_customers")
    calls = kept.sandbox.calls.by_kind.total()
    found = await said(kept, f"explain {ann} --upstream")
    assert kept.sandbox.calls.by_kind.total() == calls + 1
    assert kept.rows("SELECT * FROM all_customers") == rows
    assert found["upstream"]["sentence"] == "Kounta has it otherwise: email."
    (difference,) = found["upstream"]["differences"]
    assert difference["mirror"] == {"email": found["customer"]["email"]}
    assert difference["kounta"] == {"email": "right@shop.example"}
    shown = (await kept.type(f"explain {ann} --upstream")).out
    assert f"    email: {found['customer']['email']} here, right@shop.example there\n" in shown


async def test_a_webhook_is_followed_from_the_customer_to_its_body(kept: Any) -> None:
    ann = kept.ids[0]
    kept.sandbox.company.update(ann, {"first_name": "Anna"}, announce=False)
    delivery = await (await kept.inbox()).append(ann, "Anna")
    await kept.until(lambda: kept.rows("SELECT * FROM delivery_verdicts WHERE delivery_id = ?", delivery))
    found = await said(kept, f"explain {ann}")
    assert found["sentence"].startswith(f"Customer {ann} is live and ")
    assert found["customer"]["first_name"] == "Anna"
    assert [one["delivery_id"] for one in found["deliveries"]] == [delivery]

    shown = await said(kept, f"deliveries show {delivery}")
    assert (shown["verdict"], shown["body"], shown["in_inbox"]) == (
        "applied",
        {"id": ann, "first_name": "Anna"},
        True,
    )
    (change,) = shown["changes"]
    assert change["after"] == {"first_name": "Anna"}

    tried = await said(kept, f"deliveries replay {delivery} --dry-run")
    assert (tried["before"], tried["missing"]) == ({delivery: "applied"}, [])
    assert (await said(kept, f"deliveries show {delivery}"))["past_verdicts"] == []
    await said(kept, f"deliveries replay {delivery}")
    (past,) = (await said(kept, f"deliveries show {delivery}"))["past_verdicts"]
    assert past["verdict"] == "applied"
    assert [one["delivery_id"] for one in await said(kept, f"deliveries list --customer {ann}")] == [delivery]


async def test_what_waits_and_what_is_no_json_are_shown_safely(shop: Any) -> None:
    await shop.open(1)
    assert (await shop.type("migrate")).child.returncode == 0
    inbox = await shop.inbox()
    delivery = await inbox.writer.append(5678, "customers/updated", {}, b"\x1b[31mno JSON\xff")
    (row,) = await said(shop, "deliveries list --verdict pending")
    assert (row["delivery_id"], row["verdict"]) == (delivery, "pending")
    shown = await shop.type(f"deliveries show {delivery}")
    assert "\x1b" not in shown.out
    assert shown.out.endswith("\\x1b[31mno JSON\\xff\n")
    assert (await said(shop, f"deliveries show {delivery}"))["body_base64"] == "G1szMW1ubyBKU09O/w=="


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("explain 999999999", "The mirror knows nothing of a customer 999999999."),
        (
            "explain 999999999 --upstream",
            "The mirror knows nothing of a customer 999999999, and Kounta has none.",
        ),
        ("deliveries show nope", "Neither inbox nor mirror knows a delivery nope."),
    ],
)
async def test_what_is_not_there_is_one_sentence_and_1(kept: Any, command: str, sentence: str) -> None:
    typed = await kept.type(command)
    assert (typed.child.returncode, typed.out, typed.sentences) == (1, "", [sentence])
