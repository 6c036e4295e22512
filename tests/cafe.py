"""A cafe whose mirror is the same every time: what recipes of the docs print is asked of it; the recipes."""

import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from receiver.database import mirror_of
from sync.merge.decisions import accept
from sync.merge.snapshots import Source
from sync.mirror.companies import KnownCompany, keep_company, keep_days
from sync.mirror.samples import keep_sample
from tests.stores import change

Person = tuple[int, str, str | None, list[str] | None, bool | None]
BEFORE: tuple[Person, ...] = (
    (1, "Ann", "Sydney", ["vip", "gold"], True),
    (2, "Ben", "Melbourne", [], False),
    (3, "Cho", "Sydney", ["vip"], True),
    (4, "Dee", "Perth", None, None),
)
"""Who was there before the mirror was: id, first name, city, tags, whether they want marketing."""
LATER: tuple[Person, ...] = ((5, "Eli", "Sydney", ["new"], True), (6, "Fay", None, [], None))
HOUR = 3600


async def furnish(house: Any) -> None:
    """Let it have a past: a backfill at noon, webhooks until the next day in Sydney, and samples."""
    await keep_company(house.mirror, KnownCompany("Cafe", "Australia/Sydney", house.now))
    await keep_days(house.mirror, house.now)
    async with house.mirror.batch([one[0] for one in BEFORE], house.now) as batch:
        for one in BEFORE:
            body = json.dumps(_customer(house, 0, *one)).encode()
            seen = house.applier._lens.body(body, deleted=False, arrived_at=house.now, position=0)
            batch.decide(accept(None, seen, house.attributes), source=Source.BACKFILL, at=house.now)
    change(mirror_of(house.place), "UPDATE _customers SET first_seen_by = 'backfill'")
    await keep_sample(house.mirror, house.now, 0, 0)
    house.at(HOUR / 2)
    for one in LATER:
        await house.post(_customer(house, HOUR / 2, *one), "created")
    await house.post(_customer(house, HOUR / 2, *BEFORE[0], phone="02 9000 0001"))
    await house.apply()
    await keep_sample(house.mirror, house.now, 0, 0)
    house.at(2 * HOUR)
    await house.post(_customer(house, 2 * HOUR, *BEFORE[1]), "deleted")
    await house.apply()
    for number in range(1, 4):
        await keep_sample(house.mirror, house.now + timedelta(minutes=number), 0, 0)
    await house.mirror.refresh()


def _customer(
    house: Any, at: float, id_: int, name: str, city: str | None, tags: Any, marketing: Any, **fields: Any
) -> dict[str, Any]:
    address = None if city is None else {"city": city, "country": "AU"}
    values = {"first_name": name, "last_name": "Lee", "primary_address": address, "tags": tags}
    customer: dict[str, Any] = house.customer(id_, at, accepts_marketing=marketing, **values)
    return customer | fields


class Recipe(NamedTuple):
    """A block of a page, and the block of text behind it: what it prints."""

    language: str
    program: str
    output: str


def recipes(page: Path, heading: str) -> list[Recipe]:
    """Give the recipes below a heading, in order."""
    (section,) = (one for one in _sections(page.read_text()) if one.splitlines()[0].strip() == heading)
    found = re.findall(r"```(\w+)\n(.*?)```\n+```text\n(.*?)```", section, re.DOTALL)
    return [Recipe(*one) for one in found]


def _sections(text: str) -> Iterator[str]:
    return iter(re.split(r"^## ", text, flags=re.MULTILINE)[1:])


def same(page: Path, recipe: Recipe, output: str) -> None:
    """Check that it prints what the page says; with WRITE_PAGES in the environment the page is written."""
    if "WRITE_PAGES" in os.environ:
        before, program, after = page.read_text().partition(f"{recipe.program}```\n")
        old = re.match(r"\n*```text\n.*?```", after, re.DOTALL)
        assert old is not None
        page.write_text(f"{before}{program}\n```text\n{output}```{after[old.end() :]}")
        return
    assert output == recipe.output, f"{page.name} says something else: run it with WRITE_PAGES=1"


def trimmed(output: str) -> str:
    """Give what was printed as a page has it: without blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in output.rstrip().splitlines())
