"""Who gives way when there are too many connections, or when they hold too much."""

import resource
from dataclasses import dataclass, field

import pytest

from receiver import connections
from receiver.connections import Connections, Limits, Rank, fitting, source_of


@dataclass(eq=False)
class Fake:
    """A connection that only notes that it gave way."""

    name: str
    source: str | None = None
    held: int = 0
    gone: list[str] = field(default_factory=list)

    def give_way(self) -> None:
        self.gone.append(self.name)


def door(number: int = 3, of_one_source: int = 2) -> Connections:
    return Connections(Limits(connections=number, of_one_source=of_one_source), lambda _code, _path: None)


def names(gone: list[str], *all_names: str, source: str | None = None) -> list[Fake]:
    return [Fake(name, source, gone=gone) for name in all_names]


def test_the_one_that_has_waited_longest_gives_way() -> None:
    gone: list[str] = []
    port = door()
    first, second, third, fourth = names(gone, "first", "second", "third", "fourth")
    assert all(port.enter(one) for one in (first, second, third))
    port.busy(first)
    port.wait(first, Rank.STRANGER)  # answered, and waits again: now it is the newest
    assert port.enter(fourth)
    assert (gone, len(port)) == (["second"], 3)


def test_what_a_verified_delivery_has_come_by_gives_way_last_and_what_is_ending_first() -> None:
    gone: list[str] = []
    port = door()
    proved, stranger, ending, *more = names(gone, "proved", "stranger", "ending", "a", "b", "c")
    for one in (proved, stranger, ending):
        port.enter(one)
    port.wait(proved, Rank.PROVED)
    port.wait(ending, Rank.ENDING)
    for one in more:
        port.enter(one)
        port.busy(one)
    assert gone == ["ending", "stranger", "proved"]


def test_what_is_being_answered_never_gives_way() -> None:
    gone: list[str] = []
    port = door()
    *busy, last = names(gone, "first", "second", "third", "last")
    for one in busy:
        port.enter(one)
        port.busy(one)
    assert not port.enter(last)
    assert gone == []
    port.leave(busy[0])
    port.leave(last)
    assert port.enter(Fake("another"))


def test_a_source_makes_room_for_itself_alone() -> None:
    gone: list[str] = []
    port = door(number=10)
    (other,) = names(gone, "other", source="203.0.113.2")
    port.enter(other)
    for one in names(gone, "first", "second", "third", source="203.0.113.1"):
        assert port.enter(one)
    assert gone == ["first"]
    for one in names(gone, *"abcde"):  # a proxy's, or a neighbour's: one source for all of them
        assert port.enter(one)
    assert gone == ["first"]


def test_a_source_that_is_answered_on_all_of_its_connections_is_refused_another() -> None:
    port = door(number=10)
    for one in names([], "first", "second", source="203.0.113.1"):
        port.enter(one)
        port.busy(one)
    assert not port.enter(Fake("third", "203.0.113.1"))
    assert port.enter(Fake("another", "203.0.113.2"))


def test_what_is_held_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BYTES", 100)
    gone: list[str] = []
    port = door(number=10)
    idle, first, second, third = names(gone, "idle", "first", "second", "third")
    for one in (idle, first, second, third):
        port.enter(one)
    for one in (second, first):
        port.hold(one, 50)
    port.hold(second, 40)
    assert (gone, port.held) == ([], 90)
    port.hold(third, 5)  # too little to be of use
    port.hold(idle, 30)
    assert (gone, port.held) == (["first"], 75)
    port.leave(third)
    assert port.held == 70


def test_one_that_holds_too_much_gives_way_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BYTES", 100)
    gone: list[str] = []
    port = door()
    (only,) = names(gone, "only")
    port.enter(only)
    port.hold(only, 101)
    assert (gone, port.held, len(port)) == (["only"], 0, 0)


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        (("127.0.0.1", 1), None),
        (("10.1.2.3", 1), None),
        (("192.168.0.9", 1), None),
        (("::1", 1, 0, 0), None),
        (("fe80::1%eth0", 1, 0, 2), None),
        (("fd00::1", 1, 0, 0), None),
        (("::ffff:10.0.0.1", 1, 0, 0), None),
        (("8.8.8.8", 1), "8.8.8.8"),
        (("::ffff:8.8.8.8", 1, 0, 0), "8.8.8.8"),
        (("2001:4860:4860:1:2:3:4:5", 1, 0, 0), "2001:4860:4860:1::/64"),
        ("", None),  # a Unix socket
        (None, None),
    ],
)
def test_a_source_is_an_address_of_the_internet(peer: object, source: str | None) -> None:
    assert source_of(peer) == source


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "number"),
    [
        (1_000_000, 1_000_000, None, 1024),
        (1024, 1_000_000, 1024 + 1024 + 64, 1024),
        (1024, 1500, 1500, 1500 - 1024 - 64),
        (256, 256, 256, 16),
    ],
)
def test_connections_fit_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, number: int
) -> None:
    was_set: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: was_set.append(both))
    assert fitting(Limits()).connections == number
    assert was_set == ([] if raised is None else [(raised, hard)])
