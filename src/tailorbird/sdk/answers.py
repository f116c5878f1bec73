"""Answer of a release to one conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tailorbird.domain.value import Digest, Value

#: A message's role and text, as in OpenAI's API.
ChatMessage = Mapping[str, str]


class Answer(Value):
    """What the release ``release`` answered to the request ``request``, the id that feedback names.

    A classifying release also gives the probabilities of its labels. ``referred``: a person should look, since
    it is not sure enough or hands the conversation over.
    ``out_of_scope``: none of the labels fits, ``text`` is empty, and a person receives
    the request.
    """

    text: str
    request: str
    release: Digest
    probabilities: dict[str, float] | None = None
    referred: bool = False
    out_of_scope: bool = False


def conversation(said: str | Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages of a request: those given, or one of the user's with the text."""
    return [{"role": "user", "content": said}] if isinstance(said, str) else list(said)
