"""Upstream: the client of Kounta's API, and the only place that speaks HTTP to it."""

from sync.merge.customers import Address, Customer

from .auth import Auth, BasicAuth
from .client import API_URL, Kounta, Read
from .errors import (
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaThrottled,
    KountaUnavailable,
    KountaWrongShape,
)
from .paging import Page
from .retries import Retries
from .shapes import Company
from .throttle import Budget, BudgetState

__all__ = [
    "API_URL",
    "Address",
    "Auth",
    "BasicAuth",
    "Budget",
    "BudgetState",
    "Company",
    "Customer",
    "Kounta",
    "KountaAccessLost",
    "KountaError",
    "KountaRefused",
    "KountaThrottled",
    "KountaUnavailable",
    "KountaWrongShape",
    "Page",
    "Read",
    "Retries",
]
