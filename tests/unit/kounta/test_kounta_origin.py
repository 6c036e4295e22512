import pytest

from sync.kounta import BasicAuth, Kounta, KountaRefused, KountaWrongShape
from sync.kounta.origin import Origin

LIST = "/companies/5678/customers"
FIRST = "https://api.kounta.com/v1/companies/5678/customers.json"


@pytest.mark.parametrize(
    ("api_url", "first"),
    [
        ("https://api.kounta.com", FIRST),
        ("https://API.kounta.com:443/", FIRST),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/v1/companies/5678/customers.json"),
        ("http://localhost:9000/kounta/", "http://localhost:9000/kounta/v1/companies/5678/customers.json"),
        ("http://[::1]:9000", "http://[::1]:9000/v1/companies/5678/customers.json"),
    ],
)
def test_the_address_of_the_list(api_url: str, first: str) -> None:
    assert Origin(api_url).at(f"{LIST}.json") == first


@pytest.mark.parametrize(
    ("api_url", "why"),
    [
        ("http://api.kounta.com", "unencrypted"),
        ("http://localhost.evil.example", "unencrypted"),
        ("http://127.0.0.1.evil.example", "unencrypted"),
        ("ftp://api.kounta.com", "no https://"),
        ("api.kounta.com", "no https://"),
        ("", "no https://"),
        ("https://", "no host"),
        ("https://api.kounta.com/v1", "ends in /v1"),
        ("https://api.kounta.com/v1/", "ends in /v1"),
        ("https://api.kounta.com:notaport", "port"),
        ("https://api.kounta.com?x=1", "a query"),
    ],
)
def test_an_address_that_cannot_be_upstreams_is_refused(api_url: str, why: str) -> None:
    with pytest.raises(KountaRefused, match="cannot be upstream's address") as caught:
        Origin(api_url)
    assert why in str(caught.value)
    assert "KOUNTA_API_URL" in str(caught.value)


@pytest.mark.parametrize(
    "api_url",
    [
        "https://me:s3cret@api.kounta.com",
        "ftp://me:s3cret@api.kounta.com",
        "https://me:s3cret/x@api.kounta.com",
        "me:s3cret@api.kounta.com",
        "https://api.kounta.com?token=s3cret",
    ],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(api_url: str) -> None:
    with pytest.raises(KountaRefused, match="KOUNTA_API_URL cannot be") as caught:
        Origin(api_url)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"


def test_values_are_encoded() -> None:
    query = {"email": "a+b@shop.example", "phone": "02 8765 4321", "name": "Zoë & Co=?#", "sign": "☃"}
    assert Origin("https://api.kounta.com").at(f"{LIST}.json", query) == (
        f"{FIRST}?email=a%2Bb%40shop.example&phone=02+8765+4321&name=Zo%C3%AB+%26+Co%3D%3F%23&sign=%E2%98%83"
    )


@pytest.mark.parametrize(
    ("reference", "followed"),
    [
        (f"{FIRST}?page=2", f"{FIRST}?page=2"),
        ("https://API.KOUNTA.COM:443/v1/companies/5678/customers?page=2#x", f"{FIRST[:-5]}?page=2"),
        ("/v1/companies/5678/customers.json?page=2", f"{FIRST}?page=2"),
        ("?page=2", f"{FIRST}?page=2"),
        ("/v1/companies/5678/customers/7.json", f"{FIRST[:-5]}/7.json"),
        ("/v1/companies/9/../5678/customers/7", f"{FIRST[:-5]}/7"),
        ("http://api.kounta.com/v1/companies/5678/customers.json?page=2", f"{FIRST}?page=2"),
        ("http://API.kounta.com:80/v1/companies/5678/customers.json?page=2", f"{FIRST}?page=2"),
        ("http://api.kounta.com:443/v1/companies/5678/customers.json?page=2", f"{FIRST}?page=2"),
    ],
)
def test_places_on_the_same_origin_below_the_list_are_followed(reference: str, followed: str) -> None:
    assert Origin("https://api.kounta.com").follow(reference, base=FIRST, below=LIST) == followed


@pytest.mark.parametrize(
    "reference",
    [
        "https://evil.example/v1/companies/5678/customers.json",
        "//evil.example/v1/companies/5678/customers.json",
        "http://api.kounta.com:8080/v1/companies/5678/customers.json?page=2",
        "http://evil.example/v1/companies/5678/customers.json",
        "https://api.kounta.com:8443/v1/companies/5678/customers.json",
        "https://api.kounta.com.evil.example/v1/companies/5678/customers.json",
        "https://api.kounta.com@evil.example/v1/companies/5678/customers.json",
        "https://me:pw@api.kounta.com/v1/companies/5678/customers.json",
        "https://evil.example\\@api.kounta.com/v1/companies/5678/customers.json",
        "/v1/companies/9/customers.json",
        "/v1/companies/5678/customersX.json",
        "/v1/companies/5678/customers/../../9/customers.json",
        "/v1/companies/5678/customers/%2e%2e/orders.json",
        "/v1/companies/5678/customers/..%2forders.json",
        "/v1/companies/5678/customers/..\\orders.json",
        "/companies/5678/customers.json",
        "https://api.kounta.com",
        "javascript:alert(1)",
        "https://[",
        "https://api.kounta.com/\x01",
    ],
)
def test_other_places_are_not_followed(reference: str) -> None:
    with pytest.raises(KountaWrongShape, match="Nothing was sent there"):
        Origin("https://api.kounta.com").follow(reference, base=FIRST, below=LIST)


def test_a_port_of_our_own_stays_when_https_takes_the_place_of_http() -> None:
    origin = Origin("https://proxy.example:8443")
    base = origin.at(f"{LIST}.json")
    named = f"http://proxy.example{base.removeprefix('https://proxy.example:8443')}?page=2"
    assert origin.follow(named, base=base, below=LIST) == f"{base}?page=2"


def test_plain_http_on_this_machine_stays_so() -> None:
    origin = Origin("http://localhost:8000")
    base = origin.at(f"{LIST}.json")
    assert origin.follow(f"{base}?page=2", base=base, below=LIST) == f"{base}?page=2"


def test_a_path_before_v1_belongs_to_the_place() -> None:
    origin = Origin("https://proxy.example/kounta")
    base = origin.at(f"{LIST}.json")
    assert origin.follow("?page=2", base=base, below=LIST) == f"{base}?page=2"
    with pytest.raises(KountaWrongShape):
        origin.follow("/v1/companies/5678/customers.json", base=base, below=LIST)


@pytest.mark.parametrize("company_id", [0, -1, True])
def test_a_company_id_that_is_none_is_refused(company_id: int) -> None:
    with pytest.raises(KountaRefused, match="KOUNTA_COMPANY_ID"):
        Kounta(company_id, auth=BasicAuth("shop", "s3cret"))
