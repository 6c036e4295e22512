"""Upstream: the client of Kounta's API, and the only place that speaks HTTP to it."""

from sync.kounta.auth import Auth, BasicAuth
from sync.kounta.client import API_URL, Kounta
from sync.kounta.errors import (
    IncompleteListError,
    KountaAccessLost,
    KountaError,
    KountaOtherCustomer,
    KountaRefused,
    KountaThrottled,
    KountaUnavailable,
    KountaWrongShape,
    for_log,
)
from sync.kounta.fields import AddressFields, Fields
from sync.kounta.lookups import Read
from sync.kounta.oauth import OAuth
from sync.kounta.paging import Page
from sync.kounta.retries import Retries
from sync.kounta.shapes import Company
from sync.kounta.throttle import Budget, BudgetState
from sync.kounta.tokens import TokenEndpoint, Tokens
from sync.kounta.webhooks import RegisteredWebhook, Webhooks
from sync.kounta.writes import Written
from sync.merge.customers import Address, Customer

__all__ = [
    "API_URL",
    "Address",
    "AddressFields",
    "Auth",
    "BasicAuth",
    "Budget",
    "BudgetState",
    "Company",
    "Customer",
    "Fields",
    "IncompleteListError",
    "Kounta",
    "KountaAccessLost",
    "KountaError",
    "KountaOtherCustomer",
    "KountaRefused",
    "KountaThrottled",
    "KountaUnavailable",
    "KountaWrongShape",
    "OAuth",
    "Page",
    "Read",
    "RegisteredWebhook",
    "Retries",
    "TokenEndpoint",
    "Tokens",
    "Webhooks",
    "Written",
    "for_log",
]
