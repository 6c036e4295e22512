"""Customers out of thin air: the ordinary ones, and those that break careless programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from sync.sandbox.customer import JsonObject

FIRST_NAMES = (
    *(
        "Jamie",
        "Alex",
        "Priya",
        "Tom",
        "Grace",
        "Liam",
        "Chloe",
        "Noah",
        "Mia",
        "Ravi",
        "Ana",
        "Null",
        "True",
    ),
    *(
        "Zoë",
        "José",
        "Siân",
        "Bjørn",
        "Łukasz",
        "Thị Hồng",
        "美咲",
        "Дмитрий",
        "فاطمة",
        "יעל",
        "ปรียา",
        "Ἀλέξανδρος",
    ),
    *("Anne-Marie", "D'Arcy", "Robert'); DROP TABLE customers;--", 'Jo "Mac"', "<b>Bo</b>", "Back\\slash"),
    *("👩\u200d🍳 Chef", "Zalgo\u0301\u0302", "Sam\u00a0Lee", " Pat ", "Tab\tStop", "=1+1", "00", "A"),
)
LAST_NAMES = (
    *(
        "McDonald",
        "Smith",
        "Nguyen",
        "Patel",
        "Jones",
        "van der Berg",
        "O'Brien",
        "Garcia-Lopez",
        "Li",
        "Kaur",
    ),
    *("Müller", "Šimůnek", "山田", "Иванов", "الخطيب", "Ó Súilleabháin", "& Sons", "100%", "N/A", "☕", "Ng"),
    "Featherstonehaugh-Cholmondeley-Wriothesley-Dalrymple-Hamilton of the Upper Northern Beaches",
)
DOMAINS = ("example.com", "mail.example.org", "cafe.example.net", "EXAMPLE.com.au", "bücher.example")
TAGS = (
    *(
        "vip",
        "gold",
        "staff",
        "wholesale",
        "regular",
        "007",
        "café",
        "no sugar",
        "vegan 🌱",
        "a,b",
        '"quoted"',
    ),
    *("", "VIP", "trailing ", "long: " + "x" * 240),
)
STREETS = ("George St", "Rue de l'Été", "Ulica Łąkowa", "Station Road", "Königsallee", "No. 1, 道")
CITIES = ("Sydney", "Melbourne", "Perth", "Zürich", "São Paulo", "Auckland", "", "Alice Springs")
STATES = ("NSW", "VIC", "WA", "ZH", None, "")
COUNTRIES = ("AU", "NZ", "CH", "BR", "GB", None)

EDITED = ("name", "phone", "email", "address", "tags", "image", "accepts_marketing", "reference_id")
_ADDRESSES = ("primary_address", "shipping_address")


def person(random: Random, taken: Callable[[str], bool]) -> JsonObject:
    """Make the attributes of a new customer. `taken` tells whether a mobile already belongs to another."""
    values: JsonObject = {
        "first_name": random.choice(FIRST_NAMES),
        "last_name": _last_name(random),
        "phone": _phone(random),
        "mobile": _mobile(random, taken),
        "tags": _tags(random),
        "image": _image(random),
        "primary_address": _address(random),
        "shipping_address": _address(random),
        "reference_id": _reference(random),
        "accepts_marketing": random.random() < 0.4,  # noqa: PLR2004 - a share like its neighbours below
    }
    values["email"] = _email(random)
    if not (values["email"] or values["phone"] or values["mobile"]):
        values["phone"] = "02 8765 4321"
    return values


def edit(random: Random, taken: Callable[[str], bool]) -> JsonObject:
    """Make new values for what one edit touches: one of the seed's filters, or the reference."""
    what = random.choice(EDITED)
    if what == "name":
        if _chance(random, 0.6):
            return {"last_name": _last_name(random)}
        return {"first_name": random.choice(FIRST_NAMES)}
    if what == "phone":
        return {"mobile": _mobile(random, taken)} if _chance(random, 0.4) else {"phone": _phone(random)}
    if what == "address":
        return {random.choice(_ADDRESSES): _address(random)}
    return {what: _SIMPLE[what](random)}


def _chance(random: Random, share: float) -> bool:
    return random.random() < share


def _last_name(random: Random) -> str | None:
    if _chance(random, 0.08):
        return random.choice((None, ""))
    return random.choice(LAST_NAMES)


def _digits(random: Random, count: int) -> str:
    return "".join(random.choice("0123456789") for _ in range(count))


def _phone(random: Random) -> str | None:
    form = random.choice(("", None, "02 {} {}", "0{}{}", "+61 2 {} {}", "({}) {} ext. 7", "00{}{}"))
    return form and form.format(_digits(random, 4), _digits(random, 4))


def _mobile(random: Random, taken: Callable[[str], bool]) -> str | None:
    if _chance(random, 0.4):
        return None
    while True:
        mobile = random.choice(("04", "+614")) + _digits(random, 8)
        if not taken(mobile):
            return mobile


def _email(random: Random) -> str | None:
    if _chance(random, 0.15):
        return None
    local = random.choice(("j.mcdonald", "ana", "o'brien", "sam_lee", "x", "Émile", "first.last"))
    tag = random.choice(("", "", "+news", "+till 1".replace(" ", "-")))
    return f"{local}{random.randrange(100_000)}{tag}@{random.choice(DOMAINS)}"


def _tags(random: Random) -> list[str] | None:
    if _chance(random, 0.05):
        return None
    return [random.choice(TAGS) for _ in range(random.choice((0, 0, 1, 2, 3, 9)))]


def _image(random: Random) -> str | None:
    if _chance(random, 0.6):
        return None
    return f"https://images.example.com/customers/{random.randrange(10**9)}.jpg?size=large&crop=%20"


def _address(random: Random) -> JsonObject | None:
    if _chance(random, 0.4):
        return None
    return {
        "address": f"{random.randrange(1, 400)} {random.choice(STREETS)}",
        "city": random.choice(CITIES),
        "state": random.choice(STATES),
        "postal_code": random.choice((None, "0800", "2000", "3121", "SW1A 1AA")),
        "country": random.choice(COUNTRIES),
    }


def _reference(random: Random) -> str:
    return random.choice(("", "", "", "000{}", "ABC{}", "crm/{}", "é{}")).format(random.randrange(1000))


def _accepts(random: Random) -> bool:
    return _chance(random, 0.5)


_SIMPLE: dict[str, Callable[[Random], Any]] = {
    "email": _email,
    "tags": _tags,
    "image": _image,
    "accepts_marketing": _accepts,
    "reference_id": _reference,
}
