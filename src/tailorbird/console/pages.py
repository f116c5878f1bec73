"""The pages: each asks the control plane and fills a template. ``page`` and ``guest_page`` say which call a function answers."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from tailorbird.auth import Action, ConcurrencyLimit
from tailorbird.console import web
from tailorbird.console.web import FIRST_PAGE, Fields, Guest, Paging, Visit, message_of, see_other, value_of_text
from tailorbird.crypto.canonical_json import canonical_json, digest_of, short
from tailorbird.domain.curation import FixAction
from tailorbird.domain.errors import Conflict, Exhausted, InvalidInput, NotFound, TailorbirdError, Unauthenticated
from tailorbird.domain.feedback import Severity
from tailorbird.domain.identity import Login, Signature
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release, ReleaseState, Statement
from tailorbird.domain.rollout import TRANSITIONS, Rollout
from tailorbird.reporting.documents import evidence_markdown, explanation_markdown
from tailorbird.reporting.plan import plan_markdown
from tailorbird.reporting.tables import cell_text, document_html
from tailorbird.usecases import label_review, snapshots
from tailorbird.usecases.feedback import list_reviews, settle_review
from tailorbird.usecases.maintenance.audit import read_log, verify_log
from tailorbird.usecases.monitoring.explain import explain_request
from tailorbird.usecases.monitoring.traffic import list_signals, show_traffic
from tailorbird.usecases.registry import AnyUseCase, validated
from tailorbird.usecases.releases import promotion, release_queries, rollouts
from tailorbird.usecases.runs import queries
from tailorbird.usecases.runs.queries import OPEN, RunStatus
from tailorbird.usecases.runs.record import StoredRun
from tailorbird.usecases.sessions import LoginEntry, end_session
from tailorbird.usecases.snapshots import list_snapshots, show_snapshot

GuestView = Callable[[Guest], Response]
View = Callable[[Visit], Response]

#: Pages for everybody, and pages for whoever has a session: method, path, and what answers. What somebody may see and do there, the
#: control plane says.
_GUEST_PAGES: list[tuple[str, str, GuestView]] = []
_PAGES: list[tuple[str, str, View]] = []

#: Pages that are made at once, of the threads that all pages share; and those of one tenant.
_PAGES_AT_ONCE, _PAGES_EACH = 32, 8
#: Entries of a list on a page; objectives on one, whose lines are long; label errors on one, which take two fields of the form each.
ON_A_PAGE, OBJECTIVES_ON_A_PAGE, LABEL_ERRORS_ON_A_PAGE = 50, 20, 8


_REFUSED = {401: "Log in first", 403: "Not allowed", 404: "Not found", 409: "Not possible now", 503: "Not reachable now"}


def guest_page(method: str, path: str) -> Callable[[GuestView], GuestView]:
    """Declares the page at ``path`` below ``/console`` for everybody."""

    def declare(view: GuestView) -> GuestView:
        _GUEST_PAGES.append((method, path, view))
        return view

    return declare


def page(method: str, path: str) -> Callable[[View], View]:
    """Declares the page at ``path`` below ``/console`` for whoever has a session."""

    def declare(view: View) -> View:
        _PAGES.append((method, path, view))
        return view

    return declare


def console_routes(entry: LoginEntry) -> APIRouter:
    """The console's pages and files, and a page that says so for whatever else is asked for below ``/console``."""
    router = APIRouter(prefix=FIRST_PAGE, include_in_schema=False)
    turns = ConcurrencyLimit(_PAGES_AT_ONCE, _PAGES_EACH, "pages of the console", "pages_at_once")

    def for_guests(view: GuestView) -> Callable[[Request], Awaitable[Response]]:
        return _endpoint(lambda request, form: view(Guest(entry, request, form)))

    def for_actors(view: View) -> Callable[[Request], Awaitable[Response]]:
        def answer(request: Request, form: Fields) -> Response:
            # An error's page, too, knows who is here.
            request.state.actor = web.actor_in(entry.deps, request)
            with turns.turn(request.state.actor.tenant):
                return view(Visit(entry, request, form, request.state.actor))

        return _endpoint(answer)

    for method, path, guest_view in _GUEST_PAGES:
        router.add_api_route(path, for_guests(guest_view), methods=[method])
    for method, path, view in _PAGES:
        router.add_api_route(path, for_actors(view), methods=[method])
    router.add_api_route("/{rest:path}", for_guests(_no_page), methods=["GET", "POST"])
    return router


