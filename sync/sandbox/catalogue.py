"""Every behaviour of upstream that is known, reported or feared: the one table of them.

The reference of upstream and the list in the reference of the local Kounta are made from it, and the
simulation draws from it. It says what the mirror does as text: nothing of the mirror is imported here.
"""

# ruff: noqa: E501 - sentences for people

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Source = Literal["seed", "doc", "log", "many", "one", "inferred", "alike"]
SOURCES: Final[dict[Source, str]] = {
    "seed": "the official page on customers and its webhooks",
    "doc": "other official documentation",
    "log": "a client's published record of what happened to it in production",
    "many": "two or more independent clients",
    "one": "one client",
    "inferred": "follows from what else is known of the service",
    "alike": "reported of services like it, not of Kounta",
}
Sure = Literal["documented", "seen", "likely", "open"]
SURENESS: Final[dict[Sure, str]] = {
    "documented": "upstream says so",
    "seen": "it happened to a client",
    "likely": "not seen, and expected",
    "open": "neither seen nor excluded",
}
SIMULATED: Final = "tests/simulation/test_catalogue.py::test_the_mirror_survives_each_behaviour"
"""The test of what the simulation draws, for each behaviour by its name."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One behaviour.

    `option` is the setting or fault of the local Kounta that brings it. `draws`: the values of it that the
    simulation may draw; none: it does not. `lasts`: it is how upstream is, not what goes wrong, so it stays
    when everything else is at rest. `assumption`: why the mirror cannot survive it, None when it can.
    """

    name: str
    does: str
    source: Source
    sure: Sure
    option: str
    mirror: str
    draws: tuple[Any, ...] = ()
    lasts: bool = False
    test: str = ""
    assumption: str | None = None

    @property
    def proof(self) -> str:
        """The test that proves it, as pytest names it."""
        return self.test or f"{SIMULATED}[{self.name}]"


_SHARES: Final = (0.1, 0.4, 1.0)
_FEW: Final = (0.05, 0.2, 0.5)
_DOUBT: Final = (
    "An id found in the bytes is a doubt on that customer; a delivery without one opens the shared gap."
)
_FIELD: Final = (
    "The field is unread: NULL, the row is partial, the raw value is kept; all other fields apply."
)
_MEANT: Final = "Reads what is meant."

