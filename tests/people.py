"""People whose every value is told apart from everybody else's, so that any trace of them is found."""

from typing import Any

from tests.clock import NOON

COMPANY = 5678
KEY = "a key of thirty-two characters or more"
ANN = 918273645
BOB = 918273646


def person(id_: int, name: str, **fields: Any) -> dict[str, Any]:
    """A customer as upstream sends it; `name` stands in every text of it."""
    return {
        "id": id_,
        "first_name": f"{name}-first",
        "last_name": f"{name}-last",
        "email": f"{name}@mail.example",
        "phone": f"{name}-phone",
        "mobile": f"{name}-mobile",
        "tags": [f"{name}-tag", "vip"],
        "image": f"https://{name}.example/image.png",
        "primary_address": {"address": f"{name}-street", "city": f"{name}-city", "country": "AU"},
        "shipping_address": {"address": f"{name}-dock", "postal_code": f"{name}-code", "country": "AU"},
        "reference_id": f"{name}-reference",
        "accepts_marketing": True,
        "loyalty": {"card": f"{name}-card"},
        "updated_at": NOON.isoformat(timespec="seconds"),
    } | fields
