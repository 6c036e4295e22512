"""`export`: the customers of one moment in one file, typed, whole or not there, on both databases."""

import csv
import json
import os
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from receiver.database import mirror_of, utc_text
from sync.mirror import backup, export, formats
from sync.mirror.backup import back_up
from sync.mirror.customers import NOT_KEPT, BeforeHistoryError, MomentError
from sync.mirror.export import ExportFailed, export_customers
from sync.mirror.formats import ExtraMissingError, UnknownFormatError
from sync.mirror.store import Mirror
from tests.clock import NOON
from tests.databases import asked
from tests.stores import change

JSON = ("tags", "other")
THEN = "'2026-11-24T12:00:00.000Z'"
KIM = (
    "INSERT INTO _customers (company_id, id, first_name, as_of, first_seen_at, first_seen_by, changed_at, "  # noqa: S608 - ours
    "partial, rests_on_arrival, position, settled_at, read_position) "
    f"VALUES (77, 1, 'Kim', {THEN}, {THEN}, 'write', {THEN}, true, false, 0, {THEN}, 0)"
)


@pytest.fixture
async def busy(house: Any) -> Any:
    """Customers whose values are hard to write, a deleted one, and another company."""
    await house.post(house.customer(1, first_name='Jo "JJ", the\r\nfirst', tags=["vip", "a,b", 'c"d', ""]))
    await house.post(house.customer(2, last_name="Ωmega\n", tags=[], loyalty={"card": "Ü,1", "points": 1.5}))
    await house.post(house.customer(3, accepts_marketing=False, email=None, primary_address=None))
    await house.post(house.customer(4, first_name="=1+1", tags=None, accepts_marketing=None))
    await house.post(house.customer(5))
    house.at(9)
    await house.apply()
    await house.post(house.customer(5, 9), "deleted")
    await house.apply()
    await Mirror.of(house.mirror.store, 77, house.attributes)
    change(mirror_of(house.place), KIM)
    return house


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row of SQL as CSV has it: JSON is read, so that its spelling does not count."""
    booleans = ("accepts_marketing", "partial")
    shown = {name: "" if value is None else str(value) for name, value in row.items()}
    shown |= {name: ["false", "true"][row[name]] for name in booleans if row.get(name) is not None}
    return read_json(shown)


def read_json(row: dict[str, str]) -> dict[str, Any]:
    return row | {name: json.loads(row[name]) if row[name] else None for name in JSON}


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(file: Path) -> str:
    return f"{stat.S_IMODE(file.stat().st_mode):04o}"


@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize("name", ["customers.csv", "customers.parquet", "copy.db"])
async def test_a_new_file_is_for_the_user_and_a_group_and_one_that_is_replaced_keeps_its_mode(
    busy: Any, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name

    def write(mode: int | None = None) -> str:
        if name == "copy.db":
            back_up(busy.place, file, mode=mode)
        else:
            export_customers(busy.place, file, (5678,), mode=mode)
        return mode_of(file)

    assert write() == "0640"
    for chosen in (0o600, 0o664):
        file.chmod(chosen)
        assert write() == f"{chosen:04o}"
    assert write(0o640) == "0640"
    file.unlink()
    assert write(0o644) == "0644"
    file.unlink()
    os.umask(0o077)
    assert write() == "0600"


@pytest.mark.parametrize("chosen", [None, 0o600])
async def test_the_part_is_never_open_to_more_people_than_the_file(
    busy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: int | None
) -> None:
    file = tmp_path / "copy.db"
    file.touch()
    file.chmod(0o600)
    seen = []
    shorten = backup._shorten

    def look(part: Path, company_id: int | None) -> None:
        seen.append(mode_of(part))
        shorten(part, company_id)

    monkeypatch.setattr(backup, "_shorten", look)
    back_up(busy.place, file, mode=chosen)
    assert seen == ["0600"]


async def test_csv_holds_the_view_customers(busy: Any, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    written = export_customers(busy.place, file, (77, 5678))
    rows = busy.rows("SELECT * FROM customers ORDER BY company_id, id")
    assert [(row["company_id"], row["id"]) for row in rows] == [
        (77, 1),
        *((5678, id_) for id_ in (1, 2, 3, 4)),
    ]
    assert [read_json(row) for row in read_csv(file)] == [as_text(row) for row in rows]
    assert file.read_bytes().startswith(b"company_id,id,first_name,")
    assert written == (5, file.stat().st_size)


async def test_parquet_holds_it_with_types(busy: Any, tmp_path: Path) -> None:
    file = tmp_path / "customers.parquet"
    assert export_customers(busy.place, file, (77, 5678)).customers == 5
    table = parquet.read_table(file)
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("changed_at").type == pa.timestamp("ms", "UTC")
    assert table.schema.field("partial").type == pa.bool_()
    assert table.schema.field("tags").type == pa.list_(pa.string())
    assert {table.schema.field(name).type for name in ("first_name", "other")} == {pa.string()}
    assert parquet.ParquetFile(file).metadata.row_group(0).column(2).compression == "ZSTD"
    rows = busy.rows("SELECT * FROM customers ORDER BY company_id, id")
    for row in rows:
        row["tags"] = None if row["tags"] is None else json.loads(row["tags"])
        row["other"] = None if row["other"] is None else json.loads(row["other"])
    assert table.column_names == list(rows[0])
    found = table.to_pylist()
    for row in found:
        row["other"] = None if row["other"] is None else json.loads(row["other"])
        row |= {name: utc_text(value) for name, value in row.items() if isinstance(value, datetime)}
    assert found == rows
    assert [row["reference_id"] for row in found] == [None, "", "", "", ""]


async def test_many_rows_lie_in_groups(busy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ROW_GROUP", 2)
    monkeypatch.setitem(export._STREAMED, "yield_per", 1)
    file = tmp_path / "customers.parquet"
    steps: list[tuple[int, int]] = []
    export_customers(busy.place, file, (77, 5678), show=lambda *step: steps.append(step))
    groups = parquet.ParquetFile(file).metadata
    assert [groups.row_group(place).num_rows for place in range(groups.num_row_groups)] == [2, 2, 1]
    assert steps == [(done, 5) for done in range(1, 6)]


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
async def test_a_company_without_customers_gives_a_file_with_columns_alone(
    house: Any, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    assert export_customers(house.place, file, (5678,)).customers == 0
    if name.endswith(".csv"):
        assert read_csv(file) == []
        assert file.read_bytes().count(b"\n") == 1
    else:
        assert parquet.read_table(file).num_rows == 0


async def test_a_company_that_is_named_is_alone_in_it(busy: Any, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    assert export_customers(busy.place, file, (77,)).customers == 1
    assert [row["first_name"] for row in read_csv(file)] == ["Kim"]


async def test_it_is_of_one_moment_however_much_changes_meanwhile(busy: Any, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    before = [as_text(row) for row in busy.rows("SELECT * FROM customers ORDER BY company_id, id")]

    def meddle(_done: int, _total: int) -> None:
        change(mirror_of(busy.place), "UPDATE _customers SET first_name = 'late' WHERE company_id = 5678")

    export_customers(busy.place, file, (77, 5678), show=meddle)  # the first part is 77's, read before
    assert [read_json(row) for row in read_csv(file)] == before
    assert busy.name(2) == "late"


class TestAsOf:
    async def test_it_is_what_the_view_was_then_after_every_change(self, house: Any, tmp_path: Path) -> None:
        """The property: whatever came, the past can be had again as it was."""
        steps: list[tuple[tuple[Any, ...], ...]] = [
            ((house.customer(1),), (house.customer(2), "created")),
            ((house.customer(1, 60, first_name="Jo"),), (house.customer(3, 60),)),
            ((house.customer(1, 120, tags=["vip", "gold"]),), (house.customer(1, 121, tags=None),)),
            ((house.customer(2, 180), "deleted"),),
            ((house.customer(2, 400, loyalty={"card": 7}),), (house.customer(3, 400), "deleted")),
            ((house.customer(3, 470, email=None, reference_id="r"),),),
            ((b"no JSON",), (house.customer(1, 60),)),
            ((house.customer(4, 600, primary_address=None, accepts_marketing=None),),),
        ]
        past: list[tuple[datetime, list[dict[str, Any]]]] = []
        for number, deliveries in enumerate(steps, start=1):
            house.at(number * 70)
            for delivery in deliveries:
                await house.post(*delivery)
            await house.apply()
            past.append((house.now, house.rows("SELECT * FROM customers ORDER BY company_id, id")))
        assert len({len(rows) for _, rows in past}) > 1
        house.now += timedelta(seconds=70)  # none of these moments is in the future
        for now, rows in past:
            for moment in (now, now + timedelta(seconds=69, microseconds=999_999)):
                file = tmp_path / "then.csv"
                export_customers(house.place, file, (5678,), as_of=moment)
                found = [read_json(row) for row in read_csv(file)]
                assert found == [self.kept(as_text(row)) for row in rows], moment

    @pytest.mark.parametrize("seed", range(3))
    async def test_so_it_is_whatever_comes_in_whatever_order(
        self, house: Any, tmp_path: Path, seed: int
    ) -> None:
        """The same of chance: doubled and overtaken deliveries, deletions and returns, several at a time."""
        chance = Random(seed)
        past: list[tuple[datetime, list[dict[str, Any]]]] = []
        for _ in range(25):
            house.at((house.now - NOON).total_seconds() + chance.choice((0.001, 1, 90)))
            for _ in range(chance.randrange(4)):
                late = chance.choice((0, 0, 1, 200))
                customer = house.customer(
                    chance.randrange(1, 5),
                    (house.now - NOON).total_seconds() - late,
                    first_name=chance.choice(("Jo", "Kim")),
                    tags=chance.choice((None, [], ["vip"])),
                )
                await house.post(customer, chance.choice(("created", "updated", "updated", "deleted")))
            await house.apply()
            past.append((house.now, house.rows("SELECT * FROM customers ORDER BY company_id, id")))
        kinds = {row["kind"] for row in house.rows("SELECT kind FROM customer_changes")}
        assert kinds >= {"created", "updated", "deleted"}
        for now, rows in past:
            file = tmp_path / "then.csv"
            try:
                export_customers(house.place, file, (5678,), as_of=now)
            except BeforeHistoryError:
                assert rows == []
                continue
            found = [read_json(row) for row in read_csv(file)]
            expected = [self.kept(as_text(row)) for row in rows]
            for one in (*found, *expected):
                del one["as_of"]  # a later picture of the same customer is no change
            assert found == expected, now

    def kept(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in NOT_KEPT}

    async def test_parquet_has_the_columns_that_the_history_keeps(self, busy: Any, tmp_path: Path) -> None:
        file = tmp_path / "then.parquet"
        export_customers(busy.place, file, (5678,), as_of=busy.now)
        names = list(busy.rows("SELECT * FROM customers")[0])
        assert parquet.read_table(file).column_names == [name for name in names if name not in NOT_KEPT]

    async def test_whom_it_has_erased_is_in_no_past(self, busy: Any, tmp_path: Path) -> None:
        then = busy.now
        change(
            mirror_of(busy.place),
            "DELETE FROM _changes WHERE customer_id = 1",
            "DELETE FROM _customers WHERE company_id = 5678 AND id = 1",
        )
        file = tmp_path / "then.csv"
        export_customers(busy.place, file, (5678,), as_of=then)
        assert [row["id"] for row in read_csv(file)] == ["2", "3", "4"]

    async def test_a_moment_of_which_nobody_knows_is_told(self, busy: Any, tmp_path: Path) -> None:
        file = tmp_path / "then.csv"
        begins = "2026-11-24T12:00:09.000Z"
        with pytest.raises(BeforeHistoryError, match=f"begins at {begins}, and knows nothing of 2026-11-24"):
            export_customers(busy.place, file, (77, 5678), as_of=busy.now - timedelta(milliseconds=1))
        with pytest.raises(BeforeHistoryError, match="has no history yet"):
            export_customers(busy.place, file, (77,), as_of=busy.now)
        with pytest.raises(MomentError, match="is in the future"):
            export_customers(busy.place, file, (5678,), as_of=datetime.now(UTC) + timedelta(minutes=1))
        assert not file.exists()


class TestRefusals:
    async def test_what_cannot_be_written_is_told_before_any_work(self, house: Any, tmp_path: Path) -> None:
        with pytest.raises(UnknownFormatError, match=r"should end in \.csv or \.parquet"):
            export_customers(house.place, tmp_path / "customers.xlsx", (5678,))
        (tmp_path / "is.csv").mkdir()
        with pytest.raises(ExportFailed, match="is a directory"):
            export_customers(house.place, tmp_path / "is.csv", (5678,))
        with pytest.raises(ExportFailed, match="There is no directory"):
            export_customers(house.place, tmp_path / "nowhere/customers.csv", (5678,))

    async def test_without_the_extra_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ExtraMissingError, match=r"pip install 'kounta-mirror\[export\]'"):
            export_customers(tmp_path, tmp_path / "customers.parquet", (5678,))

    @pytest.mark.parametrize("name", ["customers.csv", "customers.parquet"])
    async def test_an_export_that_fails_leaves_the_older_one(
        self, busy: Any, tmp_path: Path, name: str
    ) -> None:
        exports = tmp_path / "exports"
        exports.mkdir()
        export_customers(busy.place, exports / name, (5678,))
        before = (exports / name).read_bytes()

        def fail(_done: int, _total: int) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(ExportFailed, match=f"Nothing could be written to .*{name}: No space left"):
            export_customers(busy.place, exports / name, (5678,), show=fail)
        with pytest.raises(KeyboardInterrupt):
            export_customers(busy.place, exports / name, (5678,), show=interrupt)
        assert {one.name: one.read_bytes() for one in exports.iterdir()} == {name: before}
        assert asked(busy.place, "SELECT count(*) AS n FROM customers") == [{"n": 5}]


def interrupt(_done: int, _total: int) -> None:
    raise KeyboardInterrupt