DELIVERIES: Final = (
    Behaviour("garbled-bodies", "A delivery's body is cut short.", "alike", "likely", "garbled", _DOUBT, _FEW, test="tests/integration/reconcile/test_losses.py::test_an_unreadable_delivery_leaves_a_doubt_on_whom_it_names"),
    Behaviour("nul-bodies", "A delivery's body holds a NUL, as a byte or as an escape.", "alike", "open", "nul_bodies", _DOUBT, _FEW, test="tests/integration/reconcile/test_losses.py::test_an_unreadable_delivery_leaves_a_doubt_on_whom_it_names"),
    Behaviour("not-utf8", "A delivery's body is not UTF-8.", "alike", "open", "not_utf8", _DOUBT, _FEW, test="tests/unit/test_reading.py::test_bytes_that_are_not_utf_8_cost_only_their_field"),
    Behaviour("nameless-bodies", "A delivery's body names no customer.", "alike", "open", "nameless_bodies", "Deliveries without an id share one open gap: one sweep an hour and one round of refresh a day at most.", _FEW, test="tests/integration/reconcile/test_losses.py::test_bodies_that_name_nobody_share_one_sweep_an_hour_and_one_round_a_day"),
    Behaviour("replayed-elsewhere", "The same signed bytes come to another topic's address: the path is not signed.", "inferred", "likely", "replayed_elsewhere", "A deletion whose bytes came before at another topic deletes nothing before a read has confirmed it.", _FEW, test="tests/integration/mirror/test_mirror_copies.py::test_it_deletes_nobody_before_a_read_has_confirmed_it"),
    Behaviour("lost-deliveries", "A delivery never comes.", "many", "seen", "lost", "A sweep finds what the list carries, the refresh the rest.", (0.1, 0.3)),
    Behaviour("doubled-deliveries", "A delivery comes twice.", "many", "seen", "doubled", "Applying is idempotent.", (0.3, 1.0)),
    Behaviour("disordered-deliveries", "A delivery is overtaken by the next one.", "many", "seen", "disordered", "Stamps order; where they cannot, a read does.", (0.4,)),
    Behaviour("late-deliveries", "A delivery leaves late.", "many", "seen", "delayed", "Stamps order; an old one is stale and leaves a doubt.", (0.4,)),
    Behaviour("retried-deliveries", "A delivery that was not answered 2xx is sent again: whether upstream does so is unknown.", "inferred", "open", "delivery_retries", "The same bytes again change nothing.", (0, 2)),
    Behaviour("dropped-webhooks", "Upstream drops a webhook after refusals: unknown.", "alike", "open", "disable_after", "The registration is watched and repaired, and a sweep follows.", test="tests/integration/registration/test_registration.py::test_what_was_deleted_of_ours_is_registered_again_and_taken_for_a_gap"),
    Behaviour("stamp-of-departure", "The times in a delivery's body are those of its departure: whether the seed's rule holds in webhooks is unknown.", "inferred", "open", "stamps", "A webhook is never proof: a confirmation follows.", ("departure", "absent")),
    Behaviour("bare-deletions", "The body of a deletion is the id and the times alone: only guessed to be complete.", "inferred", "open", "deleted_body", "An absent field says nothing; the deletion applies.", ("id",), lasts=True),
    Behaviour("unknown-headers", "Deliveries carry headers that no documentation names.", "inferred", "open", "delivery_headers", "Stored headers are those it knows; nothing rests on others.", (True,), lasts=True),
    Behaviour("bad-signatures", "A delivery is signed wrongly, or by a stranger.", "doc", "likely", "badly_signed", "Refused, counted, never stored.", _FEW),
)  # fmt: skip

