"""`kounta-mirror webhooks capture`: from a refused webhook to the token that verifies it."""

import json
import signal
import stat
from typing import Any

import httpx2

from receiver.signature import sign

BODY = b'{"id": 1, "first_name": "Jamie"}'
RIGHT = b"the-token-that-kounta-has"


async def post(receiver: Any, signature: str | None) -> int:
    url = f"http://127.0.0.1:{receiver.port}/webhooks/5678/customers/updated"
    headers = {} if signature is None else {"X-Kounta-Signature": signature}
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(url, content=BODY, headers=headers)
    return int(answer.status_code)


async def captured(shop: Any, receiver: Any) -> Any:
    capturing = await shop.start("webhooks capture --minutes 5 --json")
    await shop.until(lambda: capturing.sentences)
    assert await post(receiver, sign(BODY, RIGHT)) == 401
    assert await post(receiver, None) == 401
    await shop.until(lambda: len(capturing.sentences) == 3)
    assert (await capturing.stops(signal.SIGINT))[0] == 0
    assert await post(receiver, sign(BODY, RIGHT)) == 401  # nobody listens any more
    return json.loads(capturing.out)


async def test_a_token_is_tried_on_what_was_refused(shop: Any) -> None:
    await shop.open(1)
    receiver = await shop.receiver()
    file = shop.directory / "data/captured.jsonl"
    file.touch(0o644)
    said = await captured(shop, receiver)
    assert (said["captured"], said["by_reason"]) == (2, {"signature_invalid": 1, "signature_missing": 1})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # though one that was there was open to others
    assert len(file.read_text().splitlines()) == 2

    right = await shop.type(f"webhooks capture --try {RIGHT.decode()}")
    assert right.child.returncode == 0
    assert right.sentences == ["It is the right token: put it into KOUNTA_SIGNATURE_TOKENS."]
    wrong = await shop.type("webhooks capture --try sandbox-signature-token --json")
    assert wrong.child.returncode == 1
    assert (json.loads(wrong.out)["verified"], json.loads(wrong.out)["of"]) == (0, 1)

    assert (await shop.type("webhooks capture --discard")).child.returncode == 0
    assert not file.exists()
    gone = await shop.type("webhooks capture --try x")
    assert gone.child.returncode == 1
    assert gone.sentences[0].endswith("kounta-mirror webhooks capture --minutes 10")


async def test_what_is_captured_is_neither_stored_nor_applied(shop: Any) -> None:
    await shop.open(1)
    receiver = await shop.receiver()
    await captured(shop, receiver)
    assert (await receiver.process.stops())[0] == 0
    worker = await shop.type("worker --once")
    assert worker.child.returncode == 0
    assert shop.rows("SELECT * FROM delivery_verdicts") == []


async def test_it_ends_by_itself_and_one_at_a_time_listens(shop: Any) -> None:
    await shop.open(1)
    receiver = await shop.receiver()
    first = await shop.start("webhooks capture --minutes 0.1")
    await shop.until(lambda: first.sentences)
    second = await shop.type("webhooks capture --minutes 5")
    assert second.child.returncode == 1
    assert second.sentences[0].startswith("Somebody captures for company 5678 already.")
    assert await first.ends() == 0
    assert first.out == "Nothing was refused meanwhile.\n"
    await receiver.process.stops()


async def test_without_a_receiver_it_says_so(shop: Any) -> None:
    await shop.open(1)
    typed = await shop.type("webhooks capture --minutes 1")
    assert typed.child.returncode == 1
    assert typed.sentences[0].startswith("No receiver runs on ")
    assert (await shop.type("webhooks capture")).child.returncode == 2
