"""A corpus of personal data in sentences, with hard negatives: run in the environment of the peer, which has Faker.

``privacy_corpus.py SEED COUNT`` writes one JSON object a line: {"text", "spans": [[start, end, kind, country]], "negative": null or what it
is}. Values are made by Faker (providers of each country), sentences are written here, in the language of each country for phones. A text
holds one value, or a number that looks like one and is none.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator

from faker import Faker

COUNTRIES = {
    "US": "en_US",
    "GB": "en_GB",
    "DE": "de_DE",
    "FR": "fr_FR",
    "ES": "es_ES",
    "IT": "it_IT",
    "NL": "nl_NL",
    "PL": "pl_PL",
    "SE": "sv_SE",
    "AT": "de_AT",
    "CH": "de_CH",
    "IE": "en_IE",
}

CARD = (
    "I tried to pay with my card {} and it was declined.",
    "Please remove {} from my wallet, I no longer use that card.",
    "The number on the front is {}, can you check whether it is blocked?",
    "hi my card {} got swallowed by the machine this morning",
    "Why was {} charged twice on Friday?",
    "Kartennummer {}, gültig bis nächstes Jahr.",
)
IBAN = (
    "Send the refund to {} please.",
    "My account is {}, the name is as on the invoice.",
    "Why did a transfer to {} fail?",
    "Bitte überweisen Sie den Betrag auf {}.",
    "Mon compte est le {}, merci de vérifier.",
    "the iban {} was rejected by your form, what now",
)
NATIONAL = {
    "US": ("My social security number is {} and I want it corrected.", "Please delete my SSN {} from the file."),
    "ES": ("Mi DNI es {} y quiero cambiar la dirección.", "El titular con NIF {} no puede entrar."),
    "IT": ("Il mio codice fiscale è {}.", "Vorrei correggere il codice {} sulla fattura."),
    "NL": ("Mijn BSN is {}, klopt dat bij u?", "Het burgerservicenummer {} staat verkeerd in het formulier."),
    "PL": ("Mój PESEL to {}.", "Proszę poprawić numer PESEL {} w umowie."),
    "SE": ("Mitt personnummer är {}.", "Kan ni uppdatera mitt konto, personnummer {}?"),
    "FI": ("Henkilötunnus on {}.", "Olen asiakas {}, miksi tilini on lukittu?"),
    "FR": ("Mon numéro de sécurité sociale est le {}.", "Le NIR {} est erroné sur l'attestation."),
    "BE": ("Mijn rijksregisternummer is {}.", "Mon numéro de registre national est {}."),
    "CH": ("Meine AHV-Nummer lautet {}.", "Mon numéro AVS est le {}."),
    "BR": ("Meu CPF é {}.", "O cadastro com CPF {} está bloqueado."),
    "CA": ("My social insurance number is {}.", "The SIN {} on my T4 is wrong."),
    "NO": ("Mitt fødselsnummer er {}.", "Kan dere slette fødselsnummer {}?"),
}
NATIONAL_LOCALES = {
    "US": "en_US",
    "ES": "es_ES",
    "IT": "it_IT",
    "NL": "nl_NL",
    "PL": "pl_PL",
    "SE": "sv_SE",
    "FI": "fi_FI",
    "FR": "fr_FR",
    "BE": "nl_BE",
    "CH": "de_CH",
    "BR": "pt_BR",
    "CA": "en_CA",
    "NO": "no_NO",
}
PHONE = {
    "en": ("You can reach me on {} after six.", "Please call {} about the delivery.", "my new number is {}, update it please", "Tel: {}"),
    "de": ("Sie erreichen mich unter {}.", "Bitte rufen Sie mich an: {}", "Meine neue Telefonnummer ist {}.", "Handy {}"),
    "fr": ("Vous pouvez m'appeler au {}.", "Mon numéro de téléphone est le {}.", "Tél. {}", "Merci de me rappeler au {} demain."),
    "es": ("Puede llamarme al {}.", "Mi teléfono es {}.", "Mi móvil: {}", "Por favor llámenme al {} por la tarde."),
    "it": ("Potete chiamarmi al {}.", "Il mio numero di telefono è {}.", "Cell. {}", "Telefono {} dopo le 18"),
    "nl": ("U kunt mij bellen op {}.", "Mijn telefoonnummer is {}.", "Tel. {}", "Mijn mobiele nummer is nu {}."),
    "pl": ("Proszę dzwonić na {}.", "Mój numer telefonu to {}.", "Tel. {}", "Proszę o kontakt: {}"),
    "sv": ("Ni når mig på {}.", "Mitt telefonnummer är {}.", "Tel: {}", "Ring mig på {} efter fem."),
}
EMAIL = (
    "Write to {} if you need more.",
    "My address is {}.",
    "{} never got the confirmation.",
    "Login: {} (since 2019)",
    "please cc {}, thanks",
)

NEGATIVES: tuple[tuple[str, str], ...] = (
    ("order", "Where is my order {d:16}? It was due on Monday."),
    ("order", "Bestellung {d:12} ist nicht angekommen."),
    ("tracking", "Tracking number 1Z{d:10} shows no movement since Friday."),
    ("tracking", "The parcel {d:13} is stuck at customs."),
    ("invoice", "Invoice {d:10} has the wrong amount, it should be 1,249.90."),
    ("ticket", "Re: ticket #{d:9}, still not solved."),
    ("amount", "You charged me 12,{d:3}.00 EUR instead of 1,{d:3}.00 EUR."),
    ("date", "Between 2023-0{n}-1{n} and 2024-0{n}-2{n} nothing worked."),
    ("date", "Since 1{n}/0{n}/2023 09:3{n}:1{n} the site is down."),
    ("version", "After the update to version 10.{n}.1{n}.3 the app crashes."),
    ("version", "Firmware v2.{n}.0.{d:2} broke the router."),
    ("isbn", "Do you sell the book with ISBN 978{d:10}?"),
    ("bad card", "The test card {badcard} must be refused by the form."),
    ("bad iban", "The example DE00 {d:4} {d:4} {d:4} {d:4} {d:2} is not a real account."),
    ("handle", "Follow us @shop_{d:3} or look at logo@2x.png in the press kit."),
    ("coordinates", "The depot is at 52.{d:6}, 13.{d:6}, near the river."),
    ("serial", "Serial number SN-{d:4}-{d:4}-{d:4} does not register."),
    ("size", "I need 250 x 1{d:2} x 3{d:2} mm, 1000000 pieces, article 44{d:5}."),
)


def main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    drawn = random.Random(seed)
    Faker.seed(seed)
    fakers = {locale: Faker(locale) for locale in {*COUNTRIES.values(), *NATIONAL_LOCALES.values()}}
    for make in (cards, ibans, national, phones, emails):
        for text, spans in make(drawn, fakers, count):
            print(json.dumps({"text": text, "spans": spans, "negative": None}, ensure_ascii=False))
    for name, text in negatives(drawn, count):
        print(json.dumps({"text": text, "spans": [], "negative": name}, ensure_ascii=False))


Made = Iterator[tuple[str, list[list[object]]]]
Fakers = dict[str, Faker]


def placed(sentence: str, value: str, kind: str, country: str) -> tuple[str, list[list[object]]]:
    start = sentence.index("{}")
    return sentence.format(value), [[start, start + len(value), kind, country]]


def cards(drawn: random.Random, fakers: Fakers, count: int) -> Made:
    faker = fakers["en_US"]
    for number in range(count):
        digits = faker.credit_card_number(card_type=drawn.choice(("visa", "mastercard", "amex", "discover", "jcb", "diners")))
        grouped = drawn.choice((" ", "-", "")) if number % 2 else ""
        value = grouped.join(digits[at : at + 4] for at in range(0, len(digits), 4)) if grouped else digits
        yield placed(drawn.choice(CARD), value, "card", "")


def ibans(drawn: random.Random, fakers: Fakers, count: int) -> Made:
    """Of the countries that have them; Faker writes Irish ones at a length that does not exist (ISO 13616: 22)."""
    makers: list[tuple[str, Callable[[], str]]] = [
        (country, fakers[COUNTRIES[country]].iban) for country in COUNTRIES if country not in ("US", "IE")
    ]
    for number in range(count):
        country, make = makers[number % len(makers)]
        value = make()
        if drawn.random() < 0.5:
            value = " ".join(value[at : at + 4] for at in range(0, len(value), 4))
        yield placed(drawn.choice(IBAN), value, "iban", country)


def national(drawn: random.Random, fakers: Fakers, count: int) -> Made:
    countries = list(NATIONAL)
    for number in range(count):
        country = countries[number % len(countries)]
        faker = fakers[NATIONAL_LOCALES[country]]
        value = drawn.choice((faker.nif, faker.nie))() if country == "ES" else faker.ssn()
        yield placed(drawn.choice(NATIONAL[country]), str(value), "national_id", country)


def phones(drawn: random.Random, fakers: Fakers, count: int) -> Made:
    """Faker draws numbers by form alone; those that no numbering plan knows are drawn again."""
    import phonenumbers

    for number in range(count):
        country = list(COUNTRIES)[number % len(COUNTRIES)]
        locale = COUNTRIES[country]
        while True:
            value = fakers[locale].phone_number()
            try:
                if phonenumbers.is_valid_number(phonenumbers.parse(value, country)):
                    break
            except phonenumbers.NumberParseException:
                continue
        yield placed(drawn.choice(PHONE[locale[:2]]), value, "phone", country)


def emails(drawn: random.Random, fakers: Fakers, count: int) -> Made:
    for number in range(count):
        country = list(COUNTRIES)[number % len(COUNTRIES)]
        faker = fakers[COUNTRIES[country]]
        value = drawn.choice((faker.email, faker.company_email, faker.free_email, faker.ascii_safe_email))()
        yield placed(drawn.choice(EMAIL), value, "email", country)


def negatives(drawn: random.Random, count: int) -> Iterator[tuple[str, str]]:
    import re

    for number in range(2 * count):
        name, sentence = NEGATIVES[number % len(NEGATIVES)]
        text = re.sub(r"\{d:(\d+)\}", lambda match: digits(drawn, int(match[1])), sentence)
        text = re.sub(r"\{n\}", lambda _: str(drawn.randint(1, 8)), text)
        yield name, text.replace("{badcard}", bad_card(drawn))


def digits(drawn: random.Random, count: int) -> str:
    return "".join(drawn.choice("0123456789") for _ in range(count))


def bad_card(drawn: random.Random) -> str:
    """Sixteen digits that begin like a card, with a wrong check digit."""
    while True:
        value = "4" + digits(drawn, 15)
        total = sum(int(d) if place % 2 else (2 * int(d) - 9 if int(d) > 4 else 2 * int(d)) for place, d in enumerate(value))
        if total % 10:
            return value


if __name__ == "__main__":
    main()
