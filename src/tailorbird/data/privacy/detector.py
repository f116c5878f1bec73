"""All of our own detectors over many texts.

Most texts hold neither a digit, an @ nor a word like "password", and are passed over by one search; the others meet only the detectors
whose mark they carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tailorbird.data.privacy.contact_data import birth_dates, credentials, emails, internet_addresses, phones
from tailorbird.data.privacy.national_ids import national_ids
from tailorbird.data.privacy.payment_data import cards, ibans
from tailorbird.data.privacy.secrets import secrets
from tailorbird.ports.detector import Span

#: The version of all rules of this folder.
VERSION = "1"

_WORTH_A_LOOK = re.compile(r"[@\d]|::|-----BEGIN|(?i:\bat[\])}]|passw|kennw|passphrase|secret|token|bearer|api.?key)")
_SECRET_MARK = re.compile(
    r"(?i)pass|pwd|secret|token|key|auth|bearer|kennwort|akia|asia|gh[pousr]_|github_pat|glpat-|xox|[sr]k[_-]|aiza|ya29|hf_"
    r"|npm_|pypi-|sg\.|dop_|eyj"
)
_NOT_DIGITS = re.compile(r"\D+")


class OwnDetector:
    """Finds everything that needs no model. Fulfils the port ``Detector``."""

    name = "tailorbird"
    version = VERSION

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, in order of place."""
        return [self._spans(text) if _WORTH_A_LOOK.search(text) else [] for text in texts]

    def _spans(self, text: str) -> list[Span]:
        return disjoint(self._found(text))

    def _found(self, text: str) -> Iterator[Span]:
        """Surest kinds first."""
        digits = len(_NOT_DIGITS.sub("", text))
        if "@" in text or "at" in text:
            yield from credentials(text)
            yield from emails(text)
        if _SECRET_MARK.search(text) or "-----BEGIN" in text:
            yield from secrets(text)
        if digits >= 10:
            yield from ibans(text)
            yield from cards(text)
        if digits >= 6:
            yield from national_ids(text)
        if digits >= 5:
            yield from birth_dates(text)
        if digits >= 4 or "::" in text:
            yield from internet_addresses(text)
        if digits >= 7:
            yield from phones(text, self._regions)


def disjoint(spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """The spans of which none overlaps an earlier one, in order of place."""
    taken: list[Span] = []
    for span in spans:
        if all(span.end <= other.start or span.start >= other.end for other in taken):
            taken.append(span)
    return sorted(taken)
