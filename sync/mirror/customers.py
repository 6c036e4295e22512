"""Customers as whoever reports reads them: as they are now, or as the mirror had them at a moment."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, union
from sqlalchemy.engine import Connection

from receiver.clock import utc_now
from receiver.database import utc_text
from receiver.errors import MirrorError
from sync.mirror.views import (
    ALL_CUSTOMERS,
    CUSTOMER_CHANGES,
    CUSTOMER_TAGS,
    CUSTOMER_VERSIONS,
    CUSTOMERS,
    json_of,
)

NOT_KEPT: Final = ("verified_at", "partial")
"""Columns of `customers` that the history does not keep."""

_A: Final = ALL_CUSTOMERS.c
_V: Final = CUSTOMER_VERSIONS.c
_FIRST_SEEN: Final = ("first_seen_at", "first_seen_by")
_OTHERWISE: Final[dict[str, ColumnElement[Any]]] = {
    "id": _V.customer_id.label("id"),
    "changed_at": _V.valid_from.label("changed_at"),
    **{name: _A[name] for name in _FIRST_SEEN},
}


class Customer(NamedTuple):
    """One row of `all_customers`; times are aware, in UTC. What MIRROR_ATTRIBUTES does not name is None.

    As of an earlier moment `verified_at`, `partial` and `deleted_at` are None: no history keeps them.
    """

    company_id: int
    id: int
    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None
    mobile: str | None
    image: str | None
    reference_id: str | None
    """Empty when it is not set upstream."""
    accepts_marketing: bool | None
    tags: list[str] | None
    primary_address: str | None
    primary_city: str | None
    primary_state: str | None
    primary_postal_code: str | None
    primary_country: str | None
    shipping_address: str | None
    shipping_city: str | None
    shipping_state: str | None
    shipping_postal_code: str | None
    shipping_country: str | None
    other: dict[str, Any] | None
    as_of: datetime
    """When Kounta took the picture that stands here."""
    first_seen_at: datetime
    first_seen_by: str
    changed_at: datetime
    """When the mirror last changed it; as of an earlier moment, when the state of that moment began."""
    verified_at: datetime | None
    """None: it rests on a webhook alone."""
    partial: bool | None
    """True: only what Kounta's list carries is known yet."""
    deleted_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it: column -> value; times are ISO 8601 in UTC."""
        return json_of(self)


Condition = ColumnElement[bool]


class MomentError(MirrorError):
    """A moment of which nobody can know."""

    exit_code: ClassVar[int] = 2


class BeforeHistoryError(MirrorError):
    """The mirror was not there yet."""


def selected_now(*conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Select the columns of `customers`, in the order of company and id."""
    c = CUSTOMERS.c
    return select(*c).where(*conditions).order_by(c.company_id, c.id)


def selected_all(
    company_id: int, *conditions: Condition, behind: int = 0, few: bool = False
) -> Select[*tuple[Any, ...]]:
    """Select the fields of `Customer` of those whose id is above `behind`, in the order of ids.

    `few`: an index finds those who fit the conditions, and they are then sorted; SQLite would rather look at
    everybody in the order of ids.
    """
    id_ = _A.id + 0 if few else _A.id
    fields = (_A[name] for name in Customer._fields)
    return select(*fields).where(_A.company_id == company_id, id_ > behind, *conditions).order_by(id_)


def selected_as_of(company_id: int, moment: datetime, *conditions: Condition) -> Select[*tuple[Any, ...]]:
    """Select the columns of `customers` but NOT_KEPT, as they were at a moment, in the order of ids.

    Who is deleted now and lived then is there; who was erased since is not. `as_of` is that of the picture
    with which the state began.
    """
    same = and_(_A.company_id == _V.company_id, _A.id == _V.customer_id)
    names = (column.name for column in CUSTOMERS.c if column.name not in NOT_KEPT)
    return (
        select(*(_OTHERWISE[name] if name in _OTHERWISE else _V[name] for name in names))
        .join_from(CUSTOMER_VERSIONS, ALL_CUSTOMERS, same)
        .where(
            _V.company_id == company_id,
            _V.valid_from <= moment,
            _V.valid_to.is_(None) | (_V.valid_to > moment),
            *conditions,
        )
        .order_by(_V.customer_id)
    )


def check_moment(connection: Connection, companies: Sequence[int], moment: datetime) -> None:
    """See that the mirror can know how it was then.

    Raises MomentError for the future, and BeforeHistoryError before the first change of all `companies`.
    """
    if moment > utc_now():
        raise MomentError(f"{utc_text(moment)} is in the future: name a time that is past.")
    begins = [found for one in companies if (found := _beginning(connection, one)) is not None]
    if not begins:
        raise BeforeHistoryError("The mirror has no history yet: it begins when the worker fills the mirror.")
    if moment < min(begins):
        raise BeforeHistoryError(
            f"The mirror begins at {utc_text(min(begins))}, and knows nothing of {utc_text(moment)}: "
            "name a later time."
        )


def _beginning(connection: Connection, company_id: int) -> datetime | None:
    """Give when the first change of a company was applied; None: there is none."""
    c = CUSTOMER_CHANGES.c
    first = select(c.applied_at).where(c.company_id == company_id).order_by(c.seq).limit(1)
    return connection.execute(first).scalar_one_or_none()


class Filter(NamedTuple):
    """Which customers are wanted; None: all."""

    city: str | None = None
    tag: str | None = None
    email: str | None = None
    phone: str | None = None
    reference_id: str | None = None
    changed_since: datetime | None = None
    unconfirmed: bool | None = None

    @property
    def few(self) -> bool:
        """Whether few can fit, and an index finds them."""
        return self.email is not None or self.phone is not None or bool(self.reference_id)

    def now(self, company_id: int) -> list[Condition]:
        """Give the conditions on `all_customers`; `tag` narrows only those that live, and `fits` the rest."""
        wanted = self._of_values(_A, _A.changed_at)
        if self.phone is not None:
            ways = (  # each goes by its index
                select(_A.id).where(_A.company_id == company_id, column == self.phone)
                for column in (_A.phone, _A.mobile)
            )
            wanted.append(_A.id.in_(union(*ways)))
        if self.tag is not None:
            t = CUSTOMER_TAGS.c
            tagged = select(literal(1)).where(
                t.company_id == company_id, t.customer_id == _A.id, t.tag == self.tag
            )
            wanted.append(tagged.exists() | _A.deleted_at.is_not(None))
        if self.unconfirmed is not None:
            is_so = _A.verified_at.is_(None) | _A.partial
            wanted.append(is_so if self.unconfirmed else ~is_so)
        return wanted

    def then(self) -> list[Condition]:
        """Give the conditions on `customer_versions`; `tag` is left to `fits`."""
        wanted = self._of_values(_V, _V.valid_from)
        if self.phone is not None:
            wanted.append(or_(_V.phone == self.phone, _V.mobile == self.phone))
        return wanted

    def fits(self, customer: Customer) -> bool:
        """Whether a customer that was found has the tag."""
        return self.tag is None or self.tag in (customer.tags or ())

    def _of_values(self, of: Any, changed_at: ColumnElement[datetime]) -> list[Condition]:
        wanted: list[Condition] = []
        if self.city is not None:
            wanted.append(of.primary_city == self.city)
        if self.email is not None:
            wanted.append(func.lower(of.email) == func.lower(literal(self.email)))
        if self.reference_id is not None:
            wanted.append(of.reference_id == self.reference_id)
        if self.changed_since is not None:
            wanted.append(changed_at >= self.changed_since)
        return wanted
