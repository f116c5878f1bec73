"""Draft of an objective for a data file: filled in from the file, with the rest left for people to fill in.

Nothing is made up: whose data it is, on what terms, and what the people behind it agreed to stand there as they were said, or as a text
that is refused until somebody has written it (``domain.objective.TO_FILL_IN``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from itertools import chain, count
from pathlib import Path
from typing import Literal

import yaml

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import ColumnSeen, Inspection
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.objective import TO_FILL_IN, RiskTier, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.objective.schema import objective_schema
from tailorbird.text.words import nearest

TaskName = Literal["classify", "classify-many", "generate", "chat", "rank"]
#: Kinds of task that may be asked for.
TASKS: tuple[TaskName, ...] = ("classify", "classify-many", "generate", "chat", "rank")
#: A document is named by its text only where nothing else names it.
_LONG_NAME = 40
#: What a metric counts that somebody may not expect, as it stands beside its name.
_METRIC_NOTES = {
    "exact_match": "      # the whole answer is right: capitals, spaces and forms of Unicode do not count",
    "field_score": "      # the share of keys whose value is right, of longer texts by their words; exact_match: the whole object",
}


@dataclass(frozen=True)
class ProvidedFacts:
    """What somebody said of the data and of the task; what is empty is taken from the file, or left to be filled in.

    ``terms`` are values of ``data.source`` by their key. ``text`` and ``label`` name columns: several texts are joined, several labels are
    columns of 0 and 1.
    """

    task: TaskName | Literal[""] = ""
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    goal: str = ""
    owner: str = ""
    risk: RiskTier = RiskTier.MINIMAL
    terms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectiveDraft:
    """An objective but for its KPI. ``source`` and ``documents`` are entries of ``data`` and of ``documents``; ``labels`` counts the labels
    seen, where there are any. ``json_keys`` are the keys that all answers have, where each is a JSON object."""

    name: str
    tenant: str
    task: TaskName
    instruction: str
    said: ProvidedFacts
    file: str
    source: Mapping[str, object]
    documents: Mapping[str, object] | None = None
    labels: int = 0
    json_keys: tuple[str, ...] | None = None

    @property
    def kind(self) -> TaskKind:
        """The kind of task, as an objective writes it."""
        return TaskKind(self.task.partition("-")[0]) if self.task != "chat" else TaskKind.GENERATE


@dataclass(frozen=True)
class ProposedKpi:
    """A metric, a target and why it is this one; ``label`` is the commonest label, for an example of a KPI of one label."""

    metric: str
    target: float
    because: str
    label: str = ""


def draft_objective(
    found: Inspection, said: ProvidedFacts, path: str, tenant: str, documents: tuple[str, Inspection] | None = None
) -> ObjectiveDraft:
    """The draft for the data at ``path`` (as the objective shall name it); ``documents`` are what queries are answered with, or
    answers grounded on: path and inspection.

    Raises InvalidInput where the file does not show what the task is, where a column that was named is not there, or where documents are
    missing.
    """
    columns = {column.name: column for column in found.columns}
    roles = {guess.role: guess.column for guess in found.guesses}
    for key, given in (("text", said.text), ("label", said.label)):
        for column in given:
            if column not in columns:
                raise _no_column(found.name, key, column, list(columns))
    task = said.task or _task(found, said, roles, columns, documents is not None)
    named = _columns(found, said, roles, task)
    told = _sources(found, said, path, named, roles)
    label = named.get("label", "")
    return ObjectiveDraft(
        name=name_of(path),
        tenant=tenant,
        task=task,
        instruction=_instruction(task, named),
        said=said,
        file=found.name,
        source=told,
        documents=_documents(told, columns.get(str(label)), documents) if task == "rank" or _grounds(task, documents) else None,
        labels=_count_labels(label, columns) if task.startswith("classify") else 0,
    )


def _count_labels(label: str | tuple[str, ...], columns: Mapping[str, ColumnSeen]) -> int:
    if isinstance(label, tuple):
        return len(label)
    return columns[label].labels if label in columns else 0


def draft_yaml(draft: ObjectiveDraft, kpi: ProposedKpi) -> str:
    """Objective file as YAML, with comments on what to check."""
    kind, said = draft.kind, draft.said
    goal = said.goal or _goal(draft)
    labels = f"  labels: {'many' if draft.task == 'classify-many' else 'one'}\n" if kind is TaskKind.CLASSIFY else ""
    documents = f"\ndocuments:\n{_entry(draft.documents)}" if draft.documents else ""
    base = "minilm-l6-v2      # an encoder: it turns texts into vectors" if kind is TaskKind.RANK else "smollm2-135m"
    example = _example(kpi) if kpi.label else ""
    return f"""\
