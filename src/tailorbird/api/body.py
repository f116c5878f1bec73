"""Reads a request's body, up to a limit.

In: a request. Out: its bytes. Must not know: what they mean.
"""

from __future__ import annotations

from fastapi import Request

from tailorbird.domain.errors import TooLarge

#: Bytes of a request's body at most.
LARGEST_BODY = 2**20


async def read_body(request: Request) -> bytes:
    """The body. Raises TooLarge (413) as soon as more than ``LARGEST_BODY`` bytes are announced or have come."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > LARGEST_BODY:
        raise _too_large()
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LARGEST_BODY:
            raise _too_large()
    return bytes(read)


def _too_large() -> TooLarge:
    return TooLarge(f"the body has more than {LARGEST_BODY} bytes", "send a shorter conversation", code="body_too_large")