SHAPES: Final = (
    Behaviour("empty-object-as-list", "An empty object, or an unset address, is [].", "inferred", "likely", "empty_as_list", _MEANT, _SHARES, lasts=True, test="tests/unit/test_reading.py::test_what_is_meant_is_read"),
    Behaviour("holes-as-object", "A list with holes is an object.", "inferred", "likely", "holes_as_object", _MEANT, _SHARES, lasts=True, test="tests/unit/test_reading.py::test_what_is_meant_is_read"),
    Behaviour("none-as-text", 'What is unset is "" or false.', "inferred", "likely", "none_as_text", _MEANT, _SHARES, lasts=True, test="tests/unit/test_reading.py::test_what_is_meant_is_read"),
    Behaviour("numbers-for-text", "Texts of digits are numbers; a phone, mobile or postal code loses zeros and +.", "inferred", "likely", "numbers_for_text", "A number that equals the held text but for leading zeros or + is no change.", _SHARES, lasts=True, test="tests/unit/test_merge_unread.py::test_a_number_is_the_held_text_if_it_is_equal_but_for_zeros_or_a_plus"),
    Behaviour("text-for-numbers", "Numbers and truth values are texts, truth values also 0 and 1.", "inferred", "likely", "text_for_numbers", _MEANT, _SHARES, lasts=True, test="tests/unit/test_reading.py::test_what_is_meant_is_read"),
    Behaviour("strange-fields", "One field has a type that has no meaning there.", "alike", "open", "strange_fields", _FIELD, _SHARES, test="tests/unit/test_reading.py::test_what_cannot_be_known_costs_only_itself"),
    Behaviour("deep-nesting", "An unknown field is nested hundreds deep.", "alike", "open", "deep_nesting", "That field alone is unread; neither its neighbours nor other items are hidden.", _SHARES, test="tests/unit/test_reading.py::test_a_value_is_too_deep_where_it_is_for_pydantic"),
    Behaviour("half-surrogates", "A text holds half of a surrogate pair.", "inferred", "likely", "half_surrogates", "That field alone is unread; neither its neighbours nor other items are hidden.", _SHARES, test="tests/integration/kounta/test_kounta_paging.py::test_a_strange_text_in_one_item_hides_neither_its_other_fields_nor_its_neighbours"),
    Behaviour("volatile-fields", "Unknown times and counts differ at each answer.", "one", "seen", "volatile_extras", "Unknown fields named *_at, count, *_count, timestamp are no change.", (True,), lasts=True, test="tests/unit/test_merge_unread.py::test_unknown_fields_alone_are_no_change_of_upstream_and_fleeting_ones_not_even_here"),
    Behaviour("unknown-fields", "Fields appear that no documentation names, and `id_str`.", "many", "seen", "unknown_extras", "Kept in `other` if every attribute is subscribed.", (True,), lasts=True),
    Behaviour("legacy-addresses", "Addresses have lines[] and zone.", "one", "seen", "address_shape", "Reads both forms.", ("legacy",), lasts=True, test="tests/unit/test_customers.py::test_the_older_form_of_an_address_has_lines_and_a_zone"),
    Behaviour("mobile-absent", "No record carries `mobile`, which is newer than the seed.", "doc", "open", "mobile_field", "mobile is NULL, `doctor` says so, and no row is partial for it.", (False,), lasts=True, test="tests/unit/test_merge_unread.py::test_a_missing_mobile_leaves_a_read_whole_until_one_has_carried_it"),
    Behaviour("fixed-oddities", "A customer's record is odd in the same way at each answer.", "inferred", "likely", "oddities_per", "A read that is poor or unreadable again settles the doubt as partial, and is repeated at the pace of the refresh.", ("customer",), lasts=True, test="tests/unit/test_merge_unread.py::test_a_poor_read_again_changes_nothing_and_a_whole_one_completes_the_record"),
)  # fmt: skip

