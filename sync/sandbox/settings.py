"""What this Kounta is like, and what goes wrong in it. Both may be changed while it runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Bounds(NamedTuple):
    """What a number may be. Unlike pydantic's own it makes one sentence on the command line too."""

    low: float
    high: float


class Form(NamedTuple):
    """What a text may be: a pattern, and the same in words."""

    pattern: str
    words: str


Share = Annotated[float, Bounds(0, 1)]
Seconds = Annotated[float, Bounds(0, 3600)]
Count = Annotated[int, Bounds(1, 10**9)]
Text = Annotated[str, Form(".+", "a text that is not empty")]
ClientId = Annotated[str, Form("[^:]+", "a text that is not empty and has no colon")]
Applications = Annotated[
    tuple[str, ...], Form("[^:]+:[^:]+:[^:]+", "CLIENT_ID:CLIENT_SECRET:SIGNATURE_TOKEN")
]
CallKind = Literal[
    "list", "get", "find", "create", "update", "webhooks", "company", "token", "authorize", "other"
]


class OptionError(ValueError):
    """An option has a value that it cannot have. The message is a sentence for the person who gave it."""


@dataclass
class Settings:
    """How upstream behaves where its documentation is silent, and who may call it.

    The defaults are the likeliest reading; the others are what else has been seen or cannot be ruled out.
    """

    company_id: Annotated[int, Bounds(1, 2**63 - 1)] = 5678
    """The id of the only company."""
    company_name: str = "Harbour Roasters"
    """Its name in `/v1/companies/me`."""
    time_zone: str = "Australia/Sydney"
    """Its time zone in `/v1/companies/me`."""
    client_id: ClientId = "sandbox-client"
    """The application's client id."""
    client_secret: Text = "sandbox-secret"  # noqa: S105 - protects a fake
    """The application's client secret."""
    signature_token: Text = "sandbox-signature-token"  # noqa: S105 - signs for a fake
    """The key of `X-Kounta-Signature`."""
    other_applications: Applications = ()
    """More applications of the company, each as CLIENT_ID:CLIENT_SECRET:SIGNATURE_TOKEN."""
    requests_per_minute: Count = 60
    """Calls a minute for an application that uses Basic auth."""
    oauth_requests_per_minute: Count = 180
    """Calls a minute for an application that uses OAuth."""
    limit_window: Literal["fixed", "sliding"] = "fixed"
    """Whether the limit counts each minute by the clock, or any 60 seconds."""
    limit_headers: Literal["none", "retry-after", "reset", "both"] = "reset"
    """What a 429 carries: Retry-After (seconds), X-Ratelimit-Reset (epoch seconds), or both."""
    reset_unit: Literal["seconds", "milliseconds"] = "seconds"
    """The unit of X-Ratelimit-Reset."""
    reset_ahead_seconds: Annotated[float, Bounds(0, 10**9)] = 0
    """How far behind the true reset the one is that a 429 names."""
    remaining_headers: bool = False
    """Whether every answer has X-Ratelimit-Limit, -Remaining and -Reset."""
    limit_body: Literal["text", "json"] = "text"
    """Whether a 429 has the plain text "Limit exceeded" or upstream's error shape."""
    list_shape: Literal["abridged", "legacy", "complete"] = "abridged"
    """What an item of a list has: a few fields, the same with primary_email_address, or all."""
    list_order: Literal["id", "newest", "name"] = "id"
    """What a list is sorted by."""
    page_size: Annotated[int, Bounds(1, 1000)] = 25
    """How many items a page of a list has."""
    page_base: Literal[0, 1] = 1
    """The first page's number in the query `page` (the header X-Page counts from 0)."""
    last_next_page: Literal["absent", "empty"] = "absent"
    """X-Next-Page on the last page."""
    location: Literal["absolute", "relative"] = "absolute"
    """Location of redirects and of what was created."""
    created_location: bool = True
    """Whether the 201 to a new customer has a Location."""
    created_body: bool = False
    """Whether 201 has the new record as its body."""
    write_body: Literal["right", "null", "empty", "html"] = "right"
    """The body of a 2xx to a write of a customer: as it should be, the bytes `null`, none, an HTML page."""
    gone: Literal[404, 410] = 404
    """The answer to a read of a customer that was deleted."""
    company_redirects: bool = False
    """Whether `/v1/companies/me` redirects to the company."""
    wrong_company: Literal[403, 404] = 404
    """The answer to a call for another company."""
    unknown_fields: Literal["ignored", "refused"] = "ignored"
    """What becomes of fields in a write that cannot be written."""
    mobile_taken: Literal[400, 409, 422] = 400
    """The answer to a write whose mobile another customer has."""
    error_shape: Literal["error", "message", "error_message", "text", "html"] = "error"
    """How errors are worded: {"error", "error_description"}, one of two other keys, plain text, HTML."""
    address_shape: Literal["current", "legacy"] = "current"
    """Addresses as address, city, state, postal_code, country, or the older lines[] and zone."""
    mobile_field: bool = True
    """Whether records carry `mobile`, which is newer than the seed."""
    volatile_extras: bool = False
    """Whether records carry unknown times and counts that differ at each answer."""
    oddities_per: Literal["answer", "customer"] = "answer"
    """Whether the oddities of records are drawn for each answer, or once for each customer."""
    unknown_extras: bool = False
    """Whether records carry fields that no documentation names, and `id_str`."""
    ascii_json: bool = False
    r"""Whether JSON is ASCII with \u escapes, or UTF-8."""
    token_seconds: Count = 3600
    """How long an access token is good."""
    code_seconds: Count = 600
    """How long an authorization code is good."""
    rotate_refresh_tokens: bool = True
    """Whether a refresh brings a new refresh token and ends the old one."""
    expired_token: Literal[400, 401] = 401
    """The answer to an access token that has expired."""
    authorize: Literal["granted", "denied"] = "granted"
    """What the person at `/authorize` says."""
    announce_unchanged: bool = True
    """Whether a PUT that changes nothing is announced too."""
    deleted_body: Literal["complete", "id"] = "complete"
    """Whether the body of a customers/deleted is the last state, or the id and the times alone."""
    delivery_headers: bool = False
    """Whether deliveries carry headers that no documentation names: a topic, the id of an event."""
    unset_filter: Literal["null", "object"] = "null"
    """Whether an unset filter of a webhook is null, or {}: then null is refused."""
    webhook_addresses: Literal["kept", "normalised", "slashed"] = "kept"
    """What becomes of a webhook's address: kept, host in lower case and no default port, or a slash too."""
    webhook_filters: Literal["honoured", "ignored"] = "honoured"
    """Whether a webhook's attribute filter has an effect. Its form here is a guess: {"attributes": [...]}."""
    delivery_timeout_seconds: Seconds = 10
    """How long a receiver may take to answer."""
    edits_per_second: Annotated[float, Bounds(0, 1000)] = 0
    """How often the company's people edit its customers by themselves."""


