"""The bodies of answers, read whole up to a limit."""

from contextlib import aclosing

import httpx2

from sync.kounta.errors import KountaWrongShape


async def whole_body(response: httpx2.Response, limit: int) -> bytes:
    """Read the body of an answer. Raises KountaWrongShape above `limit` bytes."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit:
                raise KountaWrongShape(
                    response.status_code,
                    None,
                    f"answered {response.status_code} with more than {_size(limit)}",
                    "Check KOUNTA_API_URL: nothing that Kounta documents is that large",
                )
    return bytes(body)


def _size(limit: int) -> str:
    return f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
