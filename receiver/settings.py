"""Settings from the environment and `.env`. `Settings` is what both processes share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from receiver.companies import PLAIN, SECRETS, CompaniesFile
from receiver.connections import FEWEST, Limits, fitting
from receiver.database import Place, Server
from receiver.errors import SettingsError
from receiver.postgresql import checked_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

LIMITS = Limits()
ENV_FILE = ".env"  # in the working directory
BIGGEST_ID = 2**63 - 1  # what a database can hold

_OF_A_COMPANY = frozenset({*PLAIN, *SECRETS})
_UNREADABLE = f"{ENV_FILE} cannot be read: {{}}."


class CompanyNotChosen(SettingsError):  # noqa: N818 - it says what is the case
    """Several companies are configured, and nobody said which of them is meant."""


def environment() -> dict[str, str]:
    """Give what is set in the environment and, beneath it, in `.env`. Raises `SettingsError`."""
    try:
        filed = dotenv_values(ENV_FILE, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(_UNREADABLE.format(error)) from None
    found = {name: value for name, value in filed.items() if value}
    return found | {name: value for name, value in os.environ.items() if value}


def companies() -> tuple[int, ...]:
    """Give the ids of the companies that are configured, in their order. Raises `SettingsError`."""
    file = CompaniesFile.read(environment())
    return (Settings.load().company_id,) if file is None else file.ids


def comma_separated(value: object) -> object:
    """Split "a, b" into ["a", "b"]; what is no text stays as it is."""
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    return value


def digits(value: object) -> object:
    """Refuse a text that is not digits alone, as `5678.0` and `5_678`; commands take no other ids either."""
    if isinstance(value, str) and not (value.strip().isascii() and value.strip().isdecimal()):
        raise ValueError("expected digits and nothing else")
    return value


def usable_url(value: SecretStr | None) -> SecretStr | None:
    return None if value is None else SecretStr(checked_url(value.get_secret_value()))


class Settings(BaseSettings):
    """The base of each process's settings: where they come from, and how a wrong one is told.

    A field's alias is the name of its variable and its description completes "It is …". A field whose type
    holds a `SecretStr` may also come from the file that `<NAME>_FILE` names, and its value is never shown.
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("data"),
        alias="MIRROR_DATA_DIR",
        validate_default=True,
        description="the directory of both databases",
    )
    database_url: Annotated[SecretStr | None, AfterValidator(usable_url)] = Field(
        None, alias="DATABASE_URL", description="where both stores live instead of the data directory"
    )
    company_id: Annotated[int, BeforeValidator(digits)] = Field(
        alias="KOUNTA_COMPANY_ID", gt=0, le=BIGGEST_ID, description="the company's id in Kounta, a number"
    )

    @property
    def place(self) -> Place:
        """Give where both stores lie."""
        if self.database_url is None:
            return self.data_dir
        return Server(self.data_dir, self.database_url.get_secret_value())

    @classmethod
    def load(cls, company_id: int | None = None) -> Self:
        """Read the settings of a company; None: of the only one, or of the one that KOUNTA_COMPANY_ID names.

        What its table in mirror.toml does not say comes from the environment or from `.env`, as everything
        does without that file. Raises `CompanyNotChosen`, or `SettingsError`: one line that names each
        variable or key that is wrong.
        """
        variables = environment()
        file = CompaniesFile.read(variables)
        if file is not None:
            return cls._of(file, _chosen(file, company_id, variables), variables)
        settings = cls._made({}, "")
        if company_id not in {None, settings.company_id}:
            raise SettingsError(
                f"Company {company_id} is not configured here: KOUNTA_COMPANY_ID is {settings.company_id}."
            )
        return settings

    @classmethod
    def load_all(cls) -> dict[int, Self]:
        """Read the settings of every company, in the order of their ids. Raises as `load` does."""
        variables = environment()
        file = CompaniesFile.read(variables)
        if file is None:
            settings = cls._made({}, "")
            return {settings.company_id: settings}
        _default(file, variables)
        return {company_id: cls._of(file, company_id, variables) for company_id in file.ids}

    @classmethod
    def _of(cls, file: CompaniesFile, company_id: int, variables: Mapping[str, str]) -> Self:
        names = (name for name in cls.model_fields if name in _OF_A_COMPANY)
        table = {
            cls.model_fields[name].alias or name: told
            for name, told in file.values(company_id, names, variables).items()
        }
        return cls._made({"KOUNTA_COMPANY_ID": ("id", company_id), **table}, file.about(company_id))

    @classmethod
    def _made(cls, table: Mapping[str, tuple[str, Any]], about: str) -> Self:
        """Make them of what a table says, by the names of variables, and of the environment."""
        try:
            return cls(**{name: value for name, (_, value) in table.items()})
        except ValidationError as error:
            keys = {name: about + key for name, (key, _) in table.items()}
            sentences = " ".join(_sentence(cls, problem, keys, about) for problem in error.errors())
        except (OSError, UnicodeDecodeError) as error:
            sentences = _UNREADABLE.format(error)
        raise SettingsError(sentences)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            env_settings,
            _SecretFiles(settings_cls, os.environ),
            dotenv_settings,
            _SecretFiles(settings_cls, dotenv_values(ENV_FILE, encoding="utf-8")),
            file_secret_settings,
        )


