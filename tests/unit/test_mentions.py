"""Whom a body is about, as far as an erasure must know."""

import pytest

from sync.merge.mentions import known_by, mentioned, named_in


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"id": 7, "first_name": "Ann"}', {7}),
        (b'{"id": "7"}', {7}),
        (b'{"id": 7.0}', {7}),
        (b'{"id": 7e0, "company": {"id": 5678}}', {7}),
        (b'{"id": 8, "id": 7}', {7}),
        (b'{"id": 7, "first_name": "An', {7}),
        (b'{"id_str":"7","first_name": "An', {7}),
        (b'[{"id": 7}, {"id": 71}]', {7, 71}),
        (b'\xff{"id" : 7}', {7}),
        (b'{"id": true, "tags": ["7"]}', set()),
        (b'{"paid": 7', set()),
        (b"7", set()),
        (b"", set()),
    ],
)
def test_it_is_the_id_that_the_worker_reads_or_else_every_id_that_stands_there(
    body: bytes, ids: set[int]
) -> None:
    assert mentioned(body) == ids


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"id": 7, "first_name": 5}', (7,)),
        (b'{"id": 7, "first_name": "Cut sh', (7,)),
        (b'{"id": "7", "first_name": "\xff"}', (7,)),
        (b'{"company": {"id": 5}, "id": 7, "x": ', (5, 7)),
        (b"[" + b",".join(b'{"id": %d}' % number for number in range(1, 9)) + b"]", (1, 2, 3, 4, 5)),
        (b'{"id": 0, "id_str": "99999999999999999999"}', ()),
        (b'{"id": 9223372036854775808, "a": 1}x', ()),
        (b'{"id": 123', ()),
        (b"no customer", ()),
        (b"", ()),
    ],
)
def test_a_lost_body_names_customers_in_its_bytes(body: bytes, ids: tuple[int, ...]) -> None:
    assert named_in(body) == ids


@pytest.mark.parametrize("body", [b"no customer", b'{"first_name": "Cut', b"\xff\x00", b'{"id": 7, "x'])
def test_the_same_bytes_are_known_again(body: bytes) -> None:
    assert known_by(body) == known_by(bytes(body))
    assert known_by(body) not in {None, known_by(body + b" ")}


@pytest.mark.parametrize("body", [b"", b"{", b'{"', b'{"id"', b'{"id": ', b'{"id": 12', b' {"id":"1'])
def test_what_is_left_of_any_customer_is_not_known_again(body: bytes) -> None:
    assert known_by(body) is None
