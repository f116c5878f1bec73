"""What an erasure does not look for: a name so short that it stands in other people's words."""

from __future__ import annotations

from datetime import date, timedelta

from tailorbird.domain.erasure import NotLookedFor, Obligation, ObligationKind
from tailorbird.text.text_finder import is_long_name
from tailorbird.usecases.erasure.obligations import LEARNED_DAYS
from tailorbird.usecases.erasure.places import PLACES

WHAT = "the person's name, within texts"


def not_looked_for(subject: str) -> tuple[NotLookedFor, ...]:
    """By what of the person no text was searched; nothing where the name was looked for. The name itself is not repeated."""
    if is_long_name(subject):
        return ()
    why = "the name, as it was given, has fewer than five letters, two Chinese characters, three Korean syllables, or five characters of "
    why += "kana, Thai, Lao, Burmese or Khmer: it would be found in other people's words"
    return (NotLookedFor(what=WHAT, places=tuple(place.name for place in PLACES if place.by_name), why=why),)


def by_hand(limits: tuple[NotLookedFor, ...], today: date) -> tuple[Obligation, ...]:
    """What people have to do instead."""
    why = "the person's name is too short to be looked for there; run tailorbird data erase for each longer name by which texts may call "
    why += "them (the full name, a customer number), and look through what is left; tailorbird tenant policy --keep-days 0 deletes all "
    why += "kept words of requests"
    due = today + timedelta(days=LEARNED_DAYS)
    return tuple(Obligation(kind=ObligationKind.FIND_BY_HAND, what=", ".join(each.places), due=due, why=why) for each in limits)
