"""Workspace of the Python API: inspect, plan, adapt, release, ask, on this machine or on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from tailorbird import data
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.feedback import Feedback, FeedbackGiven, FeedbackKind
from tailorbird.domain.release import Release
from tailorbird.domain.rollout import Rollout, RolloutPlan
from tailorbird.domain.run import Run
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.runs import TenantRuns, adapt_here, follow, plan_run, submit_run
from tailorbird.sdk.session import Answer, ChatMessage, WorkspaceSession, conversation, create_workspace, decide
from tailorbird.sdk.tables import InspectionView, PlanView, ReleaseTable, RunTable, RunView, TenantTable, viewed
from tailorbird.settings import FOLDER
from tailorbird.usecases import Progress
from tailorbird.usecases.feedback import give_feedback
from tailorbird.usecases.registry import validated
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.releases.promotion import AliasMove
from tailorbird.usecases.releases.release_queries import list_aliases, list_releases, show_release
from tailorbird.usecases.releases.rollouts import Decision, RolloutReport, decide_rollout, list_rollouts, show_rollout, start_rollout
from tailorbird.usecases.runs.queries import list_runs, show_run
from tailorbird.usecases.snapshots import inspect_uploaded

#: Who hears of progress: nobody, a display on stderr (True), a callback for sentences, or callbacks for the typed events.
ProgressOption = bool | Callable[[str], None] | Progress | None


@contextmanager
def reported(wanted: ProgressOption) -> Iterator[Progress]:
    """Callbacks for the use cases while the body works."""
    if isinstance(wanted, Progress):
        yield wanted
    elif callable(wanted):
        hear = wanted
        yield Progress(
            tell=hear,
            count=lambda done, total: hear(f"{done}/{total} items"),
            training=lambda seen: hear(f"training step {seen.step}/{seen.steps}, loss {seen.loss:.3f}"),
        )
    elif wanted:
        with ProgressDisplay(Console(stderr=True, highlight=False)) as progress:
            yield progress
    else:
        yield Progress()


PathLike = str | Path


class Workspace:
    """A workspace on this machine, or, by ``connect``, on a server: the use cases as typed calls.

    Calls act as ``identity`` (``NAME`` or ``TENANT/NAME``), which proves itself by its key; without one, as the workspace's identity
    ``author``, and decisions as ``approver``, ``operator`` and ``reviewer``, as on the command line. ``as_`` names somebody else for one
    call. Every call raises errors of ``tailorbird.domain.errors``, each with a code and a hint.

    As a context manager it logs out and closes the ledger. ``progress`` of a call: True shows it on stderr; a
    callable hears sentences; a ``tailorbird.usecases.Progress`` hears typed events.
    """

    def __init__(self, path: PathLike | None = None, *, identity: str | None = None, key: PathLike | None = None) -> None:
        """Opens the workspace in the folder ``path``, or ``.tailorbird`` here or in a folder above. Raises NotFound, Forbidden."""
        key_file = Path(key).absolute() if key is not None else None
        self._session = WorkspaceSession(Path(path) if path is not None else None, identity, key_file)
        self._api_key = ""
        self._session.deps  # noqa: B018 - opened now, so that a missing workspace is told of here

    @classmethod
    def create(cls, path: PathLike = FOLDER, *, tenant: str = "") -> Workspace:
        """Creates a workspace in the folder ``path``, with an identity and a key for each role, and opens it; one that exists is opened.

        Raises Conflict when it belongs to another tenant.
        """
        create_workspace(Path(path), tenant)[0].ledger.close()
        return cls(path)

    @classmethod
    def connect(cls, url: str, *, tenant: str, identity: str, key: PathLike, ca: PathLike | None = None, api_key: str = "") -> Workspace:
        """The workspace behind the server at ``url``, for an identity and its key file. ``ca`` is a file with the certificate authority to
        trust; ``api_key`` is needed by ``ask`` alone. Logs in at the first call. Raises InvalidInput."""
        made = cls.__new__(cls)
        made._session = WorkspaceSession(who=f"{tenant}/{identity}", key=Path(key).absolute(), server=url, ca=str(ca or ""))
        made._api_key = api_key
        made._session.remote()
        return made

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Logs out, and closes the ledger."""
        self._session.close()

    def __repr__(self) -> str:
        place = self._session.server or str(self._session.settings.workspace)
        return f"Workspace({place!r}, tenant={self._session.tenant!r}, identity={self._session.name()!r})"

    def inspect(self, file: PathLike, *, progress: ProgressOption = None) -> InspectionView:
        """Format, columns and probable roles of a file, folder or address, and the source section to write. Stores nothing here."""
        if self._session.server and "://" not in str(file):
            digest = self._session.remote().upload(Path(file))
            return viewed(InspectionView, self._session.ask(inspect_uploaded, name=Path(file).name, file=digest))
        with reported(progress) as told:
            return viewed(InspectionView, data.inspect_file(str(file), Path(), told.tell))

    def plan(self, objective: PathLike, *, progress: ProgressOption = None) -> PlanView:
        """What ``adapt`` would train, in what order, at what cost. Freezes the data; trains nothing."""
        with reported(progress) as told:
            found = plan_run(self._session, Path(objective), told).plan
        assert found is not None
        return viewed(PlanView, found)

    def adapt(self, objective: PathLike, *, progress: ProgressOption = None, again: bool = False) -> RunView:
        """Climbs the ladder to its end, and drafts the release. Goes on where an interrupted call stopped. ``again`` repeats a run that
        ended without a release for what answering took on its machine.

        By URL the server's workers climb, and an interrupted call leaves them at it. Raises Conflict when the run fails or is cancelled.
        """
        path = Path(objective)
        if self._session.server:
            return self.wait(self.submit(path, again=again).id, progress=progress)
        with reported(progress) as told:
            return viewed(RunView, adapt_here(self._session, path, told, again=again)[0])

    def adapt_tenants(self, objective: PathLike, tenants: str | Sequence[str], *, progress: ProgressOption = None) -> TenantTable:
        """``adapt`` for many tenants, of whom none ends another's climb: names, or ``a,b,c``, a file with a name a line, ``all``.

        Acts in each tenant as the identity of the same name there. Goes on where an interrupted call stopped.
        """
        with reported(progress) as told:
            return TenantTable(TenantRuns(self._session, Path(objective), tenants).adapt(told))

    def submit(self, objective: PathLike, *, again: bool = False) -> Run:
        """Leaves the climb to a worker, and returns the run at once. ``again`` as for ``adapt``."""
        return submit_run(self._session, Path(objective), again=again)

    def wait(self, run: str, *, progress: ProgressOption = None) -> RunView:
        """Follows a run that workers climb to its end. Raises Conflict when it fails or is cancelled."""
        with reported(progress) as told:
            return viewed(RunView, follow(self._session, self._session.ask(show_run, run=run).run, told))

    def runs(self, *, limit: int = 50, skip: int = 0) -> RunTable:
        """Runs of the tenant, newest first."""
        return RunTable(self._session.ask(list_runs, limit=limit, skip=skip).runs)

    def run(self, run: str) -> RunView:
        """A run, by its id or a prefix, with all it led to so far."""
        return viewed(RunView, self._session.ask(show_run, run=run))

    def releases(self, *, limit: int = 50, skip: int = 0) -> ReleaseTable:
        """Releases of the tenant, newest first."""
        return ReleaseTable(self._session.ask(list_releases, limit=limit, skip=skip).releases)

    def release(self, digest: str) -> Release:
        """A release, by its digest or a prefix."""
        return self._session.ask(show_release, digest=digest)

    def approve(self, digest: str, reason: str = "", *, as_: str | None = None) -> Release:
        """Approves a release, signed with the approver's own key. Authors cannot approve their own releases."""
        return decide(self._acting(as_), digest, "approve", reason)

    def reject(self, digest: str, reason: str, *, as_: str | None = None) -> Release:
        """Rejects a release, permanently."""
        return decide(self._acting(as_), digest, "reject", reason)

    def stage(self, digest: str, *, as_: str | None = None) -> Release:
        """Stages an approved release."""
        return self._acting(as_).ask_as("operator", promotion.stage, digest=digest)

    def promote(self, digest: str, *, as_: str | None = None) -> AliasMove:
        """Promotes a staged release to production, under the alias TENANT/OBJECTIVE."""
        return self._acting(as_).ask_as("operator", promotion.promote, digest=digest)

    def aliases(self) -> tuple[Alias, ...]:
        """The tenant's public names, each with its version and the releases that answer."""
        return self._session.ask(list_aliases).aliases

    def roll_back(
        self, alias: str, reason: str = "", *, version: int | None = None, withdraw: bool = False, as_: str | None = None
    ) -> AliasMove:
        """Rolls an alias (OBJECTIVE, or TENANT/OBJECTIVE) back to its previous release; without one, withdraws it with ``withdraw``, and
        else raises Conflict (``withdrawal_unasked``).

        With ``version``, that of the alias when it was looked at (``promote(...).alias.version``, or of ``aliases()``), raises Conflict
        (``alias_moved``) where it has moved since: of two who see one alarm, one takes a release back.
        """
        name = self._session.alias_name(alias)
        return self._acting(as_).ask_as("operator", promotion.roll_back, alias=name, reason=reason, version=version, withdraw=withdraw)

    def roll_out(self, digest: str, plan: RolloutPlan | Mapping[str, Any] | None = None, *, as_: str | None = None) -> Rollout:
        """Starts a guarded progressive rollout of a staged release: by ``plan``, or a mapping with its keys; without one as the command
        line does (mirrored, 5 %, 25 %, 50 %, production)."""
        wanted = validated(RolloutPlan, dict(plan)) if isinstance(plan, Mapping) else plan or RolloutPlan()
        return self._acting(as_).ask_as("operator", start_rollout, digest=digest, plan=wanted)

    def rollouts(self, *, limit: int = 50) -> tuple[Rollout, ...]:
        """Rollouts of the tenant, newest first."""
        return self._session.ask(list_rollouts, limit=limit).rollouts

    def rollout(self, rollout: str) -> RolloutReport:
        """A rollout, by its id or a prefix, with what its guards say."""
        return self._session.ask(show_rollout, rollout=rollout)

    def decide_rollout(self, rollout: str, decision: Decision, reason: str = "", *, as_: str | None = None) -> Rollout:
        """``hold``, ``resume``, ``advance``, ``promote``, ``promote_unproven`` (with a reason) or ``roll_back``."""
        return self._acting(as_).ask_as("operator", decide_rollout, rollout=rollout, decision=decision, reason=reason)

    def ask(self, alias: str, said: str | Sequence[ChatMessage]) -> Answer:
        """The answer of the release behind an alias to a text or a conversation. By URL alone, with the API key given to ``connect``."""
        if not self._session.server:
            raise InvalidInput("answers come from a gateway", "start one (tailorbird serve), and ask by Workspace.connect(url, ...)")
        if not self._api_key:
            raise InvalidInput("no API key was given", "make one (tailorbird key create NAME), and connect with api_key=")
        return self._session.remote().answer(f"{self._session.tenant}/{self._session.alias_name(alias)}", conversation(said), self._api_key)

    def feedback(self, request: str, kind: FeedbackKind | str, value: str, *, as_: str | None = None) -> Feedback:
        """Records what somebody says of an answer: ``thumb`` up or down, the right ``label``, ``csat`` 1 to 5, ``outcome`` good or bad."""
        said = validated(FeedbackGiven, {"request": request, "kind": kind, "value": value})
        return self._acting(as_).ask_as("reviewer", give_feedback, said)

    def _acting(self, name: str | None) -> WorkspaceSession:
        return self._session if name is None else self._session.acting_as(name)
