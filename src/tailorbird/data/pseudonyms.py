"""Pseudonyms of subjects: keyed and stable."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata

from tailorbird.text.words import normalise


def pseudonym(secret: bytes, tenant: str, subject: str) -> str:
    """``subject:`` and 32 hex digits: HMAC-SHA-256 of the name as people would call it the same (case and white space do not count)."""
    message = f"tailorbird/subject/v1\n{tenant}\n{normalise(subject)}".encode("utf-8", "surrogatepass")
    return "subject:" + hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]


def spellings(subject: str) -> frozenset[str]:
    """Usual ways to write a name that have its pseudonym: as given, without outer or doubled spaces, composed and decomposed letters, in
    small letters, capitals, and with initial capitals. For what is kept by a hash of the name as it was written. Where capitals are another
    name (ILGAZ of Turkish ılgaz), they are left out."""
    spaced = {subject, subject.strip(), " ".join(subject.split())}
    forms = {unicodedata.normalize(form, each) for each in spaced for form in ("NFC", "NFD", "NFKC")} | spaced
    cased = (str.lower, str.upper, str.casefold, str.title, str.capitalize)
    written = forms | {case(each) for each in forms for case in cased}
    return frozenset(each for each in written if normalise(each) == normalise(subject))