READS: Final = (
    Behaviour("poor-reads", "A read by id carries the six fields of a list item.", "alike", "open", "poor_reads", "The row is partial, and those six fields alone are verified.", _SHARES, test="tests/unit/test_merge_unread.py::test_a_read_proves_what_it_carries_and_the_rest_is_unread"),
    Behaviour("gone", "A deleted customer is answered 410.", "alike", "open", "gone", "A 410 is a 404.", (410,), lasts=True, test="tests/integration/reconcile/test_deleted_otherwise.py::test_a_410_is_a_404"),
    Behaviour("deleted-flags", "A deleted customer is answered 200 with a flag: deleted, is_deleted or deleted_at in any spelling.", "alike", "open", "deleted_flags", "It goes the way of a 404: the later 200, the second look, the brake.", (0.5, 1.0), lasts=True, test="tests/integration/reconcile/test_deleted_otherwise.py::test_a_200_that_says_deleted_goes_the_way_of_a_404"),
    Behaviour("false-flags", "A live customer carries a flag that says: not deleted.", "alike", "open", "false_flags", "It says no, and changes nothing.", _SHARES, lasts=True, test="tests/integration/reconcile/test_deleted_otherwise.py::test_a_200_that_says_it_is_not_deleted_is_one_like_any_other"),
    Behaviour("strange-flags", "A live customer carries a deleted flag without meaning.", "alike", "open", "strange_flags", "Unread; never a deletion.", _SHARES, test="tests/unit/test_deleted.py::test_what_cannot_be_read_is_no_evidence"),
    Behaviour("listed-deleted", "A deleted customer stays in the list, with a flag.", "alike", "open", "listed_deleted", "Not deleted while a page asked later lists it, but a problem.", (0.5, 1.0), test="tests/integration/reconcile/test_deleted_otherwise.py::test_whom_a_later_page_still_lists_is_no_deletion_but_a_problem"),
    Behaviour("answers-another", "A read of a deleted customer is answered with another customer.", "alike", "open", "answers_another", "A doubt; seen twice and left out by a later complete sweep it is held for a person. Never a row for the other id.", (0.5, 1.0), test="tests/integration/reconcile/test_deleted_otherwise.py::test_an_answer_about_another_customer_is_held_for_a_person"),
    Behaviour("redirects-another", "A read of a deleted customer redirects to another customer.", "alike", "open", "redirects_another", "As above.", (0.5, 1.0), test="tests/integration/reconcile/test_deleted_otherwise.py::test_an_answer_about_another_customer_is_held_for_a_person"),
    Behaviour("redirects-same", "A read redirects to another address of the same customer.", "alike", "open", "redirects_same", "Followed on the same origin; the call counts.", _SHARES, lasts=True, test="tests/integration/reconcile/test_deleted_otherwise.py::test_a_redirect_to_the_same_customer_on_the_same_origin_is_followed"),
    Behaviour("read-lag", "Reads and lists show an older state: longer than 5 s was seen.", "log", "seen", "read_lag_seconds", "No read counts sooner than `MIRROR_READ_LAG_SECONDS` after what was last heard.", test="tests/simulation/test_simulation.py::test_whatever_happened_it_ends_right", assumption="A longer lag than `MIRROR_READ_LAG_SECONDS` (assumption A)"),
    Behaviour("clock-skew", "Upstream's clock is off, or steps.", "inferred", "likely", "clock_skew_seconds", "Stamps only order deliveries; a read has the last word.", (-7000.0, 5.0, 300.0)),
    Behaviour("wrong-answers", "A call is answered 200 with another shape, or another customer, once.", "alike", "likely", "wrong_answers", "Retried, then due later: never a deletion.", (0.05, 0.2)),
    Behaviour("html-answers", "A call is answered 200 with an HTML page.", "many", "seen", "html_answers", "Tried again briefly, then due later.", (0.05, 0.2)),
    Behaviour("cut-answers", "The connection closes inside the body.", "many", "seen", "cut_bodies", "Tried again.", (0.05, 0.2)),
    Behaviour("slow-answers", "A call is answered late, or never.", "many", "seen", "hangs", "Given up after 20 s and tried again.", (0.05,)),
    Behaviour("server-errors", "A call is answered 500, 502 or 503.", "many", "seen", "server_errors", "Tried again with growing pauses.", (0.05, 0.2)),
    Behaviour("lost-access", "Every call is answered 401, 403 or 404 for a while.", "log", "seen", "lost_access", "A deletion needs a later 200; problems are shown.", test="tests/simulation/test_simulation.py::test_whatever_happened_it_ends_right", assumption="Access that is lost twice, each time just when one customer is read (assumption E)"),
)  # fmt: skip

