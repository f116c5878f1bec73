"""A policy applied to texts: what is found is counted, and kept, renamed, redacted, or a reason to refuse."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailorbird.data.privacy.detector import VERSION, OwnDetector, disjoint
from tailorbird.domain.curation import PersonalKind, PrivacyAction, PrivacyPolicy
from tailorbird.domain.errors import InvalidInput
from tailorbird.ports.detector import Detector, Span

#: Texts that detectors get at once.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text after the policy. ``counts`` is how often each kind was found; ``drop`` that the row must go."""

    text: str
    counts: dict[PersonalKind, int] = field(default_factory=dict)
    drop: bool = False


class Redaction:
    """One policy, ready to be applied (``policy``). Raises InvalidInput when pseudonyms are asked for and there is no key."""

    def __init__(self, policy: PrivacyPolicy, others: Sequence[Detector] = (), key: bytes = b"") -> None:
        self.policy = policy
        self._detectors: list[Detector] = [OwnDetector(policy.regions), *others]
        self._key = key
        if not key and PrivacyAction.PSEUDONYMISE in (policy.default, *policy.kinds.values()):
            hint = "run it from a workspace, which keeps the key, or use redact"
            raise InvalidInput("pseudonyms need a key, and there is none", hint, code="pseudonym_key_missing")

    @property
    def schemes(self) -> dict[str, str]:
        """Which version of each detector looks."""
        return {f"privacy.{detector.name}": detector.version for detector in self._detectors} | {"privacy": VERSION}

    def treat(self, texts: Sequence[str]) -> list[RedactedText]:
        """Each text after the policy."""
        treated: list[RedactedText] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            found = [detector.detect(batch) for detector in self._detectors]
            treated += [self._treat(text, [spans[place] for spans in found]) for place, text in enumerate(batch)]
        return treated

    def _treat(self, text: str, found: list[list[Span]]) -> RedactedText:
        if not any(found):
            return RedactedText(text)
        spans = disjoint([span for spans in found for span in spans])
        counts = Counter(span.kind for span in spans)
        drop = any(self.policy.action(kind) is PrivacyAction.DROP for kind in counts)
        return RedactedText(self._rewritten(text, spans), dict(counts), drop)

    def _rewritten(self, text: str, spans: list[Span]) -> str:
        parts: list[str] = []
        reached = 0
        for span in spans:
            parts += [text[reached : span.start], self._shown(text[span.start : span.end], span.kind)]
            reached = span.end
        return "".join([*parts, text[reached:]])

    def _shown(self, value: str, kind: PersonalKind) -> str:
        action = self.policy.action(kind)
        if action is PrivacyAction.REDACT:
            return f"[{kind.value.upper()}]"
        if action is PrivacyAction.PSEUDONYMISE:
            return f"[{kind.value.upper()}-{self._pseudonym(value, kind)}]"
        return value

    def _pseudonym(self, value: str, kind: PersonalKind) -> str:
        """The same for every spelling of a value that differs in case, spaces and marks only."""
        plain = "".join(character for character in value.casefold() if character.isalnum())
        return hmac.new(self._key, f"tailorbird/pseudonym/1/{kind.value}/{plain}".encode(), hashlib.sha256).hexdigest()[:8]
