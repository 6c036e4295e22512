"""How it stood: a sample a minute of the last days, one an hour of the last year, as reports see them."""

from datetime import timedelta
from typing import Any

from receiver.database import mirror_of
from sync.mirror.samples import keep_sample, samples_since, thin_samples
from tests.stores import change


async def test_a_sample_says_how_many_are_confirmed(house: Any) -> None:
    await house.post(house.customer(1))
    await house.apply()
    await keep_sample(house.mirror, house.now, 3, 1.5)
    assert house.row("SELECT * FROM mirror_samples") == {
        "company_id": 5678,
        "at": "2026-11-24T12:00:00.000Z",
        "live": 1,
        "verified": 0,
        "verifications_due": 1,
        "pending": 3,
        "oldest_pending_seconds": 1.5,
    }
    (sample,) = await samples_since(house.mirror, house.now)
    assert (sample.live, sample.verified, sample.pending) == (1, 0, 3)


async def test_samples_of_versions_that_did_not_count_stay_without(house: Any) -> None:
    change(
        mirror_of(house.place),
        "INSERT INTO _samples (company_id, at, pending, oldest_pending_seconds, verifications_due) "
        "VALUES (5678, '2026-11-24T12:00:00.000Z', 1, 0, 0)",
    )
    (sample,) = await samples_since(house.mirror, house.now)
    assert (sample.live, sample.verified) == (None, None)


async def test_of_what_is_older_than_two_days_the_first_of_each_hour_stays(house: Any) -> None:
    moments = [house.now - timedelta(minutes=minutes) for minutes in range(0, 4 * 24 * 60 + 1, 20)]
    moments += [house.now - timedelta(days=days) for days in (399, 401)]
    for at in moments:
        await keep_sample(house.mirror, at, 0, 0)
    gone = await thin_samples(house.mirror, house.now)
    kept = [sample.at for sample in await samples_since(house.mirror, house.now - timedelta(days=500))]
    assert gone == len(moments) - len(kept)
    border = house.now - timedelta(days=2)
    assert [at for at in kept if at >= border] == sorted(at for at in moments if at >= border)
    old = [at for at in kept if at < border]
    assert old[0] == house.now - timedelta(days=399)
    assert all(at.minute == 0 for at in old)
    assert len(old) == 1 + 48
    assert await thin_samples(house.mirror, house.now) == 0
