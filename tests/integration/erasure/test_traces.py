"""Whatever the pages of a file have been through, no byte of an erased person is left in it."""

from random import Random
from typing import Any

import pytest

from tests.people import person

FIRST = 700_000_001
PEOPLE = 150
ERASED = 15


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("seed", range(3))
async def test_pages_that_were_split_moved_and_freed_hold_nothing(house: Any, seed: int) -> None:
    chance = Random(seed)
    people = list(range(PEOPLE))
    for _ in range(6):
        chance.shuffle(people)
        for number in people[: chance.randrange(20, PEOPLE)]:
            name = f"qz{number:04}x"
            long = f"{name} " * chance.choice((0, 1, 20, 120, 800))  # some lie on pages of their own
            changed = person(FIRST + number, name, first_name=f"{name}-{chance.random()}", notes=long)
            if chance.random() < 0.3:
                changed["image"] = [long]  # which cannot be read, and is kept
            await house.post(changed, chance.choice(("updated", "updated", "updated", "deleted")))
        await house.apply()
        house.later(seconds=10)
    for number in chance.sample(people, ERASED):
        receipt = await house.eraser.erase(FIRST + number)
        assert receipt.completed_at is not None
        assert house.traces(f"qz{number:04}x", str(FIRST + number)) == {}
    house.check_counts()
