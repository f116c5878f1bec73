"""The language of a text, where its script or its small words leave no doubt.

In: a text. Out: a language's code, or None. Must not know: rows, policies.

A text of a few words often says nothing of its language; then the answer is None, and no rule is broken.
"""

from __future__ import annotations

import re

#: Small words that stand in few of these languages at once.
_SMALL_WORDS = {
    "en": "the and is are was were you your i my to of in it that this with for have has not can how what do does please would when on be",
    "de": "der die das und ist sind nicht ich sie wir mein meine ein eine mit für auf zu den dem wie was kann bitte habe wurde noch auch",
    "fr": "le la les des et est sont je vous nous mon ma une un dans pour avec pas ne que qui sur au aux ce cette comment votre été",
    "es": "el la los las y es son yo mi una un en para con no que por del al como puedo su se está tengo cuando pero más este esta",
    "it": "il lo la gli e è sono io mio mia una un in per con non che di del della come posso si ho quando ma più questo questa",
    "nl": "de het een en is zijn niet ik mijn u wij met voor op van naar hoe wat kan heb heeft werd nog ook maar deze dit bij",
    "pt": "o os as e é são eu meu minha uma um em para com não que por do da como posso se está tenho quando mas mais este esta",
    "pl": "i jest są nie się na w z do to co jak czy mam mój moja dla od przez ale już tylko proszę można było być",
    "sv": "och är inte jag min mitt en ett det den som för med på till av hur vad kan har var men också detta denna från",
}
_WORDS = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")

#: Different small words that must be seen, and how many more than of the next language.
SEEN, LEAD = 3, 2


def language_of(text: str) -> str | None:
    """The language, or None when it cannot be told."""
    if not text.isascii():
        letters = sum(map(str.isalpha, text))
        for language, script in _SCRIPTS:
            if len(script.findall(text)) * 3 > letters:
                return language
    words = frozenset(_WORD.findall(text.casefold()))
    scores = sorted(((len(words & small), language) for language, small in _WORDS.items()), reverse=True)
    (best, language), (second, _) = scores[0], scores[1]
    return language if best >= SEEN and best >= second + LEAD else None
