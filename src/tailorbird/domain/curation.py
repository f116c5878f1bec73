"""Curation policies, people's decisions about single rows, and the report of counts and findings.

No value of a report holds text of a row, nor a place inside one: a finding names a row by file and line, a code, and counts.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.value import Digest, Name, Section, Value

#: What stands for a text on which a detector of personal data failed: nobody knows what it holds.
WITHHELD = "[WITHHELD]"


class PersonalKind(StrEnum):
    """A kind of personal data, or of secret. ``PERSON``, ``PLACE`` and ``ORGANISATION`` are found by optional detectors only."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    IP = "ip"
    URL_CREDENTIALS = "url_credentials"
    NATIONAL_ID = "national_id"
    SECRET = "secret"
    BIRTH_DATE = "birth_date"
    PERSON = "person"
    PLACE = "place"
    ORGANISATION = "organisation"


class PrivacyAction(StrEnum):
    """What is done with a row that holds personal data of a kind, from the mildest to the strictest."""

    KEEP = "keep"
    PSEUDONYMISE = "pseudonymise"
    REDACT = "redact"
    DROP = "drop"
    REFUSE = "refuse"


class QualityRule(StrEnum):
    """What may be wrong with a row's text or answer."""

    TOO_LONG = "too_long"
    WRONG_LANGUAGE = "wrong_language"
    REPETITION = "repetition"
    MARKUP = "markup"
    REFUSAL = "refusal"
    TEMPLATE = "template"
    ROLE_ORDER = "role_order"
    TRUNCATED = "truncated"


class PrivacyPolicy(Section):
    """What is done with personal data. Nothing is changed unless it says so; what is found is always counted."""

    default: PrivacyAction = PrivacyAction.KEEP
    """What is done with every kind that ``kinds`` does not name."""
    kinds: dict[PersonalKind, PrivacyAction] = Field(default_factory=dict)
    """What is done with one kind: ``{card: refuse, email: redact}``."""
    regions: Annotated[tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...], Field(min_length=1)] = (
        "US",
        "GB",
        "DE",
        "FR",
        "ES",
        "IT",
        "NL",
        "PL",
        "SE",
        "AT",
        "CH",
        "IE",
    )
    """Countries whose phone numbers are known without a country code (ISO 3166, two letters)."""
    detectors: tuple[Literal["presidio"], ...] = ()
    """Detectors beside our own; each needs its package."""

    def action(self, kind: PersonalKind) -> PrivacyAction:
        """What is done with ``kind``."""
        return self.kinds.get(kind, self.default)


class QualityPolicy(Section):
    """Which rows are too poor to learn from. What is found is always counted; only rows that break a rule in ``drop`` are set aside."""

    drop: tuple[QualityRule, ...] = ()
    """Rules whose rows are set aside."""
    languages: tuple[str, ...] = ()
    """The languages that rows may be in (``en``, ``de``, ...); empty: any."""
    max_characters: Annotated[int, Field(ge=1)] = 20_000
    """A text or an answer with more characters is too long."""


class ProtectedSet(Section):
    """Texts on which somebody measures, now or later: no row like one of them is learned from."""

    path: str = Field(min_length=1)
    """A file, folder or address as in ``data``."""
    text: str = "text"
    """The column with the text."""


class CurationPolicy(Section):
    """How the data are cleaned before they are split."""

    privacy: PrivacyPolicy = PrivacyPolicy()
    """What is done with personal data."""
    quality: QualityPolicy = QualityPolicy()
    """Which rows are too poor to learn from."""
    near_duplicates: Literal["group", "drop"] = "group"
    """``group`` keeps rows that are nearly alike on one side of a split; ``drop`` keeps one of them in each split."""
    protected: tuple[ProtectedSet, ...] = ()
    """Evaluation sets of your own, whose texts must not be learned from."""


class RowFinding(Value):
    """Something found in a row that stays, or why one went. ``code`` is stable (``privacy.email``, ``quality.markup``); ``count`` says how
    often; ``action`` what was done (an action of a policy, or ``reported``)."""

    file: str
    line: int
    code: str
    count: int = 1
    action: str = "reported"


class FlowStep(Value):
    """One step from raw to kept: rows that came in, rows that left it, rows whose text it changed, and why rows went, by code."""

    name: str
    before: int
    after: int
    changed: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)


class PersonalCount(Value):
    """How much of one kind was found, and what the policy did with it."""

    kind: PersonalKind
    rows: int
    occurrences: int
    action: PrivacyAction


class DuplicateGroup(Value):
    """Rows that are nearly alike: their ids, sorted, and their labels with counts. ``conflicting``: more than one label."""

    id: str
    rows: tuple[Digest, ...]
    labels: dict[str, int] = Field(default_factory=dict)
    conflicting: bool = False


class LabelSuspect(Value):
    """A row whose label is likely wrong. ``score`` in (0, 1]: how much nearer its words are to ``suggested`` than to the label given."""

    row: Digest
    file: str
    line: int
    given: str
    suggested: str
    score: float


class Contamination(Value):
    """Rows left out because they repeat what is measured on, wholly or in part: ``protected`` is a split, or the path of a set."""

    protected: str
    rows: int


class ClassCount(Value):
    """A label's rows over all splits, and whether they are few (``rare``): fewer than ten, or than a tenth of the median label's."""

    label: str
    train: int
    dev: int
    test: int
    rare: bool


class LengthBin(Value):
    """Rows whose text has at least ``start`` and fewer than ``end`` characters."""

    start: int
    end: int
    rows: int


class CoverageProfile(Value):
    """Balance and coverage. ``imbalance`` is the largest label's rows over the smallest's; ``smallest_provable`` the smallest difference
    from one half that a share measured on all test rows can prove at 95 % (half the interval's width)."""

    classes: tuple[ClassCount, ...] = ()
    lengths: tuple[LengthBin, ...] = ()
    imbalance: float = 1.0
    smallest_provable: float = 1.0


class CurationReport(Value):
    """One curation, from raw rows to kept ones. ``schemes`` names the version of each method, which decides what it finds.

    ``groups`` are the largest near-duplicate groups (at most 1,000; ``group_count`` counts all), ``suspects`` ranked, likeliest first;
    ``suspects_skipped`` says which rows were not looked at, and why. ``findings`` names the JSONL artifact of RowFindings, sorted by file
    and line.
    """

    schemes: dict[str, str]
    policy: CurationPolicy
    flow: tuple[FlowStep, ...]
    personal: tuple[PersonalCount, ...] = ()
    quality: dict[str, int] = Field(default_factory=dict)
    groups: tuple[DuplicateGroup, ...] = ()
    group_count: int = 0
    conflicting_groups: int = 0
    contamination: tuple[Contamination, ...] = ()
    suspects: tuple[LabelSuspect, ...] = ()
    suspects_skipped: str = ""
    profile: CoverageProfile = CoverageProfile()
    findings: Digest | None = None


class FixAction(StrEnum):
    """What a person decided about a row that looked wrong: it is right, it bears another label, it must go."""

    KEEP = "keep"
    RELABEL = "relabel"
    DROP = "drop"


class Decision(Value):
    """One person's decision about one row of an objective. ``row`` is the id of the row before it; ``label`` is set when relabelling.

    The newest decision about a row counts.
    """

    objective: Name
    row: Digest
    action: FixAction
    label: Annotated[str, Field(max_length=500)] = ""
    by: Name
    at: datetime
