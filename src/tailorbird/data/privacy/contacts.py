"""E-mail addresses, internet addresses, and addresses that carry a password.

In: a text. Out: spans. Must not know: policies.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from tailorbird.domain.curation import PersonalKind
from tailorbird.ports.detector import Span

_EMAIL = re.compile(r"(?<![\w.%+-])[\w%+'-][\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])")
#: An address that hides from harvesters, whose words say what it is.
_HIDDEN = re.compile(r"(?i)(?<![\w.])[\w.+-]{1,64}\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)[\w-]+){1,4}")
_CREDENTIALS = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,80}:[^\s/@]{1,200}@[^\s\"'<>]+")
_FOUR = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
_SIX = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?(?![\w:])")
_VERSION = re.compile(r"(?i)\b(?:v|ver|version|release|firmware|build|update|section|chapter|clause|kapitel|abschnitt)[\s.:]*$")
#: What ends like a name of a domain and is a file.
_FILES = frozenset(["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "htm", "pdf", "txt", "py", "md"])


def emails(text: str) -> Iterator[Span]:
    """Addresses with a top-level domain."""
    for match in _EMAIL.finditer(text):
        if match[0].rpartition(".")[2].lower() not in _FILES:
            yield Span(match.start(), match.end(), PersonalKind.EMAIL)
    for match in _HIDDEN.finditer(text):
        yield Span(match.start(), match.end(), PersonalKind.EMAIL)


def credentials(text: str) -> Iterator[Span]:
    """URLs with a name and a password."""
    for match in _CREDENTIALS.finditer(text):
        yield Span(match.start(), match.end(), PersonalKind.URL_CREDENTIALS)


def internet_addresses(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses; four numbers after the word "version" are none."""
    for match in _FOUR.finditer(text):
        if _parses(match[0]) and not _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
            yield Span(match.start(), match.end(), PersonalKind.IP)
    for match in _SIX.finditer(text):
        if match[0].count(":") > 1 and len(match[0]) > 4 and _parses(match[0]):
            yield Span(match.start(), match.end(), PersonalKind.IP)


def _parses(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