LISTS: Final = (
    Behaviour("list-shape", "Items of a list are abridged, abridged with primary_email_address, or complete.", "many", "seen", "list_shape", "An item is compared on what it carries.", ("abridged", "legacy", "complete"), lasts=True),
    Behaviour("list-order", "What a list is sorted by: unknown.", "inferred", "open", "list_order", "Nothing rests on the order.", ("id", "newest", "name"), lasts=True),
    Behaviour("shifted-rows", "Rows shift between pages during a walk.", "inferred", "likely", "shifted_rows", "A customer that no page lists is read by its id, and stays.", (0.5,)),
    Behaviour("page-size", "A page has another number of items.", "many", "seen", "page_size", "The last page is the one without a next one, however short the others are.", (7, 100), lasts=True),
    Behaviour("page-base", "Pages are counted from 0 or from 1.", "many", "seen", "page_base", "Follows X-Next-Page alone.", (0, 1), lasts=True),
    Behaviour("last-next-page", "X-Next-Page of the last page is absent, or empty.", "many", "seen", "last_next_page", "Both end the walk.", ("absent", "empty"), lasts=True),
    Behaviour("cut-walks", "A page names no next one though X-Pages says that there are more.", "alike", "open", "cut_walks", "The walk is not complete: nobody counts as missing.", (0.5, 1.0), test="tests/integration/kounta/test_kounta_paging.py::test_a_list_that_ends_before_the_pages_it_counts_is_not_complete"),
    Behaviour("overstated-pages", "X-Pages says more pages than there are.", "alike", "open", "overstated_pages", "The walk is not complete, which `status` says.", (0.5,), assumption="X-Pages that always says too much: no walk is ever complete"),
    Behaviour("endless-pages", "Next pages repeat without end.", "alike", "open", "next_page", "Three pages in a row without a new id end the walk, incomplete.", ("endless",), test="tests/integration/kounta/test_kounta_paging.py::test_a_walk_that_meets_nothing_new_on_three_pages_in_a_row_ends"),
    Behaviour("repeated-page", "The next page is the same one again, or on another host.", "alike", "open", "next_page", "Never asked twice, never asked of another host: the walk is not complete.", ("repeated", "foreign")),
    Behaviour("http-next-page", "The next page's address has http.", "alike", "open", "next_page", "Asked over https of the same host.", test="tests/unit/kounta/test_kounta_origin.py::test_a_port_of_our_own_stays_when_https_takes_the_place_of_http"),
)  # fmt: skip

WRITES: Final = (
    Behaviour("null-writes", "A write is answered 2xx with `null`, no body, or an HTML page.", "log", "seen", "write_body", "A 2xx is never sent again; the customer is read back.", ("null", "empty", "html"), lasts=True, test="tests/integration/kounta/test_kounta_writes.py::test_a_yes_to_a_creation_is_never_sent_again_and_who_was_made_is_looked_up"),
    Behaviour("no-location", "The 201 to a new customer names no Location.", "inferred", "open", "created_location", "The new customer is looked up by what was written.", (False,), lasts=True),
    Behaviour("error-after-write", "A write is answered 5xx, or not at all, after it was done.", "log", "seen", "fault_after_write", "Looked up before it is sent again; `fate_unknown` when nothing can tell.", (1.0,), test="tests/integration/kounta/test_kounta_writes.py::test_a_creation_of_unknown_fate_is_looked_up_and_never_made_twice"),
    Behaviour("mobile-taken", "A mobile that another customer has is refused, with an unknown status.", "doc", "documented", "mobile_taken", "Exit 1 with what upstream said.", test="tests/integration/kounta/test_kounta_writes.py::test_a_mobile_that_another_customer_has_is_refused_by_upstream"),
    Behaviour("unknown-writes", "Fields that cannot be written are ignored, or refused.", "inferred", "open", "unknown_fields", "Only fields of the seed are written.", test="tests/integration/test_sandbox_api.py::test_a_creation_without_its_minimum_or_with_what_cannot_be_is_400"),
)  # fmt: skip

LIMITS: Final = (
    Behaviour("limit-headers", "What a 429 carries.", "log", "seen", "limit_headers", "Any of the headers is used; without one the pauses grow.", ("none", "retry-after", "reset", "both"), lasts=True),
    Behaviour("too-many", "429 comes though the limit is not reached.", "many", "seen", "too_many", "The budget closes until the reset.", (0.05, 0.2)),
    Behaviour("reset-in-milliseconds", "X-Ratelimit-Reset counts milliseconds.", "alike", "open", "reset_unit", "Recognised by its size.", ("milliseconds",), lasts=True, test="tests/unit/kounta/test_kounta_limits.py::test_a_reset_is_read_in_seconds_or_milliseconds"),
    Behaviour("far-reset", "A 429 names a reset that is far away.", "alike", "open", "reset_ahead_seconds", "A pause is cut to 5 minutes, doubling.", (3600.0, 10.0**8), lasts=True, test="tests/unit/kounta/test_kounta_limits.py::test_a_long_pause_is_cut_to_five_minutes_and_doubles_as_it_repeats"),
    Behaviour("remaining-headers", "Every answer has X-Ratelimit-Limit, -Remaining and -Reset.", "one", "seen", "remaining_headers", "Used where they come.", (True,), lasts=True, test="tests/unit/kounta/test_kounta_limits.py::test_calls_that_remain_are_spread_until_the_reset"),
    Behaviour("limit-window", "The limit counts minutes of the clock, or any 60 seconds: unknown.", "inferred", "open", "limit_window", "Calls are evenly spaced.", ("fixed", "sliding"), lasts=True),
)  # fmt: skip

