"""Reads a request's body, up to a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi import Request

from tailorbird.domain.errors import InvalidInput, TooLarge

#: Bytes of a request's body at most, where a route does not say otherwise.
LARGEST_BODY = 2**20


async def read_body(request: Request, largest: int = LARGEST_BODY) -> bytes:
    """The body. Raises TooLarge (413) as soon as more than ``largest`` bytes are announced or have come."""
    read = bytearray()
    async for part in stream_body(request, largest):
        read += part
    return bytes(read)


async def stream_body(request: Request, largest: int) -> AsyncGenerator[bytes, None]:
    """The body's parts as they come. Raises TooLarge as ``read_body`` does."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > largest:
        raise _too_large(largest)
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > largest:
            raise _too_large(largest)
        yield part


def require_type(request: Request, wanted: str) -> None:
    """Raises InvalidInput unless the body is said to be of the media type ``wanted``.

    A browser sends no such body to another site without asking that site first, which is never granted here.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise InvalidInput(f"the body is not said to be {wanted}", f"send the header: content-type: {wanted}", code="content_type")


def _too_large(largest: int) -> TooLarge:
    return TooLarge(f"the body has more than {largest} bytes", "send less at once", code="body_too_large")
