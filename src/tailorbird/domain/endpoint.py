"""Endpoints: servers of OpenAI's protocol outside the house, what they cost, where data go that are sent there, and what they said."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from tailorbird.domain.value import Name, Value


def _is_address(url: str) -> str:
    """An address without user, query and fragment, so that it may stand in records and reports; without ``/v1``."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an endpoint's address is http:// or https:// with a host, and neither a user, nor a query, nor a fragment")
    return url.rstrip("/").removesuffix("/v1")


#: What 1,000,000 tokens cost.
Price = Annotated[float, Field(ge=0, le=1e6)]


class Endpoint(Value):
    """A server of OpenAI's protocol that one tenant may use.

    ``key`` names one of the setting ``endpoint_keys`` (empty: it asks for none). ``input_price`` and ``output_price`` are of 1,000,000
    tokens, in ``currency``; releases on it may cost the tenant ``money_per_month`` (None: as much as they do). ``region`` says where the
    data go and who gets them, for people. A request takes ``timeout_s`` seconds at most. ``private``: its name may lead to an address of
    the local network or of this machine, and it may be asked without TLS.
    """

    name: Name
    url: Annotated[str, Field(min_length=10, max_length=500), AfterValidator(_is_address)]
    key: Name | None = None
    input_price: Price = 0.0
    output_price: Price = 0.0
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    region: Annotated[str, Field(min_length=3, max_length=300)]
    money_per_month: Annotated[float, Field(ge=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    private: bool = False

    @model_validator(mode="after")
    def _encrypted(self) -> Endpoint:
        if self.url.startswith("http://") and not self.private:
            raise ValueError("an endpoint on the internet is asked over https://")
        return self

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What so many tokens cost, in ``currency``."""
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6


#: The endpoints of one tenant; no two share a name.
Endpoints = Annotated[tuple[Endpoint, ...], Field(max_length=50)]


class HostedModel(Value):
    """The model behind a hosted candidate: the endpoint by name and address, the ``model`` that is asked for, and how the server named the
    one that answered (``reported``)."""

    endpoint: Name
    url: str
    model: str
    reported: str


class HostedUse(Value):
    """What measuring a hosted candidate found of its server: requests answered, how many of them it ``refused``, how many tries were made
    ``again`` (a rate limit, a fault of the server), tokens, and the model's own account of itself: the names and ``fingerprints`` that came
    with answers (empty where the server gives none), sorted.

    ``money`` is what the tokens cost with those that were ``lost``: read and written by tries that gave no whole answer, and may have to be
    paid. Of so many answers the tokens are ``estimated``: bytes, in place of what the server did not tell."""

    endpoint: Name
    model: str
    requests: int
    refused: int
    again: int
    prompt_tokens: int
    completion_tokens: int
    money: float
    currency: str
    reported: tuple[str, ...]
    fingerprints: tuple[str, ...]
    lost: int = Field(default=0, exclude_if=lambda value: not value)
    estimated: int = Field(default=0, exclude_if=lambda value: not value)
