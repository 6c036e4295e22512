"""The attacks of the threat model, what holds each, and the tests that show it.

`python -m tests.attacks` writes docs/reference/attacks.md. A test compares the page
with this table, and looks for each test that is named.
"""

import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs/reference/attacks.md"


class Attack(NamedTuple):
    """One thing that an adversary may try."""

    who: str
    tries: str
    result: str
    tests: tuple[str, ...]
    """`file::function`, below tests/."""


_ANSWERS: Final = "integration/test_receiver_answers.py"
_BOUNDARY: Final = "integration/test_receiver_boundary.py"
_GUARD: Final = "integration/console/test_guard.py"
_ACTIONS: Final = "integration/console/test_actions.py"
_DAMAGED: Final = "acceptance/test_damaged_files.py"

ATTACKS: Final = (
    Attack(
        "forger",
        "a delivery without a signature, with a wrong one, with two",
        "401; the body is neither parsed nor stored",
        (
            "unit/test_signature.py::test_whatever_is_not_this_bodys_signature_is_invalid",
            f"{_ANSWERS}::test_what_does_not_verify_is_not_stored",
        ),
    ),
    Attack(
        "forger",
        "a second request hidden behind the headers of a first one",
        "400 `upgrade_unsupported`, and the connection is closed: nothing behind it is read as a request",
        (f"{_BOUNDARY}::test_nothing_behind_a_request_that_asks_to_upgrade_is_taken_for_a_request",),
    ),
    Attack(
        "replayer",
        "an old, rightly signed delivery again, once or often, in any order",
        "it changes nothing silently: stale or unchanged, and what it contradicts is read again",
        (
            "property/test_merge_histories.py::test_no_history_ends_silently_wrong_and_its_doubts_make_it_right",
        ),
    ),
    Attack(
        "replayer",
        "the bytes of an update sent to the address of deletions: the signature does not cover the path",
        "a doubt; only a read deletes",
        ("integration/mirror/test_mirror_copies.py::test_it_deletes_nobody_before_a_read_has_confirmed_it",),
    ),
    Attack(
        "flooder",
        "large headers, bodies over 1 MiB, slow headers, slow bodies, idle connections, unread answers",
        "431, 413 or the end of the connection at a deadline; memory stays bounded",
        (
            f"{_BOUNDARY}::test_headers_over_their_bound_are_refused_at_once",
            f"{_BOUNDARY}::test_headers_have_a_deadline_however_they_dribble",
            f"{_BOUNDARY}::test_an_idle_connection_ends_in_silence",
            f"{_BOUNDARY}::test_answers_that_are_not_read_end_the_connection",
            f"{_ANSWERS}::test_a_body_over_a_mebibyte_is_refused_however_it_comes",
        ),
    ),
    Attack(
        "flooder",
        "all connections at once",
        "connections that have verified nothing give way: a sender that signs is served",
        (f"{_BOUNDARY}::test_a_sender_is_served_though_strangers_hold_all_connections",),
    ),
    Attack(
        "flooder",
        "requests that fill the log, the disk or the status page",
        "one log line a minute and reason; counts alone are stored; no monitor turns red",
        (
            f"{_BOUNDARY}::test_refusals_are_one_line_a_minute_a_reason",
            "unit/test_status.py::test_requests_of_strangers_are_shown_and_are_no_problem",
        ),
    ),
    Attack(
        "leaked token",
        "deliveries that verify and say what is not so",
        "a webhook alone verifies no row: each change is read again at Kounta",
        (
            "property/test_merge_histories.py::test_no_history_ends_silently_wrong_and_its_doubts_make_it_right",
        ),
    ),
    Attack(
        "leaked token",
        "bodies that no reader expects, signed",
        "quarantined, or the readable fields apply; nothing raises and nothing is lost",
        ("property/test_merge_bodies.py::test_any_bytes_are_read_or_refused_with_a_reason",),
    ),
    Attack(
        "local user",
        "read the databases, the socket, `.env`, captures, exports",
        "directory 0750, socket 0600, `.env` and captures 0600, exports and backups 0640; `doctor` looks",
        ("unit/test_doctor_modes.py::test_what_is_open_is_named_with_what_to_do",),
    ),
    Attack(
        "local user",
        "guess the password of the console",
        "each wrong one in a row makes the next wait longer, and the log says so",
        (
            "unit/test_console_attempts.py::test_the_delay_grows_with_failures_and_has_a_bound",
            "unit/test_console_attempts.py::test_the_right_password_waits_too_or_its_haste_would_tell",
        ),
    ),
    Attack(
        "website in the operator's browser",
        "send a form to the console, or read it under another name",
        "403 without the seal of that browser; 421 for a name that is not loopback's",
        (
            f"{_ACTIONS}::test_a_form_of_another_site_does_nothing",
            f"{_GUARD}::test_loopback_answers_to_no_other_name",
        ),
    ),
    Attack(
        "customer who chose the name",
        "a script or a spreadsheet's formula in a field",
        "shown as text in every page",
        ("browser/test_console_pages.py::test_a_name_that_is_a_script_does_nothing",),
    ),
    Attack(
        "analyst",
        "write to the mirror, read tokens or the inbox with the reporting role",
        "refused by the database",
        (
            "integration/test_reporting_role.py::test_nothing_can_be_written",
            "integration/test_reporting_role.py::test_none_of_the_mirrors_own_tables_can_be_read",
            "integration/test_reporting_role.py::test_nothing_of_the_inbox_can_be_read",
        ),
    ),
    Attack(
        "malicious upstream answer",
        "a redirect or a next page that would take the credentials to another host",
        "nothing is sent there",
        (
            "unit/kounta/test_kounta_origin.py::test_other_places_are_not_followed",
            "integration/kounta/test_kounta_bad_input.py::test_a_redirect_to_another_host_is_not_followed_there",
        ),
    ),
    Attack(
        "malicious upstream answer",
        "any value in any field, huge lists, lists without end, another customer, another company",
        "a field costs only itself; walks end; nothing is deleted without evidence",
        (
            "property/test_merge_bodies.py::test_any_value_in_any_field_is_read_and_costs_no_other_field",
            "integration/kounta/test_kounta_paging.py::test_a_page_of_more_items_than_any_has_is_an_error",
            "simulation/test_catalogue.py::test_the_mirror_survives_each_behaviour",
        ),
    ),
    Attack(
        "malicious upstream answer",
        "a person's data or a secret in an error, to be logged",
        "texts of upstream are masked; every run of the tests is searched for planted secrets",
        (
            "unit/test_logs.py::test_a_traceback_shows_no_words_of_upstream",
            "acceptance/test_secrets.py::test_a_secret_of_each_kind_is_searched_in_the_output_of_commands",
        ),
    ),
    Attack(
        "link or code that someone else sent",
        "log the mirror in for their company",
        "a code without the state of this login is refused",
        ("integration/kounta/test_kounta_oauth.py::test_an_attempt_that_came_to_nothing_says_why",),
    ),
    Attack(
        "operator's slip",
        "an id with a point, a word or a sign in it",
        "exit 2 before anything is asked or changed",
        ("unit/test_exact_parameters.py::test_an_integer_is_digits_and_nothing_else",),
    ),
    Attack(
        "disk",
        "fail at any operation, lose power, damage or lose a file",
        "nothing acknowledged is lost; damage is a critical problem within seconds, 503 meanwhile",
        (
            "integration/disks/test_inbox_on_failing_disks.py::test_nothing_acknowledged_is_lost_whichever_operation_fails",
            "integration/disks/test_inbox_on_failing_disks.py::test_a_power_cut_takes_nothing_that_was_acknowledged",
            f"{_DAMAGED}::test_a_damaged_inbox_is_critical_at_once_and_its_receiver_is_never_ready",
            f"{_DAMAGED}::test_a_mirror_that_is_not_at_its_path_is_not_written",
        ),
    ),
)


def page() -> str:
    """Return the page."""
    rows = (
        f"| {one.who} | {one.tries} | {one.result} | {', '.join(f'`{test}`' for test in one.tests)} |"
        for one in ATTACKS
    )
    return "\n".join(
        (
            "# Attacks and what holds them",
            "",
            "Written by `python -m tests.attacks`. Each test is in every check. The adversaries are those of",
            "[the threat model](../explanation/threats.md).",
            "",
            "| Who | What is tried | What comes of it | Tests (below `tests/`) |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"Written: {PAGE.relative_to(ROOT)}\n")
