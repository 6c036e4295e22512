"""The worker's settings, and those of the commands that stand in for it."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from receiver.errors import SettingsError
from receiver.settings import ReceiverSettings, Settings, comma_separated, usable_url
from sync.kounta import API_URL, KountaRefused
from sync.kounta.origin import Origin, is_loopback
from sync.merge.customers import ATTRIBUTES, Subscription
from sync.merge.doubts import Timing
from sync.mirror.marks import Marker
from sync.reconcile.deletions import Brake

SHORTEST_KEY = 32
SHORTEST_PASSWORD = 12


def _known_attributes(names: tuple[str, ...]) -> tuple[str, ...]:
    Subscription.of(names)
    if not names:
        raise ValueError(f"name at least one of {', '.join(ATTRIBUTES)}")
    return names


def _brake(text: str) -> str:
    Brake.parse(text)
    return text


def _public_url(text: str) -> str:
    """Check where upstream is to deliver to; give it without a slash at its end."""
    url = urlsplit(text.strip())
    if url.scheme not in {"http", "https"} or not url.hostname or not _has_port(url):
        raise ValueError("it should be something like https://mirror.example.com")
    if url.username is not None or url.query or url.fragment or "?" in text or "#" in text:
        raise ValueError("it can have a path, but no credentials, query or fragment")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("customers' data would cross the network unencrypted; use https://")
    return text.strip().rstrip("/")


def _watcher(address: SecretStr) -> SecretStr:
    """Check an address that somebody else gave; its path may be a secret."""
    url = urlsplit(address.get_secret_value().strip())
    if url.scheme not in {"http", "https"} or not url.hostname or not _has_port(url):
        raise ValueError("it should be something like https://watch.example.com/mirror")
    return SecretStr(address.get_secret_value().strip())


def _upstream(address: str) -> str:
    """Check Kounta's address as the client does, before anything starts."""
    try:
        Origin(address)
    except KountaRefused as error:
        raise SettingsError(str(error)) from None
    return address


def _page(text: str) -> str:
    url = urlsplit(text.strip())
    if url.scheme not in {"http", "https"} or not url.hostname or not _has_port(url) or url.fragment:
        raise ValueError("it should be something like https://my.kounta.com/authorize")
    return text.strip()


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < SHORTEST_KEY:
        raise ValueError(f"it should have at least {SHORTEST_KEY} characters, all of them random")
    return key


def _guarded(host: str, others: ValidationInfo) -> str:
    """Check that other machines need a password, no short one; that field stands before this one."""
    password: SecretStr | None = others.data.get("console_password")
    if is_loopback(host):
        return host
    if password is None:
        raise ValueError("other machines could read it there, so set MIRROR_CONSOLE_PASSWORD too")
    if is_short(password):
        raise ValueError(
            f"other machines could guess MIRROR_CONSOLE_PASSWORD there: it should have {SHORTEST_PASSWORD} "
            "characters or more"
        )
    return host


def is_short(password: SecretStr) -> bool:
    """Whether a password of the console is shorter than it should be; on loopback that is a warning."""
    return len(password.get_secret_value()) < SHORTEST_PASSWORD


def _has_port(url: SplitResult) -> bool:
    """Whether the port is a number that can be one, or left out."""
    try:
        return url.port != 0
    except ValueError:
        return False


