"""`mirror.toml`: the companies of one installation, a table each. Its values are checked by the settings."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from receiver.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PLACE: Final = "MIRROR_CONFIG"
USUAL_PLACE: Final = "mirror.toml"  # in the working directory

PLAIN: Final = (
    "api_url",
    "attributes",
    "authorize_url",
    "client_id",
    "hold_deletes",
    "public_url",
    "read_lag_seconds",
    "read_only",
    "requests_per_minute",
    "sweep_seconds",
)
"""The settings that a company may have for itself, by the keys of its table."""

SECRETS: Final = ("client_secret", "refresh_token", "signature_tokens")
"""The same; a table only says where they are."""

OF_THE_INSTALLATION: Final = {
    "alert_url": "MIRROR_ALERT_URL",
    "company_id": "KOUNTA_COMPANY_ID",
    "config": PLACE,
    "connection_limit": "MIRROR_CONNECTION_LIMIT",
    "console_host": "MIRROR_CONSOLE_HOST",
    "console_password": "MIRROR_CONSOLE_PASSWORD",
    "console_port": "MIRROR_CONSOLE_PORT",
    "data_dir": "MIRROR_DATA_DIR",
    "database_listen_url": "DATABASE_LISTEN_URL",
    "database_url": "DATABASE_URL",
    "heartbeat_url": "MIRROR_HEARTBEAT_URL",
    "queue_limit": "MIRROR_QUEUE_LIMIT",
    "receiver_metrics_host": "MIRROR_RECEIVER_METRICS_HOST",
    "receiver_metrics_port": "MIRROR_RECEIVER_METRICS_PORT",
    "retention_days": "MIRROR_RETENTION_DAYS",
    "secret_key": "MIRROR_SECRET_KEY",
    "source_connection_limit": "MIRROR_SOURCE_CONNECTION_LIMIT",
}
"""The settings that all companies share, by what somebody may call them in a table."""

_WAYS: Final = ("env", "file")
_KEYS: Final = frozenset({*PLAIN, *(f"{secret}_{way}" for secret in SECRETS for way in _WAYS)})
_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
_EXAMPLE: Final = "a table for each company, such as [companies.5678], with its id in Kounta"


@dataclass(frozen=True, slots=True)
class CompaniesFile:
    """The file as it was read: whole, with keys that are known, and with every value still to be checked."""

    name: str
    """As a person wrote it."""
    tables: Mapping[int, Mapping[str, Any]]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> CompaniesFile | None:
        """Read the file that MIRROR_CONFIG names in `variables`, or mirror.toml if there is one.

        Raises SettingsError: a sentence for each thing that is wrong, which names file, company and key.
        """
        named = variables.get(PLACE)
        name = named or USUAL_PLACE
        try:
            text = Path(name).read_bytes().decode("utf-8-sig")
        except FileNotFoundError as error:
            if named is None:
                return None
            raise SettingsError(f"{PLACE} names {name}, which cannot be read: {error.strerror}.") from None
        except OSError as error:
            raise SettingsError(f"The file {name} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise SettingsError(f"The file {name} cannot be read: it is not UTF-8 text.") from None
        return cls.parse(name, text)

    @classmethod
    def parse(cls, name: str, text: str) -> CompaniesFile:
        """Take the text of a file. Raises SettingsError as `read` does."""
        try:
            given = tomllib.loads(text)
        except ValueError as error:  # a number of thousands of digits, too
            raise SettingsError(f"The file {name} is not TOML: {error}.") from None
        wrong = list(_wrong(given))
        if wrong:
            raise SettingsError(" ".join(f"In {name}{sentence}" for sentence in wrong))
        return cls(name, {int(company): table for company, table in given["companies"].items()})

    @property
    def ids(self) -> tuple[int, ...]:
        """Give the companies, in the order of their ids."""
        return tuple(sorted(self.tables))

    @property
    def files(self) -> frozenset[Path]:
        """Give the files with secrets that the tables name."""
        keys = [f"{secret}_file" for secret in SECRETS]
        named = (table[key] for table in self.tables.values() for key in keys if key in table)
        return frozenset(self._beside(path) for path in named if _can_be_named(path))

    def about(self, company_id: int) -> str:
        """Begin a sentence about the table of a company."""
        return f"In {self.name}, company {company_id}: "

    def values(
        self, company_id: int, names: Iterable[str], variables: Mapping[str, str]
    ) -> dict[str, tuple[str, Any]]:
        """Give what a table says of these settings, by name: its key, and the value with the secret in it.

        Raises SettingsError when a variable or a file that should hold a secret does not.
        """
        table = self.tables[company_id]
        found: dict[str, tuple[str, Any]] = {}
        for name in names:
            if name in SECRETS:
                ways = [way for way in _WAYS if f"{name}_{way}" in table]
                for way in ways:
                    key = f"{name}_{way}"
                    found[name] = (key, self._secret(company_id, key, table[key], variables))
            elif name in table:
                found[name] = (name, _as_in_a_variable(table[name]))
        return found

    def _secret(self, company_id: int, key: str, named: object, variables: Mapping[str, str]) -> str:
        start = f"{self.about(company_id)}{key}"
        by_variable = key.endswith("_env")
        if not _can_be_named(named):
            what = "the name of a variable" if by_variable else "the path of a file"
            raise SettingsError(f"{start} should be {what}, as a text in quotes.")
        if by_variable:
            secret = variables.get(named, "")
        else:
            try:
                secret = self._beside(named).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise SettingsError(f"{start} names {named}, which cannot be read: {reason}.") from None
        if not secret:
            raise SettingsError(
                f"{start} names {named}, which is set neither in the environment nor in .env."
                if by_variable
                else f"{start} names {named}, which is empty."
            )
        return secret

    def _beside(self, path: str) -> Path:
        return Path(self.name).parent / path


def _wrong(given: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with the shape of a file and with its keys; the file's name goes before."""
    companies = given.get("companies", {})
    for key in given:
        if key != "companies":
            yield f": {_misplaced(key) or f'{key} is not known here; it holds {_EXAMPLE}.'}"
    if not isinstance(companies, dict) or not companies:
        yield f": no company is named; it holds {_EXAMPLE}."
        return
    for company, table in companies.items():
        if not _ID.fullmatch(company):
            yield f": {company!r} is not the id of a company; the file holds {_EXAMPLE}."
        elif not isinstance(table, dict):
            yield f", company {company}: it should be a table; the file holds {_EXAMPLE}."
        else:
            for sentence in _wrong_in_table(table):
                yield f", company {company}: {sentence}"