def _endpoint(answer: Callable[[Request, Fields], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Reads the form of a POST that came from our own page, answers off the event loop, and turns our errors into pages. Who only looked
    without a session is sent to log in first."""

    async def endpoint(request: Request) -> Response:
        path, query = request.url.path, request.url.query
        try:
            form: Fields = {}
            if request.method == "POST":
                web.require_own_page(request)
                form = await web.read_form(request)
            response = await run_in_threadpool(answer, request, form)
        except TailorbirdError as error:
            if isinstance(error, Unauthenticated) and request.method == "GET":
                wanted = f"{path}?{query}" if query else path
                response = see_other(f"/console/login?next={quote(wanted, safe='/')}")
            else:
                actor = getattr(request.state, "actor", None)
                known = {"code": error.error_code, "status": error.status}
                lines = (error.message, f"What to do: {error.hint}")
                message = message_of(_REFUSED.get(error.status, "That did not work"), lines, known, problem=True)
                response = web.filled("message.html", {"actor": actor, "path": path} | message, error.status)
        return web.sealed(response)

    return endpoint


def _no_page(guest: Guest) -> Response:
    if not guest.named("rest"):
        return see_other(FIRST_PAGE)
    raise NotFound("there is no such page", "start from the objectives")


@guest_page("GET", "/static/{name}")
def static(guest: Guest) -> Response:
    """A file of ours."""
    return web.static_file(guest.named("name"))


# Logging in and out


@guest_page("GET", "/login")
def ask_who(guest: Guest) -> Response:
    """The form: tenant, identity, key file."""
    return guest.page("login.html", next=_own(guest.query.get("next", "")), error=None)


@guest_page("POST", "/login/prepare")
def prepare(guest: Guest) -> Response:
    """A fresh login to be signed: its canonical text, which the browser shows and hashes, and the digest it must find. Errors as JSON.

    It is signed for the origin that the browser has before it; whether that is ours is found when the login comes in.
    """
    origin = guest.request.headers.get("origin")
    server = origin if origin is not None else f"{guest.request.url.scheme}://{guest.request.url.netloc}"
    asked = {"tenant": guest.form.get("tenant", ""), "identity": guest.form.get("identity", ""), "server": server}
    try:
        login = validated(Login, asked | {"nonce": secrets.token_hex(16), "at": guest.deps.clock.now()})
    except TailorbirdError as error:
        return JSONResponse(error.as_dict(), error.status)
    return JSONResponse({"text": canonical_json(login).decode(), "digest": digest_of(login)})


@guest_page("POST", "/login")
def log_in(guest: Guest) -> Response:
    """Opens the session of a signed login; one that proves nothing gets the form again, with what is wrong. Raises InvalidInput."""
    login = value_of_text(Login, guest.form.get("signed", ""))
    wanted = _own(guest.form.get("next", ""))
    address = guest.request.client.host if guest.request.client else ""
    try:
        _, secret = guest.entry.open(login, _signature(guest, login.identity, "login", login), address)
    except (Unauthenticated, Exhausted) as error:
        return guest.page("login.html", error.status, next=wanted, error=error)
    response = see_other(wanted)
    web.give_cookie(response, guest.request, secret)
    return response


@guest_page("POST", "/logout")
def log_out(guest: Guest) -> Response:
    """Ends the session, where there is one."""
    response = see_other("/console/login")
    with suppress(Unauthenticated):
        end_session(guest.deps, web.secret_of(guest.request))
    web.give_cookie(response, guest.request, "")
    return response


def _own(path: str) -> str:
    """``path`` when it is one of ours, else the first page: nobody is sent to another site."""
    return path if path == FIRST_PAGE or path.startswith((f"{FIRST_PAGE}/", f"{FIRST_PAGE}?")) else FIRST_PAGE


def _signature(guest: Guest, identity: str, purpose: str, signed: Login | Statement) -> Signature:
    """The signature that the browser made, as the form holds it."""
    sent = {name: guest.form.get(name, "") for name in ("public_key", "signature")}
    return validated(
        Signature, sent | {"identity": identity, "purpose": purpose, "digest": digest_of(signed), "at": guest.deps.clock.now()}
    )


# Objectives and runs


@page("GET", "")
def list_objectives(visit: Visit) -> Response:
    """All objectives, each with its newest run and what answers for it. What runs and aliases name belongs to whoever may see them."""
    heads = visit.ask(queries.list_objectives).objectives
    paging, lines = Paging.of(visit.query, len(heads), OBJECTIVES_ON_A_PAGE), []
    with visit.deps.ledger.work(visit.actor.tenant, write=False) as work:
        for head in paging.cut(heads):
            run, alias = head.run, head.alias
            ladder = StoredRun(work, run, tuple(work.steps.of(run.id))).ladder if run else None
            chosen = next((climb for climb in ladder.measured if climb.candidate == ladder.chosen), None) if ladder else None
            answers = ", ".join(short(target.release) for target in alias.targets) or "withdrawn" if alias else None
            rung = f"{chosen.rung.value} {chosen.variant}" if chosen else None
            lines.append((head.name, work.records.get(Objective, run.objective).business if run else None, run, rung, answers))
    columns = {"Objective": "0", "Goal": "1.goal|prose", "Risk": "1.risk", "Owner": "1.owner", "Newest run": "2.id|run"}
    columns |= {"State": "2.state|badge", "Since": "2.created_at", "Chosen rung": "3", "In production": "4"}
    caption, empty = "Objectives, each with its newest run", "Nothing yet. Write an objective and climb: tailorbird adapt objective.yaml"
    return visit.tables("Objectives", (caption, columns, lines, empty), paging=paging)


@page("GET", "/runs")
def list_runs(visit: Visit) -> Response:
    """Runs, newest first."""
    asked = Paging.of(visit.query, 0, ON_A_PAGE)
    found = visit.ask(queries.list_runs, limit=ON_A_PAGE, skip=asked.skip)
    columns = {"Run": "id|run", "Objective": "objective_name", "State": "state|badge", "Submitted": "created_at", "By": "created_by"}
    table = ("Runs, newest first", columns, found.runs, "No run here. Start one: tailorbird adapt objective.yaml")
    return visit.tables("Runs", table, paging=Paging(found.total, asked.skip, ON_A_PAGE))


@page("GET", "/runs/{run}")
def show_run(visit: Visit) -> Response:
    """One run with its ladder, plan, steps, sealed test and gate. While it is worked on, the page keeps itself up to date."""
    report = visit.ask(queries.show_run, run=visit.named("run"))
    return visit.page(
        "run.html",
        report=report,
        evidence=evidence_markdown(visit.ask(queries.show_evidence, run=report.run.id)),
        plan=plan_markdown(report.plan, report.objective.name) if report.plan else "",
        may_cancel=visit.may(Action.CANCEL_RUN),
        **_progress(visit.ask(queries.show_status, run=report.run.id)),
    )


@page("GET", "/runs/{run}/progress")
def show_progress(visit: Visit) -> Response:
    """The step in hand alone, for a page that is open."""
    return visit.page("_progress.html", **_progress(visit.ask(queries.show_status, run=visit.named("run"))))


def _progress(status: RunStatus) -> dict[str, Any]:
    """A run for a page; its stamp changes whenever more of the page than its progress has changed."""
    return {"status": status, "live": status.run.state in OPEN, "stamp": f"{status.run.state.value} {status.done}"}


@page("GET", "/runs/{run}/evidence")
def show_evidence(visit: Visit) -> Response:
    """The evidence page as a file of its own: it brings its styles along."""
    facts = visit.ask(queries.show_evidence, run=visit.named("run"))
    name = f"evidence-{facts.objective.name}-{facts.run}.html"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(document_html(evidence_markdown(facts)), media_type="text/html", headers=headers)


@page("GET", "/runs/{run}/cancel")
def confirm_cancel(visit: Visit) -> Response:
    """Asks before cancelling."""
    run = visit.ask(queries.show_status, run=visit.named("run")).run
    lines = ("The step in hand ends within a few seconds.", "What is finished stays: adapting again goes on from there.")
    back = f"/console/runs/{run.id}"
    return visit.message(f"Cancel run {run.id} of {run.objective_name}?", lines, button="Cancel the run", back=back)


@page("POST", "/runs/{run}/cancel")
def cancel(visit: Visit) -> Response:
    """Cancels."""
    return see_other(f"/console/runs/{visit.ask(queries.cancel_run, run=visit.named('run')).id}")


# Releases: what they stand on, who decides, and the moves towards production and back


#: Moves of a release that its page offers: the decision's name, the state it takes, who may, what is asked for, and what it means.
_MOVES: dict[str, tuple[str, ReleaseState, Action, AnyUseCase, tuple[str, ...]]] = {
    "stage": (
        "Stage",
        ReleaseState.APPROVED,
        Action.STAGE,
        promotion.stage,
        ("Engines may load it; no user's request reaches it yet.",),
    ),
    "drill": (
        "Drill",
        ReleaseState.STAGED,
        Action.DRILL,
        rollouts.drill_release,
        ("Its staging name is moved to it and back; no user's request is touched. This can take some seconds.",),
    ),
    "rollout": (
        "Roll out",
        ReleaseState.STAGED,
        Action.ROLL_OUT,
        rollouts.start_rollout,
        (
            "The way: requests mirrored, then 5 % of the users, 25 %, 50 %, then production.",
            "Guards watch errors, latency, refusals, form, cost and feedback, and take it back.",
            "Another way, with steps and guards of your own: tailorbird rollout start.",
        ),
    ),
    "promote": (
        "Promote",
        ReleaseState.STAGED,
        Action.PROMOTE,
        promotion.promote,
        (
            "From now on the objective's name answers with this release.",
            "The one it replaces stays loaded for a while, and a rollback brings it back.",
        ),
    ),
}


@page("GET", "/releases")
def list_releases(visit: Visit) -> Response:
    """Releases, newest first."""
    asked = Paging.of(visit.query, 0, ON_A_PAGE)
    found = visit.ask(release_queries.list_releases, limit=ON_A_PAGE, skip=asked.skip)
    columns = {"Release": "digest|release", "Objective": "content.objective_name", "State": "state|badge", "Rung": "content.rung"}
    columns |= {"Gate": "dossier.gate_verdict|badge", "Made": "dossier.created_at", "Author": "content.author", "Run": "content.run|run"}
    table = ("Releases, newest first", columns, found.releases, "No release yet. A candidate that passes the sealed test drafts one.")
    return visit.tables("Releases", table, paging=Paging(found.total, asked.skip, ON_A_PAGE))


@page("GET", "/releases/{digest}")
def show_release(visit: Visit) -> Response:
    """One release, with its card, who decided what, and the decisions and moves that are offered."""
    release = visit.ask(release_queries.show_release, digest=visit.named("digest"))
    quorum, choices = visit.ask(release_queries.show_quorum, digest=release.digest), list[str]()
    if visit.may(Action.APPROVE) and release.state in (ReleaseState.GATED, ReleaseState.APPROVED):
        decides = any(person.name == visit.actor.name for person in quorum.deciders)
        choices += ["approve"] if decides and quorum.is_open else []
        choices += ["reject"] if decides or visit.actor.name in quorum.counts else []
    here = f"/console/releases/{short(release.digest, 64)}"
    moves = [(f"{name}…", f"{here}/{move}") for move, (name, state, who, *_) in _MOVES.items() if state is release.state and visit.may(who)]
    if release.state is ReleaseState.PRODUCTION and visit.may(Action.ROLLBACK):
        moves.append(("Roll back…", f"/console/aliases/{release.content.objective_name}/rollback"))
    return visit.page(
        "release.html",
        release=release,
        card=visit.ask(release_queries.show_card, digest=release.digest).markdown,
        live=visit.ask(release_queries.live_report, digest=release.digest).kpis,
        quorum=quorum,
        choices=choices,
        moves=moves,
        done=visit.query.get("done", ""),
    )


@page("POST", "/releases/{digest}/statement")
def state_decision(visit: Visit) -> Response:
    """The statement that somebody is about to sign, exactly as it is signed."""
    fields = {"decision": visit.form.get("decision", ""), "reason": visit.form.get("reason", "").strip()}
    stated = visit.ask_form(promotion.statement, digest=visit.named("digest"), **fields)
    release = visit.ask(release_queries.show_release, digest=stated.release)
    return visit.page("statement.html", release=release, stated=stated, text=canonical_json(stated).decode(), digest=digest_of(stated))


@page("POST", "/releases/{digest}/decision")
def decide(visit: Visit) -> Response:
    """Files a statement with the signature that the browser made; it must be the actor's own."""
    stated = value_of_text(Statement, visit.form.get("signed", ""))
    if stated.identity != visit.actor.name:
        raise InvalidInput(f"this statement is {stated.identity}'s", "state your own decision", code="statement_old")
    signature = _signature(visit, stated.identity, stated.decision, stated)
    release = visit.ask(promotion.decide, digest=visit.named("digest"), statement=stated, signature=signature)
    return _back_to(release, stated.decision)


@page("GET", "/aliases/{alias}/rollback")
def confirm_roll_back(visit: Visit) -> Response:
    """Asks before rolling back, and why."""
    name = visit.named("alias")
    alias = next((alias for alias in visit.ask(release_queries.list_aliases).aliases if alias.name == name), None)
    if alias is None or not alias.targets:
        raise Conflict(f"{name} has nothing in production", "promote a release first")
    present, former = (", ".join(short(target.release) for target in targets) for targets in (alias.targets, alias.previous))
    after = (
        f"After the rollback it answers with {former}."
        if former
        else "Nothing was in production before: nobody answers after the rollback."
    )
    button, hidden = "Roll back" if former else "Withdraw the name", {"version": alias.version} | ({} if former else {"withdraw": "yes"})
    lines = (f"{alias.path} answers with {present} now.", after)
    return visit.message(f"Roll {alias.path} back?", lines, button=button, ask_reason=True, hidden=hidden)


@page("POST", "/aliases/{alias}/rollback")
def roll_back(visit: Visit) -> Response:
    """Rolls back."""
    fields = {"reason": visit.form.get("reason", "").strip(), "version": visit.form.get("version"), "withdraw": "withdraw" in visit.form}
    moved = visit.ask_form(promotion.roll_back, alias=visit.named("alias"), **fields)
    return _back_to(moved.left, "rollback") if moved.left else see_other(FIRST_PAGE)


def _back_to(release: Release, done: str) -> Response:
    return see_other(f"/console/releases/{short(release.digest, 64)}?done={done}")


@page("GET", "/releases/{digest}/review")
def show_review(visit: Visit) -> Response:
    """The next item for whoever may review, two answers side by side without names; how the review stands for everybody."""
    digest = visit.named("digest")
    standing = visit.ask(label_review.show_review, digest=digest)
    shown = visit.ask(label_review.next_shown, digest=digest) if standing.required and visit.may(Action.JUDGE) else None
    return visit.page("judging.html", shown=shown, standing=standing)


@page("POST", "/releases/{digest}/review")
def judge(visit: Visit) -> Response:
    """Files a mark, and goes on to the next item."""
    digest = visit.named("digest")
    visit.ask_form(label_review.judge, digest=digest, **{name: visit.form.get(name, "") for name in ("number", "mark", "reason")})
    return see_other(f"/console/releases/{digest}/review")


@page("GET", "/releases/{digest}/{move}")
def confirm_move(visit: Visit) -> Response:
    """Asks before a move. Raises Conflict where the release is in another state: nothing is asked that could not be done."""
    name, state, _, _, lines = _move(visit)
    release = visit.ask(release_queries.show_release, digest=visit.named("digest"))
    if release.state is not state:
        raise Conflict(f"release {short(release.digest)} is {release.state.value}, not {state.value}", "go back", code="release_state")
    title, back = f"{name} release {short(release.digest)}?", f"/console/releases/{short(release.digest, 64)}"
    return visit.message(title, lines, button=name, back=back)


@page("POST", "/releases/{digest}/{move}")
def make_move(visit: Visit) -> Response:
    """Stages, drills, rolls out or promotes."""
    done = visit.ask(_move(visit)[3], digest=visit.named("digest"))
    if isinstance(done, rollouts.Drill):
        known = {"name": done.alias, "gateways": done.gateways, "in after": f"{done.promote_seconds:.2f} s"}
        known |= {"back after": f"{done.rollback_seconds:.2f} s"}
        lines, back = ("It went in and came back; the drill is in the audit log.",), f"/console/releases/{short(done.release, 64)}"
        return visit.message(f"Drill of release {short(done.release)}", lines, known, back=back)
    if isinstance(done, Rollout):
        return see_other(f"/console/rollouts/{done.id}")
    return see_other(f"/console/releases/{visit.named('digest')}?done={visit.named('move')}")


def _move(visit: Visit) -> tuple[str, ReleaseState, Action, AnyUseCase, tuple[str, ...]]:
    move = _MOVES.get(visit.named("move"))
    if move is None:
        raise NotFound("there is no such page", "start from the objectives")
    return move


# Rollouts: where each is, what its guards say, and what people decide

#: Decisions on offer, and what they are called.
_DECISIONS = {"hold": "Hold", "resume": "Let it go on", "promote": "Promote", "roll_back": "Take it back"}
_UNPROVEN = {"promote_unproven": "Promote without proof"}


@page("GET", "/rollouts")
def list_rollouts(visit: Visit) -> Response:
    """All rollouts, newest first."""
    columns = {"Rollout": "id|rollout", "Name": "alias", "Release": "candidate|release", "State": "state|badge", "Changed": "changed_at"}
    found = visit.ask(rollouts.list_rollouts).rollouts
    return visit.tables("Rollouts", ("Rollouts, newest first", columns, found, "There was no rollout yet."))


@page("GET", "/rollouts/{rollout}")
def show_rollout(visit: Visit) -> Response:
    """One rollout with its guards and history, and a button for each decision that its state allows. Where a live KPI lacks its
    proof, promoting says so."""
    found = visit.ask(rollouts.show_rollout, rollout=visit.named("rollout"))
    rollout = found.rollout
    allowed = {action.value for state, action in TRANSITIONS if state is rollout.state}
    offered = {decision: words for decision, words in _DECISIONS.items() if decision in allowed}
    if any(live.standing != "proven" for live in found.judgement.live) and offered.pop("promote", ""):
        offered |= _UNPROVEN
    may = visit.may(Action.DECIDE_ROLLOUT)
    buttons = [(words, f"/console/rollouts/{rollout.id}/{decision}") for decision, words in offered.items() if may]
    return visit.page("rollout.html", found=found, rollout=rollout, judged=found.judgement, offered=buttons)


@page("GET", "/rollouts/{rollout}/{decision}")
def confirm_decision(visit: Visit) -> Response:
    """Asks before a decision."""
    rollout, words = visit.named("rollout"), (_DECISIONS | _UNPROVEN).get(visit.named("decision"))
    if words is None:
        raise InvalidInput("there is no such decision", "go back, and choose one", code="field_invalid", param="decision")
    lines, back = ("Guards go on watching as long as the rollout is open.",), f"/console/rollouts/{rollout}"
    return visit.message(f"{words}: rollout {rollout}?", lines, button=words, back=back, ask_reason=True)


@page("POST", "/rollouts/{rollout}/{decision}")
def decide_rollout(visit: Visit) -> Response:
    """Decides."""
    fields = {"rollout": visit.named("rollout"), "decision": visit.named("decision"), "reason": visit.form.get("reason", "")}
    return see_other(f"/console/rollouts/{visit.ask_form(rollouts.decide_rollout, **fields).id}")


# Data: snapshots, and the likeliest label errors of one, to be decided about


@page("GET", "/data")
def show_data(visit: Visit) -> Response:
    """Snapshots, newest first. Those that others were made from are no longer worked on."""
    found = visit.ask(list_snapshots).snapshots
    parents = {one.manifest.parent for one in found}
    paging = Paging.of(visit.query, len(found), ON_A_PAGE)
    may_fix = visit.may(Action.READ_DATA) and visit.may(Action.FIX_DATA)
    workable = {one.digest for one in found if may_fix and one.digest not in parents and one.manifest.label_counts}
    lines = [(one.digest, one.manifest, one.digest if one.digest in workable else None) for one in paging.cut(found)]
    columns = {"Snapshot": "0", "Objective": "1.objective", "Train": "1.counts.train", "Dev": "1.counts.dev", "Test": "1.counts.test"}
    columns |= {"Removed": "1.removed", "Made from": "1.parent", "Label errors": "2|labels"}
    empty = "No snapshot here. Make one: tailorbird data curate objective.yaml"
    return visit.tables("Data", ("Snapshots, newest first", columns, lines, empty), paging=paging)


@page("GET", "/data/{snapshot}/labels")
def show_labels(visit: Visit) -> Response:
    """The likeliest label errors that nobody has decided about, in the snapshot that stands for the one that is named."""
    asked = visit.named("snapshot")
    newest = _newest(visit, asked)
    if short(newest, 64) != asked:
        return see_other(f"/console/data/{short(newest, 64)}/labels")
    view = visit.ask(show_snapshot, snapshot=asked)
    return visit.page("labels.html", view=view, suspects=visit.ask(snapshots.suspects, snapshot=asked, limit=LABEL_ERRORS_ON_A_PAGE))


@page("POST", "/data/{snapshot}/labels")
def fix_labels(visit: Visit) -> Response:
    """Files what was decided, all at once, and goes on with the snapshot that follows."""
    digest, fixes = _newest(visit, visit.named("snapshot")), []
    for name, action in visit.form.items():
        row = name.removeprefix("action:")
        if row != name and action:
            label = visit.form.get(f"label:{row}", "") if action == FixAction.RELABEL.value else ""
            fixes.append({"row": row, "action": action, "label": label})
    if fixes:
        digest = visit.ask_form(snapshots.fix, snapshot=digest, fixes=fixes).digest
    return see_other(f"/console/data/{short(digest, 64)}/labels")


def _newest(visit: Visit, snapshot: str) -> str:
    """The digest of what stands for ``snapshot`` now: somebody may have decided in the meantime."""
    view = visit.ask(show_snapshot, snapshot=snapshot)
    while view.followed_by is not None:
        view = visit.ask(show_snapshot, snapshot=view.followed_by)
    return view.digest


# Production: answers that wait for people, traffic, the walk back from one answer, readings, and the log


@page("GET", "/reviews")
def show_answer_queue(visit: Visit) -> Response:
    """The oldest answers that wait for people."""
    return visit.page("reviews.html", queue=visit.ask(list_reviews, limit=20))


@page("POST", "/reviews/{request}")
def settle(visit: Visit) -> Response:
    """Files a label."""
    visit.ask(settle_review, request=visit.named("request"), label=visit.form.get("label", ""))
    return see_other("/console/reviews")


_WINDOWS = {15: "15 minutes", 60: "1 hour", 24 * 60: "24 hours"}


@page("GET", "/traffic")
def traffic(visit: Visit) -> Response:
    """What each release answered in a window, and the newest requests."""
    asked = visit.query.get("minutes", "60")
    minutes = next((number for number in _WINDOWS if str(number) == asked), 60)
    found = visit.ask(show_traffic, minutes=minutes)
    columns = {"Name": "alias", "Release": "release|release", "Requests": "requests", "Errors": "errors", "Refused": "refused"}
    columns |= {"Left": "aborted", "p50 ms": "latency_p50_ms|%.0f", "p95 ms": "latency_p95_ms|%.0f", "Tokens in": "prompt_tokens|count"}
    columns |= {"Tokens out": "completion_tokens|count", f"Cost {visit.deps.prices.currency}": "cost|money"}
    newest = {"Request": "id|request", "At": "at|exactly", "Name": "alias", "Release": "release|release", "Outcome": "outcome|badge"}
    newest |= {"Status": "status", "Error": "error", "Answer": "prediction", "Sure": "confidence|%.2f", "ms": "latency_ms|%.0f"}
    newest |= {"Tokens in": "prompt_tokens", "Tokens out": "completion_tokens"}
    return visit.tables(
        "Traffic",
        ("What each release answered in the window", columns, found.traffic, "No request in this window."),
        ("The newest requests, in whichever window", newest, found.latest, "Nobody has asked yet."),
        windows=[(f"/console/traffic?minutes={number}", name, number == minutes) for number, name in _WINDOWS.items()],
    )


@page("GET", "/requests/{request}")
def explain(visit: Visit) -> Response:
    """Everything that stands behind one answer."""
    found = visit.ask(explain_request, request=visit.named("request"))
    return visit.page("request.html", found=found, explanation=explanation_markdown(found))


@page("GET", "/signals")
def show_signals(visit: Visit) -> Response:
    """The newest readings, those that ask for a person first."""
    signals = visit.ask(list_signals, limit=200).signals
    columns = {
        "Severity": "severity|badge",
        "Reading": "name",
        "Objective": "objective",
        "Release": "release|release",
        "Value": "value|%.4g",
    }
    columns |= {"Bound": "bound|%.4g", "p": "p_value|%.2g", "On": "n"}
    columns |= {"What it says": "text|prose", "At": "at"}
    first = sorted(signals, key=lambda signal: tuple(Severity).index(signal.severity), reverse=True)
    empty = "No reading yet. tailorbird watch and workers take them."
    return visit.tables("Signals", ("The newest readings, those that ask for a person first", columns, first, empty))


@page("GET", "/audit")
def show_log(visit: Visit) -> Response:
    """A page of the log, newest first: before the index ``before``, about one ``subject`` or all.

    The checkpoint is read after the control plane has shown the log; it tells nothing about anybody's events.
    """
    before, subject = visit.query.get("before") or None, visit.query.get("subject", "").strip()
    found = visit.ask_form(read_log, limit=ON_A_PAGE, before=before, subject=subject)
    with visit.deps.ledger.system(write=False) as system:
        checkpoint = system.events.last_checkpoint()
    older = found.entries[-1].index if len(found.entries) == ON_A_PAGE else None
    entries = []
    for entry in found.entries:
        known = {name: found.remarks.get(str(fact), cell_text(fact)) for name, fact in sorted(entry.event.data.items()) if fact is not None}
        entries.append((entry, Markup(" ").join(Markup("{} <code>{}</code>").format(*each) for each in known.items())))
    return visit.page("audit.html", found=found, entries=entries, subject=subject, before=before, older=older, checkpoint=checkpoint)


@page("POST", "/audit/verify")
def verify(visit: Visit) -> Response:
    """Recomputes the whole log, and shows what was found."""
    report = visit.ask(verify_log)
    title = "The log is intact" if report.intact else "The log does not hold"
    known = {"entries recomputed": f"{report.size:,}", "checkpoints checked": report.checkpoints, "root": report.root}
    return visit.message(title, report.problems, known, problem=not report.intact, back="/console/audit")
