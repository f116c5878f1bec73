"""Context words before a number, where they decide what it is."""

from __future__ import annotations

import re

#: Characters before a number in which its name is looked for.
BEFORE = 32

#: Numbers that firms give: what follows such a word is no person's.
REFERENCE = re.compile(
    r"(?i)\b(?:order|orders|invoice|tracking|track|shipment|parcel|ticket|case|ref|reference|serial|sku|isbn|ean|barcode|part"
    r"|item|product"
    r"|model|batch|lot|booking|confirmation|transaction|version|build|commit|bestellung|rechnung|commande|facture|pedido|ordine)"
    r"(?:\s*(?:number|nummer|num|id|code|no|nr|n°|#|was|is))*[\s.:#°=]*$"
)


#: What an account number begins with: its later groups are no number of their own, whether or not the account exists.
#: A group keeps the letters that it took: eight groups can be cut out of a run of letters in 65,536 ways.
_ACCOUNT = re.compile(r"\b[A-Za-z]{2}\d\d(?:[ -]?[A-Za-z0-9]{1,4}+){0,8}+[ -]?$")


def before(text: str, start: int, reach: int = BEFORE) -> str:
    """The characters before ``start``, at most ``reach``."""
    return text[max(0, start - reach) : start]


def is_reference(text: str, start: int) -> bool:
    """True when the words right before ``start`` name a number of a firm, or begin a longer number."""
    return REFERENCE.search(before(text, start)) is not None or _ACCOUNT.search(before(text, start, 44)) is not None
