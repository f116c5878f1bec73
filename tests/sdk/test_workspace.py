"""The Python API: the same answers and errors as the use cases, here and by URL, with progress and tables."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bases import place_twin, use_twins
from support.control import NowClock, act, control_app, served, use_clock
from support.serving import DirectDriver, House
from support.usecases import write_objective
from tailorbird import Workspace
from tailorbird.domain.dataset import ColumnSeen, Guess
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from tailorbird.domain.plan import Plan
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState
from tailorbird.processes.gateway import gateway_app
from tailorbird.processes.worker import StepWorker
from tailorbird.sdk import Answer, InspectionView, RunTable
from tailorbird.sdk import runs as remote_runs
from tailorbird.sdk.tables import PlanView
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import key_path
from tailorbird.usecases.registry import perform
from tailorbird.usecases.runs.queries import cancel_run, list_runs, show_run
from tailorbird.usecases.runs.submit import adapt


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    use_twins(monkeypatch)
    with Workspace.create(tmp_path / ".tailorbird", tenant="acme") as made:
        yield made


@pytest.fixture
def objective(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["floor"])


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, tailorbird\n"
        "assert not {'pydantic', 'rich', 'numpy', 'torch'} & sys.modules.keys()\n"
        "import tailorbird.sdk.session\n"
        "assert 'tailorbird.sdk.tables' not in sys.modules\n"
        "from tailorbird import Workspace\n"
        "slow = {'torch', 'transformers', 'sklearn', 'fastapi', 'typer', 'scipy.special', 'scipy.optimize'}\n"
        "assert not slow & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_from_data_to_production_and_back(workspace: Workspace, objective: Path) -> None:
    found = workspace.inspect(objective.parent / "rows.csv")
    assert found.rows == 750
    planned = workspace.plan(objective)
    assert isinstance(planned, Plan)
    run = workspace.adapt(objective)
    assert run.release is not None
    assert workspace.runs()[0] == run.run
    assert workspace.run(run.run.id).conclusion == run.conclusion
    assert workspace.approve(run.release[7:19], "looks right").state is ReleaseState.APPROVED
    assert workspace.stage(run.release).state is ReleaseState.STAGED
    moved = workspace.promote(run.release)
    assert moved.alias.path == "acme/desk"
    assert workspace.release(run.release).state is ReleaseState.PRODUCTION
    assert workspace.aliases() == (moved.alias,)
    with pytest.raises(Conflict) as refused:
        workspace.roll_back("desk", version=moved.alias.version + 1)
    assert refused.value.error_code == "alias_moved"
    assert workspace.roll_back("acme/desk", "alarm", version=moved.alias.version, withdraw=True).entered is None
    (release,) = workspace.releases()
    assert (release.digest, release.signature.identity) == (run.release, "author")


def test_a_call_acts_as_somebody_else_by_name(workspace: Workspace, objective: Path) -> None:
    digest = workspace.adapt(objective).release
    assert digest is not None
    with pytest.raises(Forbidden):
        workspace.approve(digest, as_="author")
    with pytest.raises(NotFound):
        workspace.approve(digest, as_="nobody")
    for named in ("globex/approver", "globex/", "../approver", ""):
        with pytest.raises(InvalidInput):
            workspace.approve(digest, as_=named)
    assert workspace.reject(digest, "not now", as_="acme/approver").state is ReleaseState.REJECTED


def test_errors_of_places(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        Workspace(tmp_path / "elsewhere")
    assert missing.value.error_code == "workspace_missing"
    with pytest.raises(Conflict):
        Workspace.create(tmp_path / ".tailorbird", tenant="globex")
    with Workspace.create(tmp_path / ".tailorbird", tenant="acme") as again:
        assert again.runs() == ()
    with pytest.raises(InvalidInput) as local:
        workspace.ask("desk", "I lost my card")
    assert "tailorbird serve" in local.value.hint
    with pytest.raises(NotFound):
        workspace.roll_back("globex/desk")
    with pytest.raises(InvalidInput) as scale:
        workspace.feedback("req", "thumb", "sideways")
    assert "up, down" in scale.value.message
    with pytest.raises(NotFound):
        workspace.feedback("req", "thumb", "up")


def test_progress_is_heard_as_sentences_as_events_or_on_stderr(
    workspace: Workspace, objective: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []
    workspace.plan(objective, progress=heard.append)
    assert heard
    steps: list[str] = []
    counts: list[tuple[int, int]] = []
    told = Progress(step=lambda begun: steps.append(begun.name) if begun else None, count=lambda *seen: counts.append(seen))
    workspace.adapt(objective, progress=told)
    assert "conclude" in steps
    assert counts
    assert capsys.readouterr().err == ""


def test_answers_show_themselves_as_tables(workspace: Workspace, objective: Path) -> None:
    plan, run = workspace.plan(objective), workspace.adapt(objective)
    assert isinstance(plan, PlanView)
    for shown, word in ((plan, "rung"), (run, "is signed and gated"), (workspace.runs(), run.run.id), (workspace.releases(), "floor")):
        assert word in repr(shown)
        assert word in shown._repr_html_()
        assert shown._repr_html_().startswith("<pre")
    assert repr(RunTable()).split() == ["run", "objective", "state", "by", "since"]


def test_the_tables_escape_what_data_say() -> None:
    """Names of columns are the data's own words."""
    evil = "<script>alert(1)</script>[bold]&\x1b[2J"
    column = ColumnSeen(name=evil, kind="text", filled=1, distinct=1, mean_length=1, longest=1)
    found = InspectionView(
        name=evil,
        kind="CSV",
        digest="sha256:" + "0" * 64,
        encoding="utf-8",
        separator=",",
        rows=1,
        unusable={},
        columns=(column,),
        guesses=(Guess(role="text", column=evil, why=evil),),
        task="classify",
        proposal=evil,
    )
    html = found._repr_html_()
    assert "<script" not in html
    assert "[bold]" in html
    assert "\x1b" not in repr(found)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[bold]&amp;" in html