@dataclass
class Faults:
    """What goes wrong. Shares are between 0 and 1, and drawn from the seed; all are off by default."""

    lost: Share = 0
    """Share of deliveries that never leave."""
    doubled: Share = 0
    """Share of deliveries that leave twice."""
    disordered: Share = 0
    """Share of deliveries that the next one about the same customer overtakes."""
    delayed: Share = 0
    """Share of deliveries that leave late, by up to max-delay-seconds."""
    max_delay_seconds: Seconds = 5
    """How late delayed, doubled and disordered deliveries may be."""
    garbled: Share = 0
    """Share of deliveries whose body is no JSON, though well signed."""
    nul_bodies: Share = 0
    """Share of deliveries with a NUL in their body, as a byte or as an escape."""
    not_utf8: Share = 0
    """Share of deliveries whose body is not UTF-8."""
    nameless_bodies: Share = 0
    """Share of deliveries whose body names no customer."""
    replayed_elsewhere: Share = 0
    """Share of deliveries whose very bytes come to the address of another topic too."""
    badly_signed: Share = 0
    """Share of deliveries whose signature is wrong."""
    stamps: Literal["change", "departure", "absent"] = "change"
    """When created_at and updated_at in a delivery's body are made: at the change, as it leaves, never."""
    delivery_retries: Annotated[int, Bounds(0, 100)] = 0
    """How often a delivery that was not answered 2xx is tried again."""
    retry_seconds: Seconds = 10
    """The pause before the first retry; it doubles."""
    disable_after: Annotated[int, Bounds(0, 10**9)] = 0
    """How many refusals one after another make upstream drop a webhook; 0: it never does."""
    too_many: Share = 0
    """Share of calls answered 429 though the limit is not reached."""
    server_errors: Share = 0
    """Share of calls answered 500, 502 or 503."""
    hangs: Share = 0
    """Share of calls answered only after hang-seconds."""
    hang_seconds: Seconds = 30
    """How long such a call takes."""
    cut_bodies: Share = 0
    """Share of calls whose connection closes inside the body."""
    html_answers: Share = 0
    """Share of calls answered 200 with an HTML page."""
    wrong_answers: Share = 0
    """Share of calls answered 200 with JSON of another shape or, for a read by id, with another customer."""
    fault_after_write: Share = 0.5
    """Share of server errors, HTML answers and wrong answers that come although the write was done."""
    only_calls: tuple[CallKind, ...] = ()
    """Kinds of calls that may fail; none named: all."""
    empty_as_list: Share = 0
    """Share of records in which an empty object, or an unset address, is []."""
    holes_as_object: Share = 0
    """Share of records in which the tags are an object with a number for each."""
    none_as_text: Share = 0
    """Share of records in which what is unset is "" or false."""
    numbers_for_text: Share = 0
    """Share of records in which texts of digits are numbers: phone, mobile, postal code lose zeros and +."""
    text_for_numbers: Share = 0
    """Share of records in which numbers and truth values are texts, truth values also 0 and 1."""
    strange_fields: Share = 0
    """Share of records with one field of a type that has no meaning there."""
    deep_nesting: Share = 0
    """Share of records with an unknown field that is nested 300 deep."""
    half_surrogates: Share = 0
    """Share of records with half of a surrogate pair, in an unknown field or in a name."""
    false_flags: Share = 0
    """Share of records of live customers with a flag that says: not deleted."""
    strange_flags: Share = 0
    """Share of records of live customers with a deleted flag that has no meaning."""
    poor_reads: Share = 0
    """Share of reads by id that carry the six fields of a list item alone."""
    deleted_flags: Share = 0
    """Share of reads of deleted customers answered 200 with a flag that says so."""
    listed_deleted: Share = 0
    """Share of deleted customers that stay in the list, with that flag; drawn once for each."""
    answers_another: Share = 0
    """Share of deleted customers whose reads are answered with another one; drawn once for each."""
    redirects_another: Share = 0
    """Share of deleted customers whose reads redirect to another one; drawn once for each."""
    redirects_same: Share = 0
    """Share of reads by id that redirect to another address of the same customer."""
    cut_walks: Share = 0
    """Share of pages that name no next one though there is one; X-Pages tells."""
    overstated_pages: Share = 0
    """Share of pages whose X-Pages says one more than there are."""
    shifted_rows: Share = 0
    """Share of pages, after the first, whose rows have moved by up to three places."""
    next_page: Literal["right", "repeated", "foreign", "endless", "http"] = "right"
    """Where X-Next-Page leads: to the next page, the same again, another host, on without end, to http."""
    token_answers: Literal["right", "forbidden", "unavailable", "unauthorized"] = "right"  # noqa: S105 - no secret
    """The token endpoint's answers: tokens, a 403 page, temporarily_unavailable, a plain 401."""
    read_lag_seconds: Annotated[float, Bounds(0, 600)] = 0
    """How old the state is that reads and lists show."""
    clock_skew_seconds: Annotated[float, Bounds(-(10**6), 10**6)] = 0
    """How far upstream's clock is ahead."""
    lost_access: Literal["no", "401", "403", "404"] = "no"
    """The answer to every call, once access was taken away."""


