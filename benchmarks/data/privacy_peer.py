"""Presidio over a corpus: run in its own environment. Reads JSON lines {"text"} on stdin, writes [[start, end, kind], ...] a line.

Every recogniser that Presidio ships for these kinds is switched on, for every country of the corpus; names need a model and are left out on
both sides. Its threshold is the best of those tried (see ``privacy_bar.py``, which tries several).
"""

from __future__ import annotations

import json
import sys

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider
from presidio_analyzer.predefined_recognizers import CreditCardRecognizer, EmailRecognizer, IbanRecognizer, PhoneRecognizer

KINDS = {"CREDIT_CARD": "card", "IBAN_CODE": "iban", "PHONE_NUMBER": "phone", "EMAIL_ADDRESS": "email"}
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "AT", "CH", "IE")


def main() -> None:
    threshold = float(sys.argv[1])
    engine = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "no_op", "models": [{"lang_code": "en", "model_name": "no_op"}]}
    ).create_engine()
    registry = RecognizerRegistry(supported_languages=["en"])
    recognizers = [CreditCardRecognizer(), IbanRecognizer(), EmailRecognizer(), PhoneRecognizer(supported_regions=REGIONS), *national()]
    for recognizer in recognizers:
        registry.add_recognizer(recognizer)
    analyzer = AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=["en"])
    for line in sys.stdin:
        found = analyzer.analyze(json.loads(line)["text"], language="en", score_threshold=threshold)
        print(json.dumps([[one.start, one.end, KINDS.get(one.entity_type, "national_id")] for one in found]))


def national() -> list[object]:
    """Every recogniser of a national number that Presidio ships, made to listen in the corpus's only language setting."""
    import presidio_analyzer.predefined_recognizers as shipped

    names = [
        name
        for name in dir(shipped)
        if any(
            part in name for part in ("UsSsn", "EsNi", "ItFiscalCode", "PlPesel", "SePersonnummer", "FiPersonalIdentity", "Nhs", "UkNino")
        )
        or any(part in name for part in ("NlBsn", "FrNir", "BeNational", "ChAhv", "BrCpf", "CaSin", "NoFodsel", "DeTax", "InAadhaar"))
    ]
    return [getattr(shipped, name)(supported_language="en") for name in names if name.endswith("Recognizer")]


if __name__ == "__main__":
    main()
