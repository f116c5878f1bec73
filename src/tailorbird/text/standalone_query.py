"""Standalone query: a conversation's last message, rewritten so that passages are found for it without the turns before.

The base model writes it (Elgohary et al. 2019, CANARD; Vakulenko et al. 2021, arXiv 2004.14652). Evaluation and serving ask it the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.prompt import Message, Sampling

#: How a query is drawn: greedily, a sentence at most.
SAMPLING = Sampling(max_tokens=48, stop=("\n",), whole=True)
_INSTRUCTION = (
    "Rewrite the last message as one question that can be understood without the conversation: replace words such as it, that, they and "
    "there by what they stand for. Do not answer it. Write the question alone."
)
#: Turns before the last message that are shown, and characters of each.
_TURNS, _CHARACTERS = 6, 600
#: Characters of a query that are used.
_LONGEST = 400


def query_prompt(turns: Sequence[Message]) -> tuple[Message, ...] | None:
    """What the model is asked for the query of ``turns``; None where the last message is the only one, and stands alone already."""
    last = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=len(turns))
    said = [turn for turn in turns[: last + 1] if turn.role in ("user", "assistant") and turn.content]
    if len(said) < 2:
        return None
    earlier = "\n".join(f"{turn.role}: {_cut(turn.content)}" for turn in said[-1 - _TURNS : -1])
    text = f"Conversation:\n{earlier}\n\nLast message: {_cut(said[-1].content)}\n\nThe last message as one question that stands alone:"
    return Message(role="system", content=_INSTRUCTION), Message(role="user", content=text)


def query_of(written: str, last: str) -> str:
    """The query that was ``written``; the ``last`` message itself where nothing was."""
    query = " ".join(written.split()).strip("\"' ")
    return query[:_LONGEST] or last


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