ACCESS: Final = (
    Behaviour("error-shapes", "Errors are JSON with one of three keys, plain text, or HTML.", "many", "seen", "error_shape", "Any of them is shown as a sentence.", ("error", "message", "error_message", "text", "html"), lasts=True),
    Behaviour("company-redirects", "/v1/companies/me answers with a redirect.", "one", "seen", "company_redirects", "Followed on the same origin, with the credentials.", (True,), lasts=True, test="tests/integration/kounta/test_kounta_reads.py::test_the_company_may_be_behind_a_redirect_and_authorization_is_sent_again"),
    Behaviour("token-answers", "The token endpoint answers a 403 page, temporarily_unavailable, or a plain 401.", "alike", "likely", "token_answers", "Only the JSON error invalid_grant ends a permission; everything else backs off and heals by itself.", test="tests/integration/kounta/test_kounta_permission.py::test_whatever_else_upstream_says_passes_by_itself"),
    Behaviour("kept-refresh-token", "A refresh brings no new refresh token.", "many", "seen", "rotate_refresh_tokens", "The old one is kept.", test="tests/integration/kounta/test_kounta_oauth.py::test_a_hundred_calls_with_an_expired_token_share_one_refresh"),
    Behaviour("expired-token", "An expired access token is answered 400.", "many", "seen", "expired_token", "Renewed once, then given up.", test="tests/integration/kounta/test_kounta_oauth.py::test_a_hundred_calls_with_an_expired_token_share_one_refresh"),
    Behaviour("wrong-company", "A call for another company is answered 403 or 404.", "inferred", "open", "wrong_company", "Lost access, never a deletion.", test="tests/integration/test_sandbox_api.py::test_another_company_is_404_or_403"),
)  # fmt: skip

REGISTRATION: Final = (
    Behaviour("unset-filter", "An unset filter is shown as {}, and null is refused.", "many", "seen", "unset_filter", "Cleared with {}; if it does not go, a new registration replaces it.", test="tests/integration/registration/test_registration.py::test_an_unset_filter_is_none_however_it_is_shown"),
    Behaviour("normalised-addresses", "Addresses of webhooks are normalised.", "alike", "likely", "webhook_addresses", "Known again whatever the case of the host, a default port, one trailing slash.", test="tests/integration/registration/test_registration.py::test_an_address_that_upstream_normalises_is_known_again"),
    Behaviour("webhook-filters", "The form of an attribute filter is unknown.", "inferred", "open", "webhook_filters", "Registers without one, and filters by itself.", test="tests/integration/registration/test_registration.py::test_ensure_registers_each_topic_once"),
    Behaviour("unchanged-announced", "An update that changes nothing is announced too.", "inferred", "open", "announce_unchanged", "No change; the row's as_of advances.", (True, False), lasts=True),
)  # fmt: skip

GROUPS: Final[dict[str, tuple[Behaviour, ...]]] = {
    "Deliveries": DELIVERIES,
    "Shapes of records": SHAPES,
    "Reads": READS,
    "Lists": LISTS,
    "Writes": WRITES,
    "Limits": LIMITS,
    "Access": ACCESS,
    "Registration": REGISTRATION,
}
CATALOGUE: Final[dict[str, Behaviour]] = {one.name: one for group in GROUPS.values() for one in group}
"""Name -> behaviour."""