class MirrorSettings(Settings):
    """What every command that looks at the mirror needs."""

    attributes: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(comma_separated), AfterValidator(_known_attributes)
    ] = Field(
        ATTRIBUTES,
        alias="MIRROR_ATTRIBUTES",
        description="which attributes are mirrored, comma-separated; all by default",
    )
    sweep_seconds: float = Field(
        21_600, alias="MIRROR_SWEEP_SECONDS", gt=0, description="the seconds between two sweeps"
    )
    read_lag_seconds: float = Field(
        20, alias="MIRROR_READ_LAG_SECONDS", ge=0, description="how far Kounta's reads may lag, in seconds"
    )
    retention_days: float = Field(
        30, alias="MIRROR_RETENTION_DAYS", gt=0, description="the days after which deliveries leave the inbox"
    )
    hold_deletes: Annotated[str, AfterValidator(_brake)] = Field(
        "5%",
        alias="MIRROR_HOLD_DELETES",
        description="how many deletions in 24 h are too many, a share or a number",
    )
    requests_per_minute: float | None = Field(
        None,
        alias="KOUNTA_REQUESTS_PER_MINUTE",
        gt=0,
        allow_inf_nan=False,
        description="how many calls a minute Kounta allows; unset, 60 with Basic and 180 with OAuth",
    )

    secret_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        None,
        alias="MIRROR_SECRET_KEY",
        description="what stored OAuth tokens are encrypted with, and erased people marked",
    )
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        None, alias="MIRROR_PUBLIC_URL", description="where Kounta reaches the receiver; it may carry a path"
    )

    def required_public_url(self) -> str:
        """Give `public_url`. Raises SettingsError when it is not set."""
        if self.public_url is None:
            raise SettingsError(
                "MIRROR_PUBLIC_URL is not set. It is where Kounta reaches the receiver, something like "
                "https://mirror.example.com."
            )
        return self.public_url

    @property
    def subscription(self) -> Subscription:
        """Give what `attributes` names as the merge takes it."""
        return Subscription.of(self.attributes)

    @property
    def timing(self) -> Timing:
        """Give the times of the merge and of verification."""
        return Timing(read_lag=timedelta(seconds=self.read_lag_seconds))

    @property
    def brake(self) -> Brake:
        """Give the brake on deletions."""
        return Brake.parse(self.hold_deletes)

    @property
    def marker(self) -> Marker | None:
        """Give what marks erased people; None: no key is set, and nobody can have been erased."""
        return None if self.secret_key is None else Marker(self.secret_key)


class WorkerSettings(MirrorSettings):
    """What it takes to ask Kounta."""

    api_url: Annotated[str, AfterValidator(_upstream)] = Field(
        API_URL, alias="KOUNTA_API_URL", description="Kounta's address, without /v1"
    )
    client_id: str = Field(alias="KOUNTA_CLIENT_ID", min_length=1, description="the application's client id")
    client_secret: SecretStr = Field(
        alias="KOUNTA_CLIENT_SECRET", min_length=1, description="the application's client secret"
    )
    refresh_token: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, alias="KOUNTA_REFRESH_TOKEN", description="an OAuth refresh token to begin with"
    )
    authorize_url: Annotated[str, AfterValidator(_page)] | None = Field(
        None, alias="KOUNTA_AUTHORIZE_URL", description="the page at which a person allows the application"
    )
    alert_url: Annotated[SecretStr, AfterValidator(_watcher)] | None = Field(
        None,
        alias="MIRROR_ALERT_URL",
        description="where each alert is posted when it opens and when it closes",
    )
    heartbeat_url: Annotated[SecretStr, AfterValidator(_watcher)] | None = Field(
        None, alias="MIRROR_HEARTBEAT_URL", description="what is called every minute while work gets on"
    )
    database_listen_url: Annotated[SecretStr | None, AfterValidator(usable_url)] = Field(
        None,
        alias="DATABASE_LISTEN_URL",
        description="where PostgreSQL is reached without a pooler, to be woken",
    )
    read_only: bool = Field(
        False,
        alias="KOUNTA_READ_ONLY",
        description="whether every write to Kounta is refused: true or false",
    )

    @property
    def listen_url(self) -> str | None:
        """Give `database_listen_url`, password and all."""
        url = self.database_listen_url
        return None if url is None else url.get_secret_value()


class ProcessSettings(WorkerSettings):
    """What the worker's process takes beside: where its console listens."""

    console_password: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, alias="MIRROR_CONSOLE_PASSWORD", description="what opens the console, with any user name"
    )
    console_host: Annotated[str, AfterValidator(_guarded)] = Field(
        "127.0.0.1", alias="MIRROR_CONSOLE_HOST", description="the address at which the console listens"
    )
    console_port: int = Field(
        8765,
        alias="MIRROR_CONSOLE_PORT",
        ge=0,
        le=65535,
        description="the port at which the console listens; 0 takes a free one",
    )


class PingSettings(MirrorSettings, ReceiverSettings):
    """What it takes to send what the receiver takes for a webhook, and to find it again."""
