"""How a page is made: templates, and what they show times and numbers with."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from receiver.database import utc_text
from sync.concerns import ago, seconds_of

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
UNKNOWN: Final = "-"


def render(template: str, **values: Any) -> str:
    """Fill in a template; whatever is text in `values` is escaped."""
    return _ENVIRONMENT.get_template(template).render(values)


def clock(moment: datetime | None) -> Markup | str:
    """Show a time in UTC to the second, so that machines can read it, too."""
    if moment is None:
        return UNKNOWN
    return Markup('<time datetime="{}">{}</time>').format(utc_text(moment), f"{moment:%Y-%m-%d %H:%M:%S}")


def parsed_clock(moment: str | None) -> Markup | str:
    """Show a time that is text already."""
    return clock(None if moment is None else datetime.fromisoformat(moment))


def past(moment: datetime | None, now: datetime) -> str:
    """Say how long ago it was."""
    return UNKNOWN if moment is None else f"{ago(max(now - moment, timedelta()))} ago"


def seconds(age: float) -> str:
    """Say how long it is."""
    return ago(timedelta(seconds=age))


def left(moment: datetime | None, now: datetime) -> str:
    """Say when it will be, or that it is now."""
    if moment is None or moment <= now:
        return "now"
    return f"in {ago(timedelta(seconds=seconds_of(moment - now) + 1))}"


def number(value: float) -> str:
    """Write it with commas between thousands."""
    return f"{value:,}"


def share(value: float | None) -> str:
    """Write a share of 1 in percent."""
    return UNKNOWN if value is None else f"{value * 100:.2f} %"


def shown(value: Any) -> str:
    """Write a value of a row: text as it is, the rest as JSON; null is told from an empty text."""
    if value is None:
        return "null"
    if value == "":
        return '""'
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        one.__name__: one for one in (clock, parsed_clock, past, seconds, left, number, share, shown)
    }
    return environment


_ENVIRONMENT: Final = _environment()
