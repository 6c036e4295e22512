"""Settings from the environment and `.env`. `Settings` is what both processes share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from receiver.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

ENV_FILE = ".env"  # in the working directory
BIGGEST_ID = 2**63 - 1  # what a database can hold


def comma_separated(value: object) -> object:
    """Split "a, b" into ["a", "b"]; what is no text stays as it is."""
    if isinstance(value, str):
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    return value


def _sqlite_only(value: SecretStr | None) -> None:
    if value is not None:
        raise ValueError("this version stores in SQLite files in MIRROR_DATA_DIR only; unset it")


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
    database_url: Annotated[SecretStr | None, AfterValidator(_sqlite_only)] = Field(
        None, alias="DATABASE_URL", description="where both stores live instead of the data directory"
    )
    company_id: int = Field(
        alias="KOUNTA_COMPANY_ID", gt=0, le=BIGGEST_ID, description="the company's id in Kounta, a number"
    )

    @classmethod
    def load(cls) -> Self:
        """Read the settings. Raises `SettingsError`, one line that names each variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            sentences = " ".join(_sentence(cls, problem["loc"], problem) for problem in error.errors())
        except (OSError, UnicodeDecodeError) as error:
            sentences = f"{ENV_FILE} cannot be read: {error}."
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


def _is_secret(field: FieldInfo) -> bool:
    return _holds_secret(field.annotation)


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _sentence(settings: type[Settings], where: tuple[int | str, ...], problem: Mapping[str, Any]) -> str:
    name = str(where[0]) if where else "A setting"
    field = next((field for field in settings.model_fields.values() if field.alias == name), None)
    meaning = f" It is {field.description}." if field is not None and field.description else ""
    if problem["type"] in {"missing", "too_short"}:
        return f"{name} is not set.{meaning}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if field is None or _is_secret(field) or _may_carry_credentials(problem["input"]):
        return f"{name} cannot be used: {reason}.{meaning}"
    return f"{name} cannot be {problem['input']!r}: {reason}.{meaning}"


def _may_carry_credentials(value: object) -> bool:
    """Whether a value may be an address with a name and password, or a token, in it, well-formed or not."""
    return isinstance(value, str) and any(sign in value for sign in "@?#")
