"""The bytes of a delivery and their signature."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from sync.sandbox.customer import JsonObject


def json_bytes(value: Any, *, ascii_only: bool) -> bytes:
    """Write a value as JSON, in UTF-8 or with escapes; a lone surrogate is always escaped."""
    if not ascii_only:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        try:
            return text.encode()
        except UnicodeEncodeError:
            pass  # a lone surrogate: only an escape can carry it
    return json.dumps(value, separators=(",", ":")).encode()


def xml_bytes(customer: JsonObject) -> bytes:
    """Write a customer as XML. How upstream does it is unknown; this is a guess."""
    root = ET.Element("customer")
    _fill(root, customer)
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + bytes(ET.tostring(root, encoding="utf-8"))


def signature(token: str, body: bytes) -> str:
    """Give X-Kounta-Signature: lower-case hex HMAC-SHA256 over exactly these bytes."""
    return hmac.new(token.encode(), body, hashlib.sha256).hexdigest()


def _fill(element: ET.Element, value: Any) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _fill(ET.SubElement(element, name), part)
    elif isinstance(value, list):
        for part in value:
            _fill(ET.SubElement(element, "item"), part)
    elif isinstance(value, bool):
        element.text = "true" if value else "false"
    elif value is not None:
        element.text = str(value)
