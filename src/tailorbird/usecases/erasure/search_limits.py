"""What an erasure does not look for: a name so short that it stands in other people's words, and texts on which a detector failed."""

from __future__ import annotations

from datetime import date, timedelta

from tailorbird.domain.erasure import NotLookedFor, Obligation, ObligationKind
from tailorbird.text.text_finder import is_long_name
from tailorbird.usecases.erasure.obligations import LEARNED_DAYS
from tailorbird.usecases.erasure.places import PLACES

#: What a name is called that is not looked for.
NAME = "the person's name, within texts"
_DELETE_ALL = "tailorbird tenant policy --keep-days 0 deletes all kept words of requests"


def not_looked_for(subject: str, withheld: int = 0) -> tuple[NotLookedFor, ...]:
    """By what of the person no text was searched; ``withheld`` counts their texts that could not be redacted. The name itself is not
    repeated."""
    limits = []
    if not is_long_name(subject):
        why = (
            "the name, as it was given, has fewer than five letters, two Chinese characters, three Korean syllables, or five characters of "
        )
        why += "kana, Thai, Lao, Burmese or Khmer: it would be found in other people's words"
        limits.append(NotLookedFor(what=NAME, places=tuple(place.name for place in PLACES if place.by_name), why=why))
    if withheld:
        what = f"texts of the person as requests keep them, without personal data ({withheld:,} texts)"
        why = "a detector of personal data failed on them; they were looked for as they were read"
        limits.append(NotLookedFor(what=what, places=("requests",), why=why))
    return tuple(limits)


def by_hand(limits: tuple[NotLookedFor, ...], today: date) -> tuple[Obligation, ...]:
    """What people have to do instead."""
    due = today + timedelta(days=LEARNED_DAYS)
    return tuple(Obligation(kind=ObligationKind.FIND_BY_HAND, what=", ".join(each.places), due=due, why=_instead(each)) for each in limits)


def _instead(limit: NotLookedFor) -> str:
    if limit.what == NAME:
        return (
            "the person's name is too short to be looked for there; run tailorbird data erase for each longer name by which texts may call "
            f"them (the full name, a customer number), and look through what is left; {_DELETE_ALL}"
        )
    return f"{limit.what} were not looked for, because a detector failed on them; look through what is left; {_DELETE_ALL}"