@pytest.fixture
def clock(deps: Dependencies) -> NowClock:
    return use_clock(deps, NowClock())


@pytest.fixture
def server(deps: Dependencies, clock: NowClock) -> Iterator[str]:
    with served(control_app(deps)) as url:
        yield url


def connected(deps: Dependencies, server: str, who: str) -> Workspace:
    return Workspace.connect(server, tenant="acme", identity=who, key=key_path(deps, "acme", who))


def test_by_url_the_answers_are_the_same(deps: Dependencies, server: str, objective: Path) -> None:
    with connected(deps, server, "author") as workspace:
        assert repr(workspace) == f"Workspace({server!r}, tenant='acme', identity='author')"
        assert workspace.inspect(objective.parent / "rows.csv").rows == 750
        run = adapt(deps, act(deps, "author"), objective, Progress()).run
        assert workspace.runs() == RunTable(perform(deps, act(deps, "author"), list_runs).runs)
        here = perform(deps, act(deps, "author"), show_run, run=run.id)
        assert dict(workspace.run(run.id)) == dict(here)
        digest = workspace.run(run.id).release
        assert digest is not None
        with pytest.raises(Forbidden):
            workspace.approve(digest)
        assert workspace.approve(digest, as_="approver").state is ReleaseState.APPROVED
    with connected(deps, server, "operator") as workspace:
        assert workspace.stage(digest).state is ReleaseState.STAGED


def test_by_url_a_run_is_submitted_and_followed(deps: Dependencies, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works on it, and it is cancelled by whoever hears that it waits."""
    monkeypatch.setattr(remote_runs, "POLL_SECONDS", 0.01)
    path = write_objective(tmp_path / "job", ladder=["floor"], base_model="smollm2-135m")
    heard: list[str] = []

    def cancel(text: str) -> None:
        heard.append(text)
        perform(deps, act(deps, "author"), cancel_run, run=run.id)

    with connected(deps, server, "author") as workspace:
        run = workspace.submit(path)
        assert run.state is RunState.ACTIVE
        with pytest.raises(Conflict) as ended:
            workspace.adapt(path, progress=cancel)
    assert heard == ["waiting for a worker"]
    assert ended.value.error_code == "run_cancelled"


def test_by_url_workers_plan_and_climb(deps: Dependencies, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_runs, "POLL_SECONDS", 0.01)
    place_twin("smollm2-135m", deps.models)
    path = write_objective(tmp_path / "job", ladder=["floor"], base_model="smollm2-135m")

    def work(_: str) -> None:
        StepWorker(deps, Progress(), lambda _: None, once=True).run()

    with connected(deps, server, "author") as workspace:
        planned = workspace.plan(path, progress=work)
        run = workspace.adapt(path, progress=work)
        assert (run.plan, run.run.state) == (perform(deps, act(deps, "author"), show_run, run=run.run.id).plan, RunState.DONE)
        assert dict(planned) == dict(run.plan or ())
        assert [each.digest for each in workspace.releases()] == [run.release]


def test_a_release_answers_by_url(tmp_path: Path) -> None:
    house = House(tmp_path)
    release = house.release()
    house.point("routing", release)
    _, secret = house.key()
    with served(gateway_app(house.deps, [DirectDriver(house)]), lifespan="on") as url:
        with Workspace.connect(url, tenant="acme", identity="nobody", key=tmp_path / "no.key", api_key=secret) as workspace:
            answer = answered(workspace)
            assert (answer.text, answer.release, answer.referred) == ("lost_card", release, False)
            assert answer.probabilities is not None
            assert workspace.ask("acme/routing", [{"role": "user", "content": "I lost my card"}]).text == "lost_card"
            with pytest.raises(NotFound) as unknown:
                workspace.ask("nothing", "I lost my card")
        with Workspace.connect(url, tenant="acme", identity="nobody", key=tmp_path / "no.key") as without:
            with pytest.raises(InvalidInput) as missing:
                without.ask("routing", "I lost my card")
    assert (unknown.value.error_code, missing.value.error_code) == ("model_not_found", "invalid_input")
    assert answer.request in {row.id for row in house.rows()}
    house.ledger.close()


def answered(workspace: Workspace) -> Answer:
    """An answer as soon as the gateway has loaded the release."""
    for _ in range(500):
        try:
            return workspace.ask("routing", "I lost my card")
        except Unavailable:
            time.sleep(0.01)
    raise AssertionError("the gateway does not answer")