# yaml-language-server: $schema=objective.schema.json
# Proposed by tailorbird init --from from what the file looks like. Look whether it is right; replace every text that begins with FILL IN.
#
#     tailorbird plan objective.yaml      what would be tried, what it costs, what your data can prove
#     tailorbird adapt objective.yaml     climb until the targets are proven

name: {draft.name}
split_seed: {draft.name}      # rows are drawn into train, dev and test by this: renaming the objective keeps them where they are
tenant: {draft.tenant}

business:
  goal: {_quoted(goal)}
  owner: {_quoted(said.owner or draft.tenant)}
  risk: {said.risk.value}               # minimal | limited | high: how sure a proof is (80 | 90 | 95 %), and how many must agree

task:
  kind: {kind.value}
{labels}  instruction: {_quoted(draft.instruction)}
{_learn(draft)}{_form_of_answers(draft)}{_scope_example(draft)}
data:
{_entry(draft.source)}{documents}
base_model: {base}

# A target counts as reached when its interval's lower end reaches it, at {said.risk.confidence:.0%} confidence (risk: {said.risk.value}).
kpis:
  - metric: {kpi.metric}{_METRIC_NOTES.get(kpi.metric, "")}
    target: {kpi.target:.2f}
    because: {_quoted(kpi.because)}
{example}
# limits:
#   latency_p95_ms: {{at_concurrency: 1, max: 2000}}
#   cost_per_1k_requests: {{max: 0.40, currency: EUR}}

