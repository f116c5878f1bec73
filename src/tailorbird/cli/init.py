"""``tailorbird init``: from an empty folder to a workspace with people in it, and to an objective for a file of data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import settings
from tailorbird.cli.invocation import command, shared_options
from tailorbird.cli.session import answer, err, new_session, print_table, say
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.objective import RiskTier
from tailorbird.objective import OBJECTIVE_FILE, TASKS, TEMPLATES, ProvidedFacts, TaskName, write_objective, write_template
from tailorbird.reporting.tables import Columns
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.session import create_workspace
from tailorbird.usecases.identities import key_path

init = command()

#: Columns that are named in one line.
_NAMED = 20


@init.command()
def _init(  # noqa: PLR0913 - a parameter is an option of the command line
    tenant: Annotated[str, typer.Option(help="Name of the first tenant: organisation or team. [default: default]")] = "",
    template: Annotated[str, typer.Option(help=f"Also write an example objective: {', '.join(TEMPLATES)}.")] = "",
    data: Annotated[str, typer.Option("--from", help="Also write an objective for this data file, folder or address.")] = "",
    documents: Annotated[str, typer.Option(help="With --from: documents to rank, or to ground answers on.")] = "",
    task: Annotated[str, typer.Option(help=f"With --from: task, where the data leave it open: {', '.join(TASKS)}.")] = "",
    text: Annotated[list[str] | None, typer.Option(help="With --from: text column; given several times, their texts are joined.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="With --from: column of labels, answers or documents; several times: columns of 0 and 1.")
    ] = None,
    origin: Annotated[str, typer.Option(help="With --from: origin of the data.")] = "",
    license: Annotated[str, typer.Option(help="With --from: licence of the data, as SPDX identifier where there is one.")] = "",
    consent: Annotated[str, typer.Option(help="With --from: consent of the data subjects.")] = "",
    collected: Annotated[str, typer.Option(help="With --from: date of collection: day, month or year.")] = "",
    owner: Annotated[str, typer.Option(help="With --from: owner of the objective. [default: the tenant]")] = "",
    risk: Annotated[RiskTier, typer.Option(help="With --from: risk tier of wrong answers.")] = RiskTier.MINIMAL,
    into: Annotated[Path, typer.Option(help="Folder for written files.")] = Path(),
) -> None:
    """Create a workspace: database, artifact store, a tenant, one identity per role with a key each; optionally an objective.

    Idempotent: in an existing workspace, --from and --template add an objective. Facts that only people know (origin, licence, consent) are
    marked FILL IN where they are not given, and plan refuses them.
    """
    session = new_session()
    shared_options().refuse("init", "who", "key")
    session.refuse_server()
    if template and data:
        raise InvalidInput("--template brings data of its own", "give one of --template and --from")
    if task and task not in TASKS:
        raise InvalidInput(f"there is no task {task!r}", f"one of: {', '.join(TASKS)}")
    place = _place(session.workspace, adds=bool(template or data))
    is_new = not (place / "settings.yaml").exists()
    deps, people = create_workspace(place, tenant)
    written = write_template(template, into, deps.host) if template else ()
    if data:
        terms = {"origin": origin, "license": license, "consent": consent, "collected": collected}
        named: list[TaskName] = [known for known in TASKS if known == task]
        kind, texts, labels = named[0] if named else "", tuple(text or ()), tuple(label or ())
        said = ProvidedFacts(task=kind, text=texts, label=labels, owner=owner, risk=risk, terms=terms)
        written = _written(data, documents, into, deps.host, said)
    answer(people)
    if is_new or not written:
        say(f"workspace {place} is ready for tenant {deps.host}; each identity signs with a key of its own:")
        columns: Columns = {"identity": "name", "roles": "roles", "key": lambda person: key_path(deps, deps.host, person.name)}
        print_table(columns, people)
        say("their keys lie together here: until each is with its person, an approval does not prove that a second person agreed")
    for path in written:
        say(f"wrote {path}")
    objective = written[-1] if written else "OBJECTIVE"
    if written and written[-1].name != OBJECTIVE_FILE:
        say(f"{OBJECTIVE_FILE} is there already, and stays: the new objective is {written[-1].name}, with a name that no other here has")
    if not written:
        say("an objective for your data: tailorbird init --from FILE")
    say(f"next: tailorbird plan {objective}, then tailorbird adapt {objective}")


def _place(workspace: Path | None, *, adds: bool) -> Path:
    """The workspace's folder: the one that is named, else, to add an objective, the one here or above, else one that is made here."""
    named = settings.named_workspace(workspace)
    if named is None and adds:
        try:
            return settings.find_workspace(None)
        except NotFound:
            pass
    return named or Path(settings.FOLDER)


def _written(data: str, documents: str, into: Path, tenant: str, said: ProvidedFacts) -> tuple[Path, ...]:
    """Writes an objective for the data, which are named as they are seen from here."""
    from tailorbird.usecases.runs.proposal import ProposalRequest, look_at, propose

    def seen_from_there(name: str) -> str:
        return name if "://" in name or Path(name).is_absolute() or not name else os.path.relpath(name, into.resolve())

    into.mkdir(parents=True, exist_ok=True)
    wanted = ProposalRequest(seen_from_there(data), into.resolve(), tenant, said, seen_from_there(documents))
    with ProgressDisplay(err) as progress:
        seen = look_at(wanted, progress.tell)
        found = propose(wanted, seen, progress.tell)
    written = write_objective(into, found.draft.name, found.text)
    source = found.draft.source
    named = ((key, source[key]) for key in ("messages", "text", "label", "subject", "split_column") if key in source)
    columns = ", ".join(f"{key}: {' + '.join(value) if isinstance(value, tuple) else value}" for key, value in named)
    say(f"{data} looks like a task {found.draft.task}" + (f" ({columns})" if columns else "") + ": look whether that is right")
    for note in (*seen.found.notes, *seen.notes):
        say(f"note: {note}")
    if seen.unused:
        more = f" and {len(seen.unused) - _NAMED:,} more" if len(seen.unused) > _NAMED else ""
        say(f"columns that the objective does not read: {', '.join(repr(name[:40]) for name in seen.unused[:_NAMED])}{more}")
        say(
            "hint: `subject: COLUMN` keeps a person's rows in one split; `split: {by: COLUMN}` tests on newer rows "
            "(docs/howto/splits-and-shifted-data.md)"
        )
    for doubt in found.doubts:
        say(f"note: {doubt}")
    if found.refused is not None:
        say(f"plan will refuse it as it is: {found.refused.message}")
        say(f"hint: {found.refused.hint}")
    if found.open:
        say(f"still to be filled in, under `source` in {written[-1]}: {', '.join(found.open)}")
    return written


apps = {"init": init}