class ReceiverSettings(Settings):
    signature_tokens: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(comma_separated)] = Field(
        alias="KOUNTA_SIGNATURE_TOKENS",
        min_length=1,
        description="the token that signs the webhooks; several, comma-separated, while one replaces another",
    )
    queue_limit: int = Field(
        10_000,
        alias="MIRROR_QUEUE_LIMIT",
        gt=0,
        description="how many deliveries may wait for a commit, a number",
    )
    connection_limit: int = Field(
        LIMITS.connections,
        alias="MIRROR_CONNECTION_LIMIT",
        ge=FEWEST,
        le=65535,
        description="how many connections the receiver holds at once, a number",
    )
    source_connection_limit: int = Field(
        LIMITS.of_one_source,
        alias="MIRROR_SOURCE_CONNECTION_LIMIT",
        gt=0,
        description="how many of them one sender of the internet may have, a number",
    )
    receiver_metrics_port: int | None = Field(
        None,
        alias="MIRROR_RECEIVER_METRICS_PORT",
        ge=0,
        le=65535,
        description="the port of the receiver's own metrics, 0 takes a free one; unset, there are none",
    )
    receiver_metrics_host: str = Field(
        "127.0.0.1",
        alias="MIRROR_RECEIVER_METRICS_HOST",
        description="the address at which the receiver's own metrics are served",
    )

    def limits(self) -> Limits:
        """Give what connections may take, as far as the descriptors of this process allow."""
        return fitting(Limits(self.connection_limit, self.source_connection_limit))

    def tokens(self) -> dict[int, tuple[bytes, ...]]:
        """Give the signature tokens of each company."""
        return {self.company_id: tuple(token.get_secret_value().encode() for token in self.signature_tokens)}


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets by the name of a file, as containers hand them over."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field.alias or field_name
        path = self._variables.get(f"{name}_FILE") if _is_secret(field) else None
        if not path:
            return None, name, False
        if self._variables.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set: keep one of them.")
        try:
            return Path(path).read_text(encoding="utf-8").strip(), name, False
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{name}_FILE names {path}, which cannot be read: {reason}.") from None

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}


def secret_files(*kinds: type[Settings]) -> frozenset[Path]:
    """Give the files that secrets come from: those that `<NAME>_FILE` and mirror.toml name."""
    variables = environment()
    names = {field.alias for kind in kinds for field in kind.model_fields.values() if _is_secret(field)}
    named = {Path(variables[f"{name}_FILE"]) for name in names if f"{name}_FILE" in variables}
    file = CompaniesFile.read(variables)
    return frozenset(named if file is None else named | file.files)


def _is_secret(field: FieldInfo) -> bool:
    return _holds_secret(field.annotation)


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _default(file: CompaniesFile, variables: Mapping[str, str]) -> int | None:
    """Give the company that KOUNTA_COMPANY_ID names; None: it is not set."""
    named = variables.get("KOUNTA_COMPANY_ID")
    if named is None:
        return None
    if named not in map(str, file.ids):
        raise SettingsError(
            f"KOUNTA_COMPANY_ID is {named!r}, which {file.name} does not have ({_listed(file)}): "
            "unset it, or name one of those."
        )
    return int(named)


def _chosen(file: CompaniesFile, company_id: int | None, variables: Mapping[str, str]) -> int:
    default = _default(file, variables)
    if company_id is None and len(file.ids) == 1:
        return file.ids[0]
    chosen = default if company_id is None else company_id
    if chosen is None:
        raise CompanyNotChosen(
            f"Several companies are configured ({_listed(file)}): say which with --company ID."
        )
    if chosen not in file.ids:
        raise SettingsError(f"Company {chosen} is not in {file.name}, which has {_listed(file)}.")
    return chosen


def _listed(file: CompaniesFile) -> str:
    return ", ".join(map(str, file.ids))


def _sentence(
    settings: type[Settings], problem: Mapping[str, Any], keys: Mapping[str, str], about: str
) -> str:
    """Say what is wrong with a setting; `keys` name those that a table gave, `about` is that table."""
    where = problem["loc"]
    name = str(where[0]) if where else "A setting"
    field_name, field = next(
        ((key, field) for key, field in settings.model_fields.items() if field.alias == name), ("", None)
    )
    meaning = f" It is {field.description}." if field is not None and field.description else ""
    told = keys.get(name, name)
    if problem["type"] in {"missing", "too_short"}:
        if about and field_name in _OF_A_COMPANY:
            key = f"{field_name}_env or {field_name}_file" if field_name in SECRETS else field_name
            return f"{about}{key} is not set, and {name} is not set either.{meaning}"
        return f"{name} is not set.{meaning}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if field is None or _is_secret(field) or _may_carry_credentials(problem["input"]):
        return f"{told} cannot be used: {reason}.{meaning}"
    return f"{told} cannot be {problem['input']!r}: {reason}.{meaning}"


def _may_carry_credentials(value: object) -> bool:
    """Whether a value may be an address with a name and password, or a token, in it, well-formed or not."""
    return isinstance(value, str) and any(sign in value for sign in "@?#")
