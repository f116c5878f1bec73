"""Request bodies: read up to a limit, parsed to values, or refused with an error that names the field."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, TypeVar

import pydantic_core
from fastapi import Request
from pydantic import BaseModel, ValidationError

from tailorbird.domain.errors import InvalidInput, TooLarge
from tailorbird.text.normalisation import nearest

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


M = TypeVar("M", bound=BaseModel)

#: Values of a body of the control plane at most: a submission of as many files as may be has a sixth.
MOST_VALUES = 60_000

#: Characters that a database does not keep: U+0000, and halves of surrogate pairs.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONG = 2**63


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """The JSON object in ``body``. Raises InvalidInput; ``example`` shows how one looks."""
    try:
        given = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}", "send one JSON object in UTF-8", code="invalid_json") from None
    if not isinstance(given, dict):
        raise InvalidInput("the body is not a JSON object", f"send an object: {example}", code="invalid_json")
    return given


def read_json_value(kind: type[M], given: Mapping[str, Any]) -> M:
    """``given``, which came as JSON, as a ``kind``: taken as it is, a string is no number. Raises InvalidInput."""
    refuse_unstorable(given)
    try:
        return kind.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise explained(error, kind.model_fields) from None


def read_text_value(kind: type[M], given: Mapping[str, str]) -> M:
    """``given``, which came as text, as a ``kind``. Raises InvalidInput."""
    refuse_unstorable(given)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise explained(error, kind.model_fields) from None


def refuse_unstorable(given: Any) -> None:
    """Raises InvalidInput when a text anywhere in ``given`` cannot be kept, an integer has more than 64 bits, or there are more values than
    ``MOST_VALUES``: everybody else waits while they are looked at."""
    ahead: list[tuple[Any, str]] = [(given, "")]
    count = 0
    while ahead:
        value, name = ahead.pop()
        if isinstance(value, Mapping | list):
            count += len(value)
            if count > MOST_VALUES:
                raise InvalidInput(f"more than {MOST_VALUES:,} values", "send less at once", code="too_many_values", param=name or None)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                _refuse_one(key, name)
                ahead.append((inner, f"{name}.{key}"[:128] if name else str(key)[:128]))
        elif isinstance(value, list):
            ahead += [(inner, name) for inner in value]
        else:
            _refuse_one(value, name)


def _refuse_one(value: Any, name: str) -> None:
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise _refused(name, "text with a null character or half a surrogate pair")
    if isinstance(value, int) and not -_LONG <= value < _LONG:
        raise _refused(name, "an integer of more than 64 bits")


def explained(error: ValidationError, known: Iterable[str]) -> InvalidInput:
    """The first fault that pydantic found, in our words; ``known`` are the parameters there are."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])[:128]
    if first["type"] == "extra_forbidden":
        return unknown(param, known)
    code = "missing_parameter" if first["type"] == "missing" else "invalid_value"
    said = first["msg"].removeprefix("Value error, ")
    return InvalidInput(f"{param}: {said}" if param else said, "correct this parameter and send the request again", code=code, param=param)


def unknown(param: str, known: Iterable[str]) -> InvalidInput:
    """There is no such parameter."""
    names = tuple(known)
    near = nearest(param, names)
    hint = f"did you mean {near}?" if near else f"these are understood: {', '.join(names) or 'none'}"
    return InvalidInput(f"unknown parameter {param}", hint, code="unknown_parameter", param=param)


def _refused(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name or 'the request'}: {what}", "leave it out", code="invalid_value", param=name[:128] or None)