traffic: {{per_month: 10000, horizon_months: 12}}     # what answering costs counts too: say how much it will be asked
margin: 0.02                  # how much better a costlier way to adapt must be to be worth it
budget: {{money: 5, currency: EUR, hours: 1, memory_gb: auto}}
ladder: auto
approvals: auto
"""


def _task(found: Inspection, said: ProvidedFacts, roles: Mapping[str, str], columns: Mapping[str, ColumnSeen], documents: bool) -> TaskName:
    if documents and "messages" not in roles:
        return "rank"
    if len(said.label) > 1:
        return _of_flags([columns[name] for name in said.label])
    label = columns[said.label[0]] if said.label else None
    if label is not None and "messages" not in roles:
        fits = label.may_hold_labels(named=True)
    elif found.kind == "folder":
        return "classify"
    elif "messages" in roles:
        return "chat"
    elif found.task in ("generate", "rank"):
        return "generate" if found.task == "generate" else "rank"
    elif found.task == "classify" or (said.text and roles.get("label", said.text[0]) not in said.text):
        label, fits = columns[roles["label"]], True
    else:
        hint = "say what its columns are for: --text COLUMN --label COLUMN, and which task it is: --task " + " | ".join(TASKS)
        hint = "; ".join((*found.notes, hint))
        raise InvalidInput(f"{found.name} does not show what it is for: {_listed(list(columns))}", hint)
    if not fits:
        return "generate"
    return "classify-many" if label.holds_several else "classify"


def _of_flags(columns: Sequence[ColumnSeen]) -> TaskName:
    """Raises InvalidInput where one of several columns of labels holds more than 0 and 1."""
    wrong = next((column for column in columns if not column.flags), None)
    if wrong is not None:
        hint = "name the one column of labels; or write what applies to a row into one column, with | between"
        raise InvalidInput(f"{wrong.name[:40]!r} is no column of 0 and 1, and one of several of labels", hint)
    return "classify-many"


def _grounds(task: TaskName, documents: tuple[str, Inspection] | None) -> bool:
    """True where documents were named for answers to be grounded on."""
    return documents is not None and task in ("generate", "chat")


def _columns(found: Inspection, said: ProvidedFacts, roles: Mapping[str, str], task: TaskName) -> dict[str, str | tuple[str, ...]]:
    """The columns by the key under which a source names them. Raises InvalidInput where one is missing."""
    if found.kind == "folder":
        return {}
    if task == "chat":
        if "messages" not in roles:
            raise InvalidInput(f"{found.name} has no column of turns", "use --task generate with --text and --label")
        return {key: roles[key] for key in ("messages", "tools") if key in roles}
    answers = {"generate": ("answer", "label"), "rank": ("relevant", "label", "answer")}.get(task, ("label",))
    texts = said.text or tuple(roles[role] for role in ("text",) if role in roles and roles[role] not in said.label)
    labels = said.label or next(((roles[role],) for role in answers if role in roles and roles[role] not in texts), ())
    missing = [key for key, columns in (("text", texts), ("label", labels)) if not columns]
    if missing:
        hint = f"name it: --{missing[0]} COLUMN; the file has: {_listed([column.name for column in found.columns])}"
        if task == "rank":
            hint += "; where judgements lie in a file of their own, write `id` and `qrels` into the objective (docs/reference/objective.md)"
        hint = "; ".join((*found.notes, hint))
        raise InvalidInput(f"{found.name} does not show which column is the {missing[0]} of a task {task}", hint)
    return {"text": _one_or_all(texts), "label": _one_or_all(labels)}


def _one_or_all(columns: tuple[str, ...]) -> str | tuple[str, ...]:
    return columns[0] if len(columns) == 1 else columns


def _sources(
    found: Inspection, said: ProvidedFacts, path: str, named: Mapping[str, str | tuple[str, ...]], roles: Mapping[str, str]
) -> dict[str, object]:
    """The entry of ``data``: the columns are those of the task."""
    used = {column for each in named.values() for column in ((each,) if isinstance(each, str) else each if isinstance(each, tuple) else ())}
    more = (("subject", "subject"), ("split", "split_column")) if found.kind != "folder" else ()
    extra = {key: roles[role] for role, key in more if role in roles and roles[role] not in used}
    terms = {key: column for key, column in found.terms.items() if column not in used}
    stated = TO_FILL_IN | {key: value for key, value in said.terms.items() if value}
    return {"path": path, **found.form, **named, **extra, **({"terms": terms} if terms else {}), "source": stated}


def _documents(source: Mapping[str, object], relevant: ColumnSeen | None, given: tuple[str, Inspection] | None) -> dict[str, object]:
    """The entry of ``documents``: the file that was named, or, where each query stands beside the passage that answers it, that column."""
    if given is None:
        if relevant is None or relevant.mean_length < _LONG_NAME or relevant.kind != "text":
            raise InvalidInput("ranking needs the documents that are to be ranked", "name them: --documents FILE")
        form = {key: source[key] for key in ("encoding", "separator") if key in source}
        if form:
            hint = "save it as UTF-8 with commas, or give the passages in a file of their own: --documents FILE"
            raise InvalidInput("documents are read from UTF-8 files with commas alone", hint)
        return {"path": source["path"], "id": relevant.name, "text": relevant.name, "source": source["source"]}
    path, found = given
    if found.kind == "folder":
        return {"path": path, "source": source["source"]}
    roles = {guess.role: guess.column for guess in found.guesses}
    texts = [column for column in found.columns if column.kind == "text"]
    text = roles.get("text") or max(texts, key=lambda column: column.mean_length).name if texts else ""
    name = next((roles[role] for role in ("id", "relevant", "title") if role in roles and roles[role] != text), text)
    if not text:
        raise InvalidInput(f"{found.name} has no column of texts", "give documents with a text each")
    title = {"title": roles["title"]} if "title" in roles and roles["title"] != text else {}
    return {"path": path, "id": name, **title, "text": text, "source": source["source"]}


def _goal(draft: ObjectiveDraft) -> str:
    file = draft.file
    if draft.kind is TaskKind.CLASSIFY:
        which = f"one of its {draft.labels:,} labels" if draft.labels else "one of its labels"
        which = "each of its labels that applies" if draft.task == "classify-many" else which
        return f"Give each text like those in {file} {which}."
    if draft.kind is TaskKind.RANK:
        return f"Find the documents that answer a query like those in {file}."
    return f"Answer what people write as in {file}."


def _instruction(task: TaskName, named: Mapping[str, str | tuple[str, ...]]) -> str:
    text = named.get("text", "")
    parts = f" The text is {' and '.join(text)}, with a blank line between." if isinstance(text, tuple) else ""
    return _asked_for(task, named.get("label", "")) + parts


def _asked_for(task: TaskName, label: str | tuple[str, ...]) -> str:
    label = label if isinstance(label, str) else ""
    plain = label.replace("_", " ") if re.fullmatch(r"[A-Za-z][A-Za-z _]{1,30}", label) else ""
    if task == "classify":
        return f"Classify the text: answer with its {plain or 'label'}."
    if task == "classify-many":
        return f"Name every label ({plain}) that applies to the text." if plain else "Name every label that applies to the text."
    if task == "rank":
        return "Rank the documents by how well they answer the query."
    return "Answer the user." if task == "chat" else f"Write the {plain or 'answer'} to the text."


def _learn(draft: ObjectiveDraft) -> str:
    """Which answers of a conversation count."""
    return (
        "  learn: all                # every answer of the assistant is learned and tested; last: the last of each conversation\n"
        if draft.task == "chat"
        else ""
    )


def _form_of_answers(draft: ObjectiveDraft) -> str:
    if draft.json_keys is None:
        return ""
    return f"  format: {{json_keys: [{', '.join(map(_quoted, draft.json_keys))}]}}     # an answer is a JSON object with these keys\n"


def _scope_example(draft: ObjectiveDraft) -> str:
    """What refuses requests that no label fits, to be taken up."""
    refused = "  # out_of_scope: {refuse_known_at_most: 0.05}     # give no label to what none of them fits\n"
    return refused if draft.task == "classify" else ""


def _example(kpi: ProposedKpi) -> str:
    """A KPI of one label, to be taken up."""
    metric = _quoted(f"recall[{kpi.label}]")
    return f"  # - metric: {metric}\n  #   target: 0.50\n  #   because: what it costs when one of them is missed\n"


def _entry(values: Mapping[str, object] | None) -> str:
    """A mapping as the one entry of a list, its texts in quotes."""
    lines = []
    for key, value in (values or {}).items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {inner}: {_quoted(str(text))}" for inner, text in value.items())]
        elif isinstance(value, tuple):
            lines.append(f"{key}: [{', '.join(map(_quoted, value))}]")
        else:
            lines.append(f"{key}: {_quoted(str(value))}")
    return "".join(f"  {'- ' if not place else '  '}{line}\n" for place, line in enumerate(lines))


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=1_000_000).strip()


def name_of(path: str) -> str:
    """A name for the objective, from that of its file or folder."""
    stem = re.split(r"[/\\]", path.rstrip("/"))[-1].partition("@")[0].partition(":")[0]
    stem = re.sub(r"(\.(csv|tsv|jsonl?|parquet))?(\.gz)?$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9._-]+", "-", stem.casefold()).strip("-._")[:63] or "objective"


def _no_column(file: str, key: str, column: str, columns: list[str]) -> InvalidInput:
    near = nearest(column, columns)
    guess = f"did you mean {near!r}? " if near else ""
    return InvalidInput(f"{file} has no column {column!r} (--{key})", f"{guess}it has: {_listed(columns)}", code="column_missing")


def _listed(columns: list[str]) -> str:
    more = f" and {len(columns) - 30:,} more" if len(columns) > 30 else ""
    return ", ".join(repr(name[:40]) for name in columns[:30]) + more or "no columns"


#: What ``template`` has.
TEMPLATES = ("classify", "classify-many", "generate", "chat", "rank")

OBJECTIVE_FILE = "objective.yaml"
SCHEMA_FILE = "objective.schema.json"

#: What templates say of their data, and nobody else's data may say.
TEMPLATE_ORIGIN = "synthetic, written for the template of tailorbird"

_TENANT = "tenant: default "
#: Commands in the comments of an objective, which name its file.
_COMMANDS = re.compile(rf"^(#  +tailorbird (?:plan|adapt)) {re.escape(OBJECTIVE_FILE)}", re.MULTILINE)
_NAME = re.compile(r"^name: *([a-z0-9][a-z0-9._-]*)", re.MULTILINE)
_OTHER = "write whose data it is, on what terms (`license`) and what the people behind it agreed to (`consent`)"


def template_files(name: str, tenant: str = "default") -> dict[str, str]:
    """The files of the template ``name``: objective (which belongs to ``tenant``), data, and the JSON Schema for editors; path to text.

    Raises InvalidInput when there is no such template.
    """
    if name not in TEMPLATES:
        near = nearest(name, TEMPLATES)
        guess = f"did you mean {near!r}? " if near else ""
        raise InvalidInput(f"there is no template {name!r}", f"{guess}templates: {', '.join(TEMPLATES)}")
    found = _texts(name)
    objective = found[OBJECTIVE_FILE].replace(_TENANT, f"tenant: {tenant} ", 1)
    return found | {OBJECTIVE_FILE: objective, SCHEMA_FILE: _schema()}


def write_template(name: str, folder: Path, tenant: str = "default") -> tuple[Path, ...]:
    """Writes the files of a template into ``folder``, the objective last, and returns their paths. Where there is an objective.yaml, the
    objective is called after the template.

    Raises Conflict when another file with the name of its data is there: then nothing is written. Raises InvalidInput as ``template``.
    """
    texts = template_files(name, tenant)
    own = {inside: text for inside, text in texts.items() if inside not in (OBJECTIVE_FILE, SCHEMA_FILE)}
    for path in (folder / inside for inside in own):
        if (path.exists() or path.is_symlink()) and not _holds(path, own[path.name]):
            raise Conflict(f"{path} exists already", "choose an empty folder, or move the file away")
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / inside for inside in sorted(own)]
    for path in written:
        if not path.exists():
            _write(path, own[path.name])
    return (*written, *write_objective(folder, name, texts[OBJECTIVE_FILE]))


def write_objective(folder: Path, name: str, text: str) -> tuple[Path, Path]:
    """Writes the JSON Schema for editors and the objective ``text`` into ``folder``: as objective.yaml, or, where one is there, under
    ``name``, with a number where that is taken, too. Returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = folder / SCHEMA_FILE
    if not _holds(schema, _schema()) and not schema.is_symlink():
        schema.write_text(_schema(), encoding="utf-8", newline="\n")  # it is ours, perhaps of an earlier version
    text = _named_anew(text, folder)
    for file in chain((OBJECTIVE_FILE, f"{name}.yaml"), (f"{name}-{number}.yaml" for number in count(2))):
        path = folder / file
        try:
            _write(path, _COMMANDS.sub(rf"\1 {file}", text))
        except FileExistsError:
            continue
        return schema, path
    raise AssertionError  # there is always another number