def _wrong_in_table(table: Mapping[str, Any]) -> Iterator[str]:
    for key in table:
        if key in SECRETS:
            yield (
                f"{key} is a secret, which this file must not hold: write where it is, "
                f'{key}_env = "NAME" for a variable or {key}_file = "PATH" for a file.'
            )
        elif key not in _KEYS:
            yield _misplaced(key) or _unknown(key)
    for secret in SECRETS:
        if all(f"{secret}_{way}" in table for way in _WAYS):
            yield f"{secret}_env and {secret}_file are both there: keep one of them."


def _misplaced(key: str) -> str | None:
    name = OF_THE_INSTALLATION.get(_without_prefix(key)) or OF_THE_INSTALLATION.get(key.lower())
    if name is None:
        return None
    if name == "KOUNTA_COMPANY_ID":
        return f"{key} has no place here: the name of a table is the company's id, as in [companies.5678]."
    return f"{key} belongs to all companies, not to one: set {name} in the environment or in .env."


def _unknown(key: str) -> str:
    name = _without_prefix(key)
    if name in _KEYS:
        return f"{key} is not known here: it is called {name}."
    return f"{key} is not known here; a table can have {', '.join(sorted(_KEYS))}."


def _without_prefix(key: str) -> str:
    return re.sub("^(kounta|mirror)_", "", key.lower())


def _can_be_named(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isprintable()


def _as_in_a_variable(value: object) -> object:
    """Give a number or a boolean as a variable would have it, so that both are checked alike."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value
