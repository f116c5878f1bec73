"""Data licences: terms of well-known ones, and clashes with the intended use.

Pointers for people who decide, not legal advice; a licence that is not listed is for people to read.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Use = Literal["research", "internal", "commercial", "distributed"]


class Terms(NamedTuple):
    """What a licence allows: use for profit; sharing what was made from the data; sharing it under other terms."""

    commercial: bool = True
    derivatives: bool = True
    other_terms: bool = True


_OPEN, _SHARE_ALIKE = Terms(), Terms(other_terms=False)

#: Licences by their SPDX name in lower case. Versions of one licence that ask the same stand once, without the version.
TABLE: dict[str, Terms] = {
    "apache-2.0": _OPEN,
    "bsd-2-clause": _OPEN,
    "bsd-3-clause": _OPEN,
    "cc-by": _OPEN,
    "cc-by-nc": Terms(commercial=False),
    "cc-by-nc-nd": Terms(commercial=False, derivatives=False),
    "cc-by-nc-sa": Terms(commercial=False, other_terms=False),
    "cc-by-nd": Terms(derivatives=False),
    "cc-by-sa": _SHARE_ALIKE,
    "cc0": _OPEN,
    "cc0-1.0": _OPEN,
    "cdla-permissive": _OPEN,
    "cdla-sharing": _SHARE_ALIKE,
    "gpl-3.0": _SHARE_ALIKE,
    "gpl-3.0-only": _SHARE_ALIKE,
    "gpl-3.0-or-later": _SHARE_ALIKE,
    "isc": _OPEN,
    "mit": _OPEN,
    "odbl": _SHARE_ALIKE,
    "odc-by": _OPEN,
    "ogl-uk": _OPEN,
    "pddl": _OPEN,
    "public-domain": _OPEN,
    "unlicense": _OPEN,
}

#: Uses that need a term, by the name of the term and why it is needed.
_NEEDS: dict[str, tuple[frozenset[Use], str]] = {
    "commercial": (frozenset({"internal", "commercial", "distributed"}), "it does not allow commercial use"),
    "derivatives": (frozenset({"commercial", "distributed"}), "it does not allow sharing what is made from it"),
    "other_terms": (frozenset({"distributed"}), "what is made from it and given away must bear the same licence"),
}


def terms_of(licence: str) -> Terms | None:
    """Terms of ``licence``; None when it is not in the table."""
    name = re.sub(r"[\s_]+", "-", licence.strip().casefold())
    return TABLE.get(name) or TABLE.get(re.sub(r"-v?\d+(\.\d+)*$", "", name))


def clash(licence: str, use: Use) -> str | None:
    """Reason why ``licence`` does not allow ``use``; None when it does, or when it is not in the table."""
    terms = terms_of(licence)
    if terms is None:
        return None
    return next((why for term, (uses, why) in _NEEDS.items() if use in uses and not getattr(terms, term)), None)