def _named_anew(text: str, folder: Path) -> str:
    """The objective under a name that no other of the folder has: two of one name would be two versions of one product."""
    taken = {
        found[1]
        for path in folder.glob("*.y*ml")
        if path.is_file() and (found := _NAME.search(path.read_text(encoding="utf-8", errors="replace")))
    }
    own = _NAME.search(text)
    if own is None or own[1] not in taken:
        return text
    name = next(free for number in count(2) if (free := f"{own[1]}-{number}") not in taken)
    return f"{text[: own.start(1)]}{name}{text[own.end(1) :]}"


def check_origins(file: ObjectiveFile, digests: Mapping[str, Digest]) -> None:
    """Raises ObjectiveInvalid at the first source that bears the origin of a template and holds other rows: whose they are, on what terms,
    would stand in the evidence as somebody else's. ``digests`` are those of the files, by their path."""
    shipped, objective = _shipped_digests(), file.objective
    named = [(f"data.{index}", source.path, source.source) for index, source in enumerate(objective.data)]
    named += [(f"documents.{index}", source.path, source.source) for index, source in enumerate(objective.documents)]
    faults = [
        Fault(file.line_of(f"{place}.source.origin"), f"{path} holds other rows than the template, and says that it is its data", _OTHER)
        for place, path, origin in named
        if origin.origin == TEMPLATE_ORIGIN and digests.get(path) not in shipped
    ]
    raise_faults(file.source, faults)


@lru_cache(maxsize=1)
def _shipped_digests() -> frozenset[Digest]:
    return frozenset(digest_bytes(text.encode()) for name in TEMPLATES for text in _texts(name).values())


def _texts(name: str) -> dict[str, str]:
    folder = files("tailorbird.objective").joinpath("templates", name)
    return {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)}


def _schema() -> str:
    return json.dumps(objective_schema(), indent=2, ensure_ascii=False) + "\n"


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as out:
        out.write(text)
