from sync.sandbox.customer import Customer, abridged, differing, stamped
from sync.sandbox.customers import Customers


def test_a_reference_is_private_to_the_application_that_set_it() -> None:
    customer = Customer(id=1).with_values({"reference_id": "ABC123"}, "ours")

    assert customer.seen_by("ours")["reference_id"] == "ABC123"
    assert customer.seen_by("theirs")["reference_id"] == ""


def test_both_times_are_always_the_current_time_to_the_second_with_an_offset() -> None:
    shown = stamped({"id": 1}, 1_700_000_000.9)

    assert shown["created_at"] == shown["updated_at"] == "2023-11-14T22:13:20+00:00"


def test_abridged_items_have_a_few_fields_and_the_legacy_ones_another_name_for_the_email() -> None:
    shown = Customer(id=1, first_name="Ana", email="a+b@example.com", phone="1").seen_by("ours")

    assert abridged(shown, legacy=False) == {
        "id": 1,
        "first_name": "Ana",
        "last_name": None,
        "email": "a+b@example.com",
        "image": None,
        "reference_id": "",
    }
    assert abridged(shown, legacy=True)["primary_email_address"] == "a+b@example.com"
    assert "email" not in abridged(shown, legacy=True)


def test_each_attribute_belongs_to_the_filter_that_the_seed_names() -> None:
    before = Customer(id=1)
    values: dict[str, object] = {
        "first_name": "A",
        "last_name": "B",
        "phone": "1",
        "mobile": "2",
        "email": "e",
        "primary_address": {"city": "Perth"},
        "shipping_address": {"city": "Perth"},
        "tags": ["vip"],
        "image": "http://i",
        "accepts_marketing": True,
        "reference_id": "r",
    }

    passed = {name: differing(before, before.with_values({name: values[name]}, "ours")) for name in values}

    assert passed == {
        "first_name": ("name",),
        "last_name": ("name",),
        "phone": ("phone",),
        "mobile": ("phone",),
        "email": ("email",),
        "primary_address": ("address",),
        "shipping_address": ("address",),
        "tags": ("tags",),
        "image": ("image",),
        "accepts_marketing": ("accepts_marketing",),
        "reference_id": (),
    }


def test_the_past_shows_what_was_created_changed_and_deleted_since() -> None:
    customers = Customers()
    customers.put(Customer(id=1, first_name="Old"), at=None)
    customers.put(Customer(id=2, first_name="Gone"), at=None)
    customers.put(Customer(id=1, first_name="Middle"), at=10)
    customers.remove(2, at=12)
    customers.put(Customer(id=1, first_name="New"), at=14)
    customers.put(Customer(id=3, first_name="Young"), at=16)

    seen = {when: [(one.id, one.first_name) for one in customers.at(when)] for when in (9, 10, 12, 14, 16)}

    assert seen == {
        9: [(1, "Old"), (2, "Gone")],
        10: [(1, "Middle"), (2, "Gone")],
        12: [(1, "Middle")],
        14: [(1, "New")],
        16: [(1, "New"), (3, "Young")],
    }
    assert customers.at(11).get(2) is not None
    assert customers.at(13).get(2) is None
    assert customers.at(15).get(3) is None


def test_lists_can_be_sorted_by_id_newest_first_or_by_name() -> None:
    customers = Customers()
    for id_, name in ((1, "C"), (2, "A"), (3, "B")):
        customers.put(Customer(id=id_, last_name=name), at=None)
    moment = customers.at(0)

    assert [one.id for one in moment.slice("id", 0, 2)] == [1, 2]
    assert [one.id for one in moment.slice("newest", 0, 2)] == [3, 2]
    assert [one.id for one in moment.slice("newest", 2, 4)] == [1]
    assert [one.id for one in moment.slice("name", 0, 2)] == [2, 3]


def test_the_past_is_forgotten_after_a_while() -> None:
    customers = Customers()
    for second in range(2000):
        customers.put(Customer(id=1, first_name=str(second)), at=second)

    assert len(customers._past) < 700


def test_a_mobile_is_free_again_once_its_customer_lost_it_or_is_gone() -> None:
    customers = Customers()
    customers.put(Customer(id=1, mobile="04"), at=None)
    assert customers.mobile_taken("04")
    assert not customers.mobile_taken("04", by_other_than=1)

    customers.put(Customer(id=1, mobile="05"), at=None)
    assert not customers.mobile_taken("04")

    customers.remove(1, at=1)
    assert not customers.mobile_taken("05")
