"""Filter of what a model reasons before it answers."""

from __future__ import annotations

import re

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tailorbird.text.turn_frames import ReasoningMarks

#: What ends the header of a channel (harmony, of gpt-oss), and the format of a message that may be named before it.
_MESSAGE, _FORMAT = "<|message|>", "<|constrain|>"


class _Mark:
    """Mark before an answer. In the header of a channel the model may name the answer's format (``<|constrain|>json``)."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._head = self._text.removesuffix(_MESSAGE) if self._text.endswith(_MESSAGE) else ""
        named = rf"(?: ?{re.escape(_FORMAT)}[^<\n]*)?" if self._head else ""
        self._whole = re.compile(re.escape(self._head) + named + re.escape(_MESSAGE) if self._head else re.escape(self._text))

    def behind(self, said: str) -> str | None:
        """What follows the mark at the beginning of ``said``; None where it does not stand there."""
        found = self._whole.match(said) if self._text else None
        return said[found.end() :] if found else None

    def found(self, said: str) -> str | None:
        """What follows the mark anywhere in ``said``; None where there is none."""
        found = self._whole.search(said) if self._text else None
        return said[found.end() :] if found else None

    def may_become(self, said: str) -> bool:
        """True where more of ``said`` may make it begin with the mark."""
        if not self._text or self._text.startswith(said):
            return bool(self._text)
        named = said.removeprefix(self._head).removeprefix(" ") if self._head and said.startswith(self._head) else None
        if named is None:
            return False
        return _FORMAT.startswith(named) or (named.startswith(_FORMAT) and _MESSAGE.startswith(_ending(named.removeprefix(_FORMAT))))


def _ending(named: str) -> str:
    """``named`` from its first ``<`` on."""
    return named[named.index("<") :] if "<" in named else ""


class ReasoningFilter:
    """Finds where the answer begins: behind the end of reasoning that the prompt or the model has begun, behind what stands in its stead,
    or at once. ``over``: the answer has begun; ``skipped``: it began at once."""

    def __init__(self, tokenizer: Tokenizer, marks: ReasoningMarks) -> None:
        self._tokenizer, self._decoder = tokenizer, DecodeStream(skip_special_tokens=False)
        self._begin, self._end, self._none = marks.begin.strip(), _Mark(marks.end), _Mark(marks.none)
        self._text, self._begun = "", not self._begin
        self.over = self.skipped = False

    @property
    def begun(self) -> bool:
        """True while the model reasons."""
        return self._begun and not self.over

    def feed(self, token: int) -> str:
        """What of the answer came with ``token``; empty before it begins."""
        self._text += self._decoder.step(self._tokenizer, token) or ""
        said = self._text.lstrip()
        if not self._begun:
            if said.startswith(self._begin):
                self._begun = True
            elif (answer := self._none.behind(said)) is not None:
                self.over = True
                return answer
            elif not (self._begin.startswith(said) or self._none.may_become(said)):
                self.over = self.skipped = True
                return ""
        found = self._end.found(self._text) if self._begun else None
        self.over = found is not None
        return found or ""
