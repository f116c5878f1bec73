"""Objective: data, KPIs with targets, limits, budget and approvals that a team writes down before anything is spent."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from tailorbird.domain.base_model import EncoderPrefixes
from tailorbird.domain.curation import CurationPolicy
from tailorbird.domain.evidence import ScopePolicy
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.value import Name, Section


class FloorWishes(Section):
    """Whether the floor, a classical model, may be released, and what it reads. ``floor: reference`` is short for its role alone."""

    role: Literal["rung", "reference"] = "rung"
    """``rung``: the lowest rung of ``ladder: auto``, or of a list that names it; it is released when it passes. ``reference``: it is
    measured, and never released."""
    vectors: bool | Literal["auto"] = "auto"
    """Reads each text's vector of the encoder that is installed too, beside its words: better where rows are few, at some milliseconds a
    text on a core. ``auto``: where an encoder is installed, up to 20,000 training rows."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"role": given} if given == "reference" else given


class EncoderWishes(Section):
    """Which encoder gives texts their vectors, what it reads in front of them, and what of it is tuned for labels (rung ``encoder``)."""

    model: str = Field(default="auto", min_length=1, max_length=500)
    """The encoder of the floor, of nearest examples, of grounding and of the rung ``encoder``, as a base model is named: of the catalogue,
    a local folder, or hf://OWNER/NAME. ``auto``: the catalogue's encoder that is installed. A task of kind rank names it as
    ``base_model``."""
    prefixes: Literal["own", "none", "e5", "bge", "nomic"] | EncoderPrefixes = "own"
    """What it reads in front of a ``query``, a ``passage``, or a ``text`` by itself. ``own``: what its files name, or the catalogue.
    ``e5``, ``bge``, ``nomic``: as encoders of these families were trained; ``none``: nothing."""
    method: Literal["full", "lora"] = "full"
    """``full``: its weights, and the release holds an encoder of its own. ``lora``: an adapter; releases of all tenants share the encoder
    that they were tuned from, in memory once, and their requests are read together."""
    rank: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """The rank of the adapter; ``auto`` is 16."""

    @property
    def other_prefixes(self) -> EncoderPrefixes | None:
        """The prefixes that are asked for; None: the encoder's own."""
        return KNOWN_PREFIXES.get(self.prefixes) if isinstance(self.prefixes, str) else self.prefixes


#: What encoders of a family were trained to read in front of texts, as their authors say.
KNOWN_PREFIXES = {
    "none": EncoderPrefixes(),
    "e5": EncoderPrefixes(query="query: ", passage="passage: ", text="query: "),
    "bge": EncoderPrefixes(query="Represent this sentence for searching relevant passages: "),
    "nomic": EncoderPrefixes(query="search_query: ", passage="search_document: ", text="classification: "),
}


class TrainingWishes(Section):
    """How long and how fast a rung shall learn, where the planner shall not decide."""

    epochs: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] = "auto"
    """Passes over the training rows; ``auto`` goes by how many there are. The checkpoint with the best held-out loss is kept."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """The highest learning rate, reached after the warm-up; ``auto`` goes by the method and the width of the model."""


class AdapterWishes(TrainingWishes):
    """How adapters (``lora``, ``qlora``) shall be made, where the planner shall not decide."""

    rank: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """The rank; ``auto`` gives as many weights as there are answer tokens to learn."""
    alpha: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """What the adapter is scaled by, with the rank; ``auto`` is 32."""
    targets: tuple[str, ...] | Literal["auto"] = "auto"
    """The linear layers that are adapted, by name; ``auto`` is all of them."""
    rslora: bool = False
    """Scales by alpha / √rank instead of alpha / rank."""


class GroundingWishes(Section):
    """What finds the passages that ``grounding`` quotes, where it is not to be words and the installed encoder."""

    encoder: str | None = Field(default=None, min_length=1, max_length=200)
    """An approved release of kind ``rank`` that finds them, with what it tuned: its alias (``acme/search``) or its digest. An alias stands
    for the release that answers when the objective is submitted and planned; the plan and the release name it by digest."""


class EndpointWishes(Section):
    """A model at an endpoint. What is sent there leaves the house: the endpoint is an admin's to register, and each source must name it
    among its ``processors``."""

    endpoint: Name
    """The endpoint, as an admin has registered it for the tenant: ``tailorbird endpoint list``."""
    model: str = Field(min_length=1, max_length=200)
    """The model, as the endpoint's server names it."""
    reported: str | None = Field(default=None, max_length=200)
    """The name under which the server answers, where that is neither ``model`` nor a version of it."""


