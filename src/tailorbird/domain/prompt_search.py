"""Prompt search: what was tried on rows held out of train, and what it showed."""

from __future__ import annotations

from pydantic import Field

from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.value import Digest, Value

#: What the proposer is asked at most, before anything was tried and after; and the training rows that it is shown for that, at most.
PROPOSALS_WRITTEN, PROPOSALS_CORRECTED = 5, 2
PROPOSALS = PROPOSALS_WRITTEN + PROPOSALS_CORRECTED
ROWS_SHOWN, MISTAKES_SHOWN = 8, 6
PROPOSER_ROWS = ROWS_SHOWN + MISTAKES_SHOWN

#: How many times the usual demonstrations a searched prompt may show, with labels and without: what it is not shown a small model seldom
#: says, and without labels examples are all that shows an answer.
SEARCHED_SHOTS, SEARCHED_SHOTS_WITHOUT_LABELS = 4, 8


class TriedPrompt(Value):
    """A prompt that a search scored. ``demonstrations`` are the ids of the training rows that it shows, in their order; ``origin`` says
    where it is from (``paraphrase``, ``errors``, ``drawn``), ``proposed_from`` the training rows that were shown to who wrote its
    instruction.

    ``score`` is its mean on the first ``rows`` held-out rows; ``difference`` with ``low`` and ``high`` (95 %) that to the prompt with which
    the search began, in pairs on the same rows.
    """

    prompt: Digest
    instruction: str
    demonstrations: tuple[str, ...]
    list_labels: bool
    origin: str
    rows: int
    score: float
    difference: float
    low: float
    high: float
    proposed_from: tuple[str, ...] = ()


class PromptSearch(Value):
    """The log of a search: evidence of how a prompt was found. ``metric`` is what rows were scored by, ``budget`` the calls that it
    might make and ``calls`` those that it made, ``proposals`` of them to the proposer; ``dropped`` counts proposals that were not
    tried, and rows that were not looked at for mistakes, by reason. ``rows`` are the rows held out. ``start`` names the prompt with
    which it began, ``chosen`` the one that it found, and ``difference`` with ``low`` and ``high`` (95 %) is how much better that was,
    in pairs on ``compared`` rows: those that chose it, so the number flatters it. ``proposer`` is the hosted model that wrote instructions
    (None: the base model did). ``ended`` says why it ended before it had made its calls; empty where it did not."""

    metric: str
    seed: int
    budget: int
    calls: int
    proposals: int
    rows: int
    dropped: dict[str, int]
    start: Digest
    chosen: Digest
    compared: int
    difference: float
    low: float
    high: float
    tried: tuple[TriedPrompt, ...] = Field(default=())
    proposer: HostedModel | None = None
    ended: str = ""

    @property
    def sentence(self) -> str:
        """The search in a sentence."""
        if self.chosen == self.start:
            found = "none was better than the one it began with"
        else:
            found = (
                f"on {self.compared} held-out training rows, which chose it, {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] in "
                f"{self.metric} against the prompt it began with"
            )
        dropped = f", {sum(self.dropped.values())} proposals or mistakes dropped" if self.dropped else ""
        writer = f", instructions written by {self.proposer.model} at {self.proposer.endpoint}" if self.proposer else ""
        early = f", then {self.ended}" if self.ended else ""
        return f"{len(self.tried)} prompts tried with {self.calls:,} of {self.budget:,} calls{writer}{dropped}{early}: {found}"
