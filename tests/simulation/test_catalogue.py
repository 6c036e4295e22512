"""The mirror among the behaviours of the catalogue: alone, mixed, and with a judge that finds lies."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.merge import decisions
from sync.sandbox.catalogue import CATALOGUE
from sync.sandbox.customer import Customer
from sync.sandbox.outbox import Change
from tests.budget import tries
from tests.simulation.oddly import PLAIN, Chosen, drawn
from tests.simulation.plan import plan
from tests.simulation.seed import simulate
from tests.simulation.witness import Witness, is_same

DRAWN = [one.name for one in CATALOGUE.values() if one.draws]
SEEDS_FOR_ALL = tries(16, len(DRAWN))
AT_ONCE = [tuple(DRAWN[first::SEEDS_FOR_ALL]) for first in range(SEEDS_FOR_ALL)]
"""Behaviours of one seed: four in the whole check, each alone in a long run."""
SEED = 12
"""A seed that takes the last value of each behaviour, the strongest one."""
ASKED = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("names", AT_ONCE, ids="+".join)
def test_the_mirror_survives_each_behaviour(names: tuple[str, ...]) -> None:
    outcome = simulate(SEED, Chosen(only=names))

    assert not outcome.broken, (
        f"scripts/simulate --seed {SEED} --only {' --only '.join(names)}: {outcome.broken}"
    )
    assert outcome.odd == names


def test_seeds_draw_none_one_or_several_and_never_what_is_left_out() -> None:
    odds = [drawn(seed, Chosen(without={"gone"}), ordered=False) for seed in range(400)]
    numbers = [len(odd.names) for odd in odds]

    assert numbers.count(0) > 40
    assert numbers.count(1) > 100
    assert max(numbers) > 8
    assert {name for odd in odds for name in odd.names} == set(DRAWN) - {"gone"}


def test_stamps_are_trusted_only_where_nothing_drawn_disturbs_them() -> None:
    plans = [plan(seed) for seed in range(200)]

    assert any(one.ordered and one.odd.names for one in plans)
    assert not any(one.ordered and "clock_skew_seconds" in one.odd.faults for one in plans)


def test_a_read_that_proves_what_it_did_not_carry_is_a_lie() -> None:
    outcomes = [simulate(seed, Chosen(only=("poor-reads", "fixed-oddities"))) for seed in (1, 3)]
    assert not any(one.broken for one in outcomes)


def test_a_row_that_is_called_verified_without_a_read_is_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    apply_ = decisions._applied

    def verified(record: Any, snapshot: Any, columns: Any, doubt: Any) -> Any:
        decision = apply_(record, snapshot, columns, doubt)
        return replace(decision, record=replace(decision.record, verified_at=snapshot.arrived_at))

    monkeypatch.setattr(decisions, "_applied", verified)

    assert "a lie" in simulate(3, PLAIN).broken


class Changes:
    def __init__(self, *changes: Change) -> None:
        self.changes = {7: list(changes)}


def test_a_witness_knows_what_was_true_when_and_what_an_answer_carried() -> None:
    first, second = Customer(7, first_name="Ana"), Customer(7, first_name="Bo")
    ledger: Any = Changes(Change(1, ASKED + 10, "customers/updated", second))
    witness = Witness(ledger, [first], "app")
    path = "/v1/companies/5678/customers/7.json"
    witness.note(path, b'{"id":"7","first_name":{"x":1},"phone":61,"tags":{"0":"vip"}}', ASKED, ASKED + 1)

    def names(since: float, until: float) -> list[str]:
        return [state["first_name"] for state in witness.states(7, ASKED + since, ASKED + until)]

    assert (names(0, 5), names(5, 15), names(11, 15)) == (["Ana"], ["Ana", "Bo"], ["Bo"])
    (served,) = witness.served_at(7, ASKED + 1)
    assert served.carried == {"phone", "tags"}
    assert witness.served_at(7, ASKED + 2) == []


@pytest.mark.parametrize(
    ("column", "shown", "true", "same"),
    [
        ("mobile", "412", "0412", True),
        ("mobile", "413", "0412", False),
        ("first_name", "7", "007", False),
        ("email", "", None, True),
        ("accepts_marketing", False, None, False),
    ],
)
def test_oddities_blur_only_what_they_lose(column: str, shown: Any, true: Any, *, same: bool) -> None:
    assert is_same(column, shown, true, dialled=True, none_is_empty=True) is same
    assert is_same(column, shown, true, dialled=False, none_is_empty=False) is False