#: How a hosted model is asked.
HostedVariant = Literal["zero-shot", "few-shot", "grounded"]


class HostedWishes(EndpointWishes):
    """A hosted model that is measured on the same items as everything else (rung ``hosted``). Its data leave the house: the endpoint is an
    admin's to register, and each source must name it among its ``processors``."""

    variants: Annotated[tuple[HostedVariant, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """How it is asked: ``zero-shot``, ``few-shot``, ``grounded`` (with passages of the objective's documents, which leave the house too).
    ``auto``: the first two, and ``grounded`` where the ladder tries ``grounding``."""


class PromptSearchWishes(Section):
    """How long a prompt is searched (rung ``prompt-search``)."""

    calls: Annotated[int, Field(ge=50, le=100_000)] | Literal["auto"] = "auto"
    """Calls of the base model that a search may make, each the answer to one held-out training row; ``auto`` is 800."""


class SplitPolicy(Section):
    """Which rows stand for a world that has moved on: none of them is learned from, a part of dev and of test is made of them, and limits
    named ``shift`` are measured on them. What belongs to it is decided when the objective's first snapshot is made, and stays."""

    by: str = Field(min_length=1)
    """The column that every source has: when a row was written (a date, a time, a year), or whose it is (a source, a customer, a site)."""
    kind: Literal["auto", "time", "value"] = "auto"
    """``time``: the newest rows are the shifted part; ``value``: all rows of some values are. ``auto``: ``time`` where nine of ten cells
    are dates, times or years."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """About what share of the rows the shifted part gets, where neither ``since`` nor ``values`` says what it is."""
    since: str | date | None = None
    """Rows of this time and later are the shifted part."""
    values: tuple[str, ...] = ()
    """Rows with one of these values are the shifted part."""


def year(given: Any) -> Any:
    """A year is written without quotes as often as with them."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) and 1000 <= given <= 9999 else given


def or_year(schema: dict[str, Any]) -> None:
    """A year is a whole number to editors."""
    schema["anyOf"] = [*schema["anyOf"], {"type": "integer", "minimum": 1000, "maximum": 9999}]


def switch(given: Any) -> Any:
    """``on`` and ``off`` in quotes, as ``on`` and ``off`` without, which YAML 1.1 reads as true and false."""
    return given == "on" if given in ("on", "off") else given


def or_switch(schema: dict[str, Any]) -> None:
    """``on`` and ``off`` are texts to editors that read YAML 1.2."""
    schema["anyOf"] = [{"type": schema.pop("type")}, {"enum": ["on", "off"]}]


def label(given: Any) -> Any:
    """A label that is a whole number, as the text that stands in the data."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def or_number(schema: dict[str, Any]) -> None:
    """Labels may be written as whole numbers."""
    schema["items"] = {"anyOf": [schema["items"], {"type": "integer"}]}


#: How a text begins that somebody must still write: an objective that holds one is refused.
FILL_IN = "FILL IN"
#: What only people know of their data, by the key of a source; each text is refused until somebody has written what it asks for.
TO_FILL_IN = {
    "origin": f"{FILL_IN}: whose data it is",
    "license": f"{FILL_IN}: on what terms it may be used",
    "consent": f"{FILL_IN}: what the people behind it agreed to",
}


class RiskTier(StrEnum):
    """How much proof and how many people a release needs."""

    MINIMAL = "minimal"
    LIMITED = "limited"
    HIGH = "high"

    @property
    def confidence(self) -> float:
        """Two-sided confidence of the gate's intervals."""
        return {RiskTier.MINIMAL: 0.80, RiskTier.LIMITED: 0.90, RiskTier.HIGH: 0.95}[self]


class TaskKind(StrEnum):
    """What the model is asked to do."""

    CLASSIFY = "classify"
    GENERATE = "generate"
    RANK = "rank"


class Business(Section):
    """Why the objective exists and who answers for it."""

    goal: str = Field(min_length=1)
    """What shall be better, and for whom, in a sentence."""
    owner: str = Field(min_length=1)
    """The person or team that answers for it."""
    risk: RiskTier
    """How much harm a wrong answer can do. Decides how sure the proof must be, and how many people must agree."""
    use: Literal["research", "internal", "commercial", "distributed"] = "commercial"
    """What the result is for; the licences of the data must allow it: ``research`` only, ``internal`` work of the organisation,
    ``commercial`` service to others, or a model that is ``distributed`` to others."""


class AnswerFormat(Section):
    """What a generated answer must look like to be usable."""

    json_keys: tuple[str, ...] | None = None
    """The answer is one JSON object that has these keys; an empty list: any JSON object."""
    pattern: str | None = None
    """A regular expression that the whole answer matches, in the syntax of RE2: no backreferences, no lookaround."""


class Task(Section):
    """The task put to the model."""

    kind: TaskKind
    """What it answers with: ``classify`` with labels, ``generate`` with a text, ``rank`` with documents in order."""
    labels: Literal["one", "many"] = "one"
    """How many labels an item has when classifying: exactly ``one``, or any number, with none among them (``many``)."""
    label_order: tuple[Annotated[str, BeforeValidator(label)], ...] = Field(default=(), json_schema_extra=or_number)
    """The labels from the lowest to the highest, where they are levels (``labels: one``): ``ordinal_score`` and ``within_one`` are measured
    by how many levels an answer is off."""
    instruction: str = Field(min_length=1)
    """What the model is told to do, in a sentence."""
    format: AnswerFormat | None = None
    """What a generated answer must look like: the metric ``format_valid`` is the share of answers that do."""
    learn: Literal["last", "all"] = "last"
    """What is learned of a conversation (``messages``), and measured: the ``last`` answer of the assistant, or ``all`` of them, each
    an item of its own."""
    out_of_scope: ScopePolicy | None = None
    """How many requests that a label fits may be refused, so that those which none fits are not labelled (kind: classify, labels: one)."""
    thinking: Annotated[bool, BeforeValidator(switch)] = Field(default=False, json_schema_extra=or_switch)
    """Whether the model reasons before it answers (kind: generate), the same in training, measuring and serving: ``on`` or ``off``. On:
    reasoning in rows is learned, and what the model writes of it is no part of its answer. Off: it is left out of rows."""
    learn_tool_calls: Annotated[bool, BeforeValidator(switch)] = Field(default=True, json_schema_extra=or_switch)
    """Whether calls of functions are learned like answers: ``on`` or ``off``. Off: with ``learn: all`` they are read and not learned, and
    conversations that end with a call are not learned from. Definitions and results of tools are never learned."""


class GeneratedBy(Section):
    """The hosted model that has labelled or written rows, and when: ``tailorbird data annotate`` writes this section."""

    endpoint: Name
    """The endpoint that was asked."""
    model: str = Field(min_length=1, max_length=200)
    """The model, as its server named it."""
    at: AwareDatetime
    """When it was asked: an endpoint that was shown the objective's test before may not teach it."""


class DataOrigin(Section):
    """Where rows come from and on what terms they may be used."""

    origin: str = Field(min_length=1)
    """Whose data it is."""
    license: str = Field(min_length=1)
    """On what terms it may be used; an SPDX name where there is one."""
    collected: Annotated[str | date, BeforeValidator(year), Field(json_schema_extra=or_year)] = "unknown"
    """When it was collected: a day, a month or a year."""
    consent: str = "unknown"
    """Whether, and to what, the people behind it agreed."""
    retain_until: date | None = None
    """The last day on which the rows may be kept: snapshots made after it are made without them."""
    authors: tuple[Name, ...] = ()
    """Identities of the tenant that collected, wrote or labelled it. At the high tier they decide on no release that learned from it."""
    processors: tuple[Name, ...] = ()
    """Endpoints (``hosted``, ``teacher``) that it may be sent to on these terms; without any, it does not leave the house."""
    generated: GeneratedBy | None = None
    """Which model has labelled or written the rows, where one has. They are learned from (``split: train``), and never measured on."""


class TermColumns(Section):
    """Columns that state a row's own terms, where they differ from row to row. An empty cell leaves what ``source`` says."""

    license: str | None = None
    """The column with the licence."""
    collected: str | None = None
    """The column with the day or the year of collection."""
    consent: str | None = None
    """The column with what the person agreed to."""
    retain_until: str | None = None
    """The column with the last day on which the row may be kept, as YYYY-MM-DD."""


class DataSource(Section):
    """Rows in a file, a folder or at an address, and which of the columns mean what."""

    path: str = Field(min_length=1)
    """A .csv, .tsv, .json, .jsonl or .parquet file, or a folder of LABEL/NAME.txt, relative to this file; or its address (s3://, gs://,
    az://, https://); or hf://datasets/OWNER/NAME[:CONFIG/SPLIT]."""
    encoding: str = Field(default="utf-8", pattern=r"^[A-Za-z0-9_.:-]{1,40}$")
    """How the letters of a text file are written: utf-8, utf-16, cp1252, latin-1; ``tailorbird data inspect`` tells what it looks like."""
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands between the cells of a .csv or .tsv file, where it is no comma or tab: ";" or "|"."""
    text: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=20)] = "text"
    """The column with the text that the model is given; or a list of columns, whose texts are joined, a blank line between them."""
    label: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] = "label"
    """The column with the label (classify) or the answer (generate). Several labels are a list, or a text with | between them; or this is
    a list of columns (classify): each is a label, which a row has where its cell is 1 or true, and has not where it is 0 or false."""
    id: str = "id"
    """The column that ``qrels`` knows a query by (rank)."""
    qrels: str | None = None
    """A file of judgements (rank): query, document and grade in columns, with the names of queries and documents. Without it the label
    column holds the relevant documents."""
    subject: str | None = None
    """The column that names the person a row is about: rows of one person stay in one split, and are found when the person is erased. The
    snapshot holds a keyed pseudonym in its place."""
    messages: str | None = None
    """Instead of ``text`` and ``label``, when generating: the column with a conversation, a list of {role, content}. What the assistant
    said last is the answer, what was said before it is what the model is given. Turns may hold ``tool_calls``, and turns of the role
    ``tool`` answer them."""
    tools: str | None = None
    """The column with the functions that a conversation of ``messages`` offers: a list of function definitions (name, description,
    parameters), or its JSON text. Without it no tools are offered, and a conversation that calls one is set aside."""
    split: Literal["train", "dev", "test"] | None = None
    """Puts every row of this source into one split: for data that came with an official test set."""
    split_column: str | None = None
    """The column that says whether a row is of train, dev (validation) or test: dev and test keep theirs. Where no row is of dev, or none
    of test, those of train are drawn for it."""
    out_of_scope: bool = False
    """None of the labels fits any of its texts (``task.out_of_scope``): it needs no label column."""
    shared: bool = False
    """In an objective for many tenants (`tenant: "{tenant}"`): every tenant learns from these rows. Any other source lies at a place of the
    tenant's own, with `{tenant}` in its path."""
    source: DataOrigin
    """What an auditor will ask for: whose data, on what terms."""
    terms: TermColumns = TermColumns()
    """Columns that state a row's own terms, where they differ from row to row."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of the text."""
        return (self.text,) if isinstance(self.text, str) else self.text


class DocumentSource(Section):
    """Documents in a file or a folder: what ``kind: rank`` orders, and what ``grounding`` takes its passages from."""

    path: str = Field(min_length=1)
    """A .jsonl, .csv or .parquet file, or a folder of .txt and .md files, relative to this file; or its address."""
    id: str = "id"
    """The column with the name by which a document is told."""
    title: str | None = None
    """The column with its title, where there is one."""
    text: str = "text"
    """The column with its text."""
    access: str | None = None
    """The column with the groups that may read it: a list, or a text with | between them. Without it, everybody may."""
    subject: str | None = None
    """The column that names the person a document is about: it is found, with its passages, when the person is erased. The snapshot holds
    a keyed pseudonym in its place."""
    shared: bool = False
    """In an objective for many tenants (`tenant: "{tenant}"`): every tenant's answers may be taken from these documents."""
    source: DataOrigin
    """What an auditor will ask for: whose documents, on what terms."""


class TeacherWishes(Section):
    """A hosted model that labels texts for ``tailorbird data annotate``; what it labelled is a source of its own then."""

    endpoint: Name
    """The endpoint, as an admin has registered it for the tenant."""
    model: str = Field(min_length=1, max_length=200)
    """The model, as the endpoint's server names it."""
    path: str = Field(min_length=1)
    """The file with texts that have no label: as ``path`` of ``data``."""
    text: str = "text"
    """The column with the text."""
    source: DataOrigin
    """Whose texts, on what terms: ``processors`` must name the endpoint."""


class Kpi(Section):
    """A metric and the value it must be proven to reach."""

    metric: str
    """The metric; some are of one label, which stands in brackets: ``recall[refund]``."""
    target: float
    """The value that the lower end of the interval must reach (where less is better, as for log_loss: the upper end must stay below)."""
    because: str = ""
    """Why this value."""


class LiveKpi(Section):
    """What users must say of a release's answers before all of them get it."""

    metric: Literal["csat", "thumbs", "outcome"]
    """A share of what users said: ``thumbs`` that are up, marks of satisfaction (``csat``) of 4 or 5 of 5, ``outcome`` that was good."""
    target: Annotated[float, Field(gt=0, lt=1)]
    """The share that must be proven during the rollout, by an interval that holds however often one looks."""
    because: str = ""
    """Why this value."""


class MaxDrop(Section):
    """The largest tolerated loss against the base model, as a share."""

    max_drop: Annotated[float, Field(ge=0, le=1)]
    """A share of what the base model could do before."""


class MaxShift(Section):
    """How much worse a candidate may be on the shifted part of the data (``split``) than on the rest."""

    max_drop: Annotated[float, Field(ge=0, le=1)]
    """The largest drop of the metric that rungs are compared by, in that metric's unit: the upper end of the drop's interval must stay
    within it."""


class MaxExtractable(Section):
    """How many planted or private strings may be extracted from the candidate."""

    max_extractable: Annotated[int, Field(ge=0)]
    """A number of strings."""


class LatencyLimit(Section):
    """95th percentile of an answer's latency in milliseconds, at a stated concurrency."""

    at_concurrency: Annotated[int, Field(ge=1, le=1024)] = 1
    """How many requests are under way at once."""
    max: Annotated[float, Field(gt=0)]
    """Milliseconds."""


class CostLimit(Section):
    """What 1,000 requests may cost."""

    max: Annotated[float, Field(ge=0)]
    """An amount of money."""
    currency: str = "EUR"
    """Its currency."""


class Limits(Section):
    """Bounds on a candidate at the gate; each is optional."""

    retention: MaxDrop | None = None
    """How much of what the base model could do may be lost."""
    memorisation: MaxExtractable | None = None
    """How much of the training data may be extracted."""
    latency_p95_ms: LatencyLimit | None = None
    """How long 95 of 100 answers may take."""
    cost_per_1k_requests: CostLimit | None = None
    """What answers may cost."""
    shift: MaxShift | None = None
    """How much worse answers may be where the data have shifted; needs ``split``."""

    @property
    def serving(self) -> dict[str, float]:
        """Limits on what answering takes on its machine, by the names of their metrics."""
        return {name: limit.max for name in ("latency_p95_ms", "cost_per_1k_requests") if (limit := getattr(self, name)) is not None}


class Referral(Section):
    """Which answers are left to people: those that a classifying model is not sure enough of, or those with which a generating one hands
    the conversation over."""

    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    """``kind: classify``: the largest share of wrong answers among those that are given. The probability below which an item is referred is
    calibrated on dev."""
    pattern: str | None = Field(default=None, min_length=1, max_length=2000)
    """``kind: generate``: a regular expression (RE2). An answer in which it occurs hands the conversation over to a person."""


class RuleException(Section):
    """A rule of the risk tier that is not followed, who decided that, and why. It is shown wherever the release is judged."""

    rule: Literal["referral", "label_review", "effect"]
    """``referral``: no answer is left to people; ``label_review``: nobody judges answers before staging; ``effect``: no proof of effect."""
    by: str = Field(min_length=1, max_length=200)
    """Who decided it, by name or office."""
    because: str = Field(min_length=1, max_length=2000)
    """Why the rule can be left out here, and what stands in its place."""


class ExpectedTraffic(Section):
    """How much the result will be asked. What answering costs over this time counts beside what making it costs: the ladder stands in the
    order of both together, and of two that tie the cheaper one in all wins."""

    per_month: Annotated[int, Field(ge=0, le=10**12)] = 10_000
    """Requests a month."""
    horizon_months: Annotated[float, Field(gt=0, le=600)] = 12.0
    """Months over which they are counted."""

    @property
    def requests(self) -> float:
        """All requests over the horizon."""
        return self.per_month * self.horizon_months


class Budget(Section):
    """What adapting may cost in all: money, hours of this machine, GiB of memory."""

    money: Annotated[float, Field(ge=0)] = 5.0
    """An amount of money."""
    currency: str = "EUR"
    """Its currency."""
    hours: Annotated[float, Field(gt=0)] = 1.0
    """Hours of this machine."""
    memory_gb: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """GiB that the whole process may take, the interpreter and its libraries included; ``auto`` is what the machine leaves it. A rung that
    is planned to take more is left out; one that takes more ends there."""


class Objective(Section):
    """One job for a language model, and what "good enough" means for it."""

    name: Name
    """Its name; with the tenant's, the public name of the result: ``acme/support-desk``."""
    tenant: Name
    """The organisation or team it belongs to; or `"{tenant}"`, in quotes: the file is for many tenants, and in each of its texts `{tenant}`
    is the name of the one that it is read for."""
    business: Business
    """Why it exists and who answers for it."""
    task: Task
    """What the model is asked to do."""
    data: Annotated[tuple[DataSource, ...], Field(min_length=1)]
    """What it learns from and is measured on."""
    split: SplitPolicy | None = None
    """Which rows are kept from learning, to measure how a candidate does where the data have shifted."""
    split_seed: Annotated[str, Field(max_length=100)] = ""
    """What decides, with a row's text, whether it is drawn into train, dev or test. Default: the name. Where it is written, renaming the
    objective keeps the splits."""
    curation: CurationPolicy = CurationPolicy()
    """What is done with duplicates, personal data and poor rows before the data are split."""
    documents: tuple[DocumentSource, ...] = ()
    """The documents that answers are found in: those that ``kind: rank`` orders, those that ``grounding`` quotes."""
    grounding: GroundingWishes = GroundingWishes()
    """What finds the passages that ``grounding`` quotes: a released ranking."""
    hosted: HostedWishes | None = None
    """A hosted model to measure beside the others: the rung ``hosted``."""
    prompt_search: PromptSearchWishes = PromptSearchWishes()
    """How long a prompt is searched: the rung ``prompt-search``."""
    teacher: TeacherWishes | None = None
    """A hosted model that labels texts to learn from."""
    base_model: str = "smollm2-135m"
    """The model to start from: a name in the catalogue, a local folder or .gguf file, or hf://OWNER/NAME[@REVISION]."""
    base_models: tuple[str, ...] = ()
    """Instead of ``base_model``: several models to start from. The ladder holds the rungs of each, in the order of their cost."""
    chat_template: str | None = Field(default=None, min_length=1, max_length=200)
    """How conversations are laid out for the base model, in place of its own chat template: plain, alpaca, chatml or llama3; or a .jinja
    file, relative to this file. A base model that has none is given the plain one."""
    kpis: Annotated[tuple[Kpi, ...], Field(min_length=1)]
    """What "good enough" means: every target must be proven."""
    live_kpis: tuple[LiveKpi, ...] = ()
    """What users must say of the answers in a rollout before it may go to all of them."""
    limits: Limits = Limits()
    """Bounds that hold whatever the quality."""
    referral: Referral | None = None
    """Which answers are left to people; without it, every item is answered."""
    compare_on: str | None = None
    """The metric in which rungs are compared with each other and a candidate with the release that answers now. Default: the first KPI
    whose dev and test items can prove the margin."""
    margin: Annotated[float, Field(ge=0)] | dict[str, Annotated[float, Field(ge=0)]] = 0.02
    """How much better a costlier way to adapt must be to be worth it, in the unit of `compare_on` (without it, of the first KPI); or a
    margin for each metric, by its name. Where nothing is said: 0.02 of a share, 0.05 nats of log_loss, 0.04 of brier."""
    budget: Budget = Budget()
    """What finding the answer may cost in all."""
    traffic: ExpectedTraffic | None = None
    """How much the result will be asked; without it, 10,000 requests a month over 12 months are assumed, and the plan says so."""
    ladder: Literal["auto"] | tuple[RungKind, ...] = "auto"
    """Which ways to adapt may be tried: ``auto``, from the cheapest up as far as needed, or a list. Of a classify task ``auto`` begins with
    the ``floor``; a list that does not name the floor has it measured for reference."""
    floor: FloorWishes = FloorWishes()
    """What becomes of the floor (kind: classify): ``reference`` (measured, never released), or a section."""
    encoder: EncoderWishes = EncoderWishes()
    """Which encoder makes vectors, and what of it is tuned: the rung ``encoder``."""
    lora: AdapterWishes = AdapterWishes()
    """How adapters shall be made, where the planner shall not decide."""
    full: TrainingWishes = TrainingWishes()
    """How all weights shall be trained, where the planner shall not decide."""
    exceptions: tuple[RuleException, ...] = ()
    """Rules of the tier ``high`` that are not followed: each by name, with who decided it and why."""
    approvals: Literal["auto"] | tuple[str, ...] = "auto"
    """Who must agree before users see it: ``auto``, what the risk tier asks for, or a list of roles."""
    seed: int = 20
    """The seed of everything that is drawn at random."""

    def excepts(self, rule: str) -> bool:
        """True when an exception from ``rule`` is named."""
        return any(exception.rule == rule for exception in self.exceptions)

    @property
    def drawn_by(self) -> str:
        """What rows are drawn into splits by."""
        return self.split_seed or self.name

    @property
    def expected_traffic(self) -> ExpectedTraffic:
        """What the objective says of its traffic, or what is assumed."""
        return self.traffic or ExpectedTraffic()

    @property
    def bases(self) -> tuple[str, ...]:
        """The models to start from, as they are named."""
        return self.base_models or (self.base_model,)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that the objective names, to start from or to make vectors."""
        return self.bases if self.encoder.model == "auto" else (*self.bases, self.encoder.model)

    @property
    def places(self) -> tuple[str, ...]:
        """Every file, folder and address that the objective names for its data."""
        data = [place for source in self.data for place in (source.path, source.qrels) if place]
        return (*data, *(source.path for source in self.documents), *(each.path for each in self.curation.protected))

    @property
    def releases_floor(self) -> bool:
        """True when the floor is the lowest rung: it may then be chosen and released."""
        competes = self.task.kind is TaskKind.CLASSIFY and self.floor.role == "rung"
        return competes and (self.ladder == "auto" or RungKind.FLOOR in self.ladder)

    @property
    def data_authors(self) -> frozenset[Name]:
        """Identities that made any of the data or of the documents."""
        origins = [source.source for source in self.data] + [source.source for source in self.documents]
        return frozenset(name for origin in origins for name in origin.authors)
