"""Fallback: the release before answers where a hosted model does not."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.serving.alias_routes import TrafficArm
from tailorbird.serving.answers import AnswerPiece
from tailorbird.serving.endpoint_circuits import NOT_ASKED
from tailorbird.serving.hosted_driver import is_stood_in_for

_log = logging.getLogger("tailorbird.serving")

#: The answer of an arm to a conversation, piece by piece.
Answers = Callable[[TrafficArm, Sequence[Message], Sampling, frozenset[str]], AsyncGenerator[AnswerPiece, None]]


async def with_fallback(
    answers: Answers, arm: TrafficArm, messages: Sequence[Message], sampling: Sampling, groups: frozenset[str], *, whole: bool
) -> AsyncGenerator[AnswerPiece, None]:
    """The answer of a hosted ``arm``, or of its fallback where the endpoint fails before anything was given.

    ``whole``: pieces are held back until the last is there, so that an answer that breaks off is replaced, too; otherwise one whose first
    words were given ends with the error. Pieces of the fallback say so.
    """
    held: list[AnswerPiece] = []
    given = False
    try:
        async with aclosing(answers(arm, messages, sampling, groups)) as pieces:
            async for piece in pieces:
                if whole:
                    held.append(piece)
                else:
                    given = True
                    yield piece
    except TailorbirdError as error:
        if arm.fallback is None or given or not is_stood_in_for(error):
            raise
        if error.error_code != NOT_ASKED:  # the log tells once of an endpoint that is not asked
            told = (short(arm.release), error.error_code, error.message, short(arm.fallback.release))
            _log.warning("release %s did not answer (%s: %s): %s answers", *told)
    else:
        for piece in held:
            yield piece
        return
    async with aclosing(answers(arm.fallback, messages, sampling, groups)) as pieces:
        async for piece in pieces:
            yield piece.model_copy(update={"fallback": True})
