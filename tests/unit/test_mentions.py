"""Whom a body is about, as far as an erasure must know."""

import pytest

from sync.merge.mentions import mentioned


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