_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)
_FAULTS: TypeAdapter[Faults] = TypeAdapter(Faults)


def change(options: Settings | Faults, values: Mapping[str, Any]) -> None:
    """Set some of the options, in place: all of the values or, if one cannot be, none.

    Raises OptionError with a sentence that names the option, what it may be and what came.
    """
    known = [field.name for field in fields(options)]
    kind = "faults" if isinstance(options, Faults) else "settings"
    for name in values:
        if name not in known:
            raise OptionError(f"There is no {name!r} among the {kind}; there are {', '.join(known)}.")
    adapter: TypeAdapter[Any] = _FAULTS if isinstance(options, Faults) else _SETTINGS
    try:
        changed = adapter.validate_python({**asdict(options), **values})
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        expected = first["msg"].removeprefix("Input ").removesuffix(", unable to parse string as a number")
        raise OptionError(f"{where} {expected}, not {first['input']!r}.") from invalid
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        for rule in getattr(hint, "__metadata__", ()):
            _hold(rule, name, getattr(changed, name))
    for name in known:
        setattr(options, name, getattr(changed, name))


def check(options: Settings | Faults) -> None:
    """Raise OptionError if one of the options has a value that it cannot have."""
    change(options, {})


def _hold(rule: Bounds | Form, name: str, value: Any) -> None:
    if isinstance(rule, Bounds):
        if not rule.low <= value <= rule.high:
            raise OptionError(f"{name} should be a number from {rule.low} to {rule.high}, not {value!r}.")
        return
    for text in value if isinstance(value, tuple) else (value,):
        if not re.fullmatch(rule.pattern, text):
            raise OptionError(f"{name} should be {rule.words}, not {text!r}.")
