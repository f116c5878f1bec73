"""What people do from the pages: log in and out, decide, stage, promote, roll back, cancel; and every way it is refused."""

from __future__ import annotations

import re

import pytest

from support.console import NOW, Reader, approve, release_of, run_named
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import RunState
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.snapshots import find_snapshot


def reader_as(deps: Dependencies, name: str) -> Reader:
    reader = Reader(deps)
    assert reader.log_in(name).status_code == 303
    return reader


def page_of(deps: Dependencies) -> str:
    return f"/console/releases/{release_of(deps).removeprefix('sha256:')}"


def state_of(deps: Dependencies) -> ReleaseState:
    with deps.ledger.work("acme", write=False) as work:
        return work.releases.all()[0].state


def kinds(deps: Dependencies) -> list[str]:
    with deps.ledger.work("acme", write=False) as work:
        return [entry.event.kind for entry in work.events.latest(5)]


def stated(reader: Reader, decision: str = "approve", reason: str = "read the card") -> tuple[str, str]:
    """The text and digest on the statement's page."""
    answer = reader.post(f"{page_of(reader.deps)}/statement", {"decision": decision, "reason": reason})
    assert answer.status_code == 200, answer.text
    text = re.search(r"<pre data-text[^>]*>(.*?)</pre>", answer.text, flags=re.S)
    digest = re.search(r'data-digest="(sha256:[0-9a-f]{64})"', answer.text)
    assert text is not None
    assert digest is not None
    return text[1].replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), digest[1]


def signed(deps: Dependencies, name: str, purpose: str, text: str, digest: str) -> dict[str, str]:
    signature = act_as(deps, "acme", name).sign(purpose, digest)
    return {"signed": text, "public_key": signature.public_key, "signature": signature.signature}


def test_without_a_session_pages_lead_to_the_login_and_back(house: Dependencies) -> None:
    answer = Reader(house).get("/console/traffic?minutes=15")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/login?next=/console/traffic%3Fminutes%3D15"
    assert 'name="next" value="/console/traffic?minutes=15"' in Reader(house).get(answer.headers["location"]).text


@pytest.mark.parametrize("wanted", ["https://elsewhere.example", "//elsewhere.example", "/consolex", "/v1/models", ""])
def test_a_login_never_leads_to_another_site(house: Dependencies, wanted: str) -> None:
    assert Reader(house).log_in("viewer", next=wanted).headers["location"] == "/console"


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_is_out_of_reach(house: Dependencies, scheme: str, secure: bool) -> None:
    cookie = Reader(house, scheme).log_in("viewer").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert ("Secure" in cookie) is secure


def test_a_login_that_another_site_passes_on_is_refused(house: Dependencies) -> None:
    """The address that the browser had before it is what was signed, whatever the other site says of the host it asks."""
    reader = Reader(house)
    prepared = reader.post("/console/login/prepare", {"tenant": "acme", "identity": "viewer"}, origin="https://elsewhere", host="elsewhere")
    assert prepared.status_code == 200
    signature = act_as(house, "acme", "viewer").sign("login", prepared.json()["digest"])
    sent = {"signed": prepared.json()["text"], "public_key": signature.public_key, "signature": signature.signature}
    answer = reader.post("/console/login", sent)
    assert answer.status_code == 401
    assert "another server" in answer.text


def test_refused_logins_are_slowed_down(house: Dependencies) -> None:
    reader = Reader(house)
    prepared = reader.post("/console/login/prepare", {"tenant": "acme", "identity": "nobody"}).json()
    sent = {"signed": prepared["text"], "public_key": "x", "signature": "x"}
    assert [reader.post("/console/login", sent).status_code for _ in range(10)] == [401] * 10
    throttled = reader.post("/console/login", sent)
    assert throttled.status_code == 429
    assert "too many refused logins" in throttled.text
    assert reader.log_in("viewer").status_code != 429


def test_nonsense_logs_nobody_in(house: Dependencies) -> None:
    reader = Reader(house)
    assert reader.post("/console/login/prepare", {"tenant": "NO SUCH", "identity": ""}).status_code == 400
    assert reader.post("/console/login", {"signed": "{}"}).status_code == 400
    assert reader.post("/console/login", {}).status_code == 400
    assert reader.get("/console").status_code == 303


def test_logging_out_ends_the_session_itself(house: Dependencies) -> None:
    reader = reader_as(house, "viewer")
    kept = reader.cookies
    assert reader.post("/console/logout").headers["location"] == "/console/login"
    reader.cookies = kept
    assert reader.get("/console").status_code == 303
    assert reader.post("/console/logout").status_code == 303


def test_forms_count_only_from_our_own_pages(deps: Dependencies) -> None:
    approve(deps)
    operator = reader_as(deps, "operator")
    path = f"{page_of(deps)}/stage"
    for headers in (
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"x_other": "1"},
    ):
        answer = operator.post(path, {}, **headers)
        assert answer.status_code == 403, headers
        assert "forbidden" in answer.text
    assert state_of(deps) is ReleaseState.APPROVED
    assert operator.post(path, {}, origin="http://console.test").status_code == 303
    assert state_of(deps) is ReleaseState.STAGED


def test_the_whole_way_into_production_and_back(deps: Dependencies) -> None:
    approver, operator = reader_as(deps, "approver"), reader_as(deps, "operator")
    assert "Your decision" in approver.get(page_of(deps)).text
    text, digest = stated(approver)
    filed = approver.post(f"{page_of(deps)}/decision", signed(deps, "approver", "approve", text, digest))
    assert filed.status_code == 303
    shown = approver.get(filed.headers["location"]).text
    assert "Your approval is filed." in shown
    assert "as approver" in shown
    assert "Your decision" not in shown
    for move, button, after in (("stage", "Stage release", ReleaseState.STAGED), ("promote", "Promote release", ReleaseState.PRODUCTION)):
        assert f"{page_of(deps)}/{move}" in operator.get(page_of(deps)).text
        assert button in operator.get(f"{page_of(deps)}/{move}").text
        assert operator.post(f"{page_of(deps)}/{move}").status_code == 303
        assert state_of(deps) is after
    assert release_of(deps)[7:19] in operator.get("/console").text
    assert "/console/aliases/desk/rollback" in operator.get(page_of(deps)).text
    assert "nobody answers after the rollback" in operator.get("/console/aliases/desk/rollback").text
    assert "withdrawal_unasked" in operator.post("/console/aliases/desk/rollback", {"reason": "a drill"}).text
    back = operator.post("/console/aliases/desk/rollback", {"reason": "a drill", "withdraw": "yes"})
    assert "It was taken back from production." in operator.get(back.headers["location"]).text
    assert "withdrawn" in operator.get("/console").text
    assert verify_log(deps, act_as(deps, "acme", "operator")).intact
    with deps.ledger.work("acme", write=False) as work:
        (logged,) = [entry for entry in work.events.latest(3) if entry.event.kind == "release.rolled_back"]
    assert "a drill" not in logged.body, "what somebody wrote may name a person, and the log forgets nothing"
    assert "reason <code>a drill</code>" in operator.get("/console/audit").text


def staged(deps: Dependencies) -> Reader:
    """An operator who looks at the release, which is approved and staged."""
    approve(deps)
    operator = reader_as(deps, "operator")
    assert operator.post(f"{page_of(deps)}/stage").status_code == 303
    return operator


def another(release: Release) -> Release:
    """A release of the same objective."""
    content = release.content.model_copy(update={"candidate": "sha256:" + "0" * 64})
    dossier = release.dossier.model_copy(update={"release": digest_of(content)})
    return release.model_copy(update={"content": content, "dossier": dossier, "digest": dossier.release, "approvals": ()})


def test_a_rollout_is_held_and_taken_back_from_the_page(deps: Dependencies) -> None:
    operator, release, page = staged(deps), release_of(deps), page_of(deps)
    with deps.ledger.work("acme") as work:
        former = another(work.releases.get(release))
        work.releases.add(former)
        work.aliases.put(
            Alias(tenant="acme", name="desk", targets=(AliasTarget(release=former.digest),), moved_at=NOW, moved_by="operator")
        )
    begun = operator.post(f"{page}/rollout")
    assert begun.status_code == 303, begun.text
    address = begun.headers["location"]
    assert operator.get(f"{address}/nonsense").status_code == 400
    assert reader_as(deps, "viewer").post(f"{address}/roll_back", {"reason": "no"}).status_code == 403
    assert operator.post(f"{address}/hold", {"reason": "looking"}).headers["location"] == address
    held = operator.get(address).text
    assert "Let it go on" in held
    assert "looking" in held
    assert "Guards go on watching" in operator.get(f"{address}/roll_back").text
    assert operator.post(f"{address}/roll_back", {"reason": "complaints & more"}).headers["location"] == address
    over = operator.get(address).text
    assert "complaints &amp; more" in over
    assert "Take it back" not in over
    assert operator.post(f"{address}/resume", {"reason": "again"}).status_code == 409
    with deps.ledger.work("acme", write=False) as work:
        assert [target.release for target in work.aliases.get("desk").targets] == [former.digest]
        assert work.releases.get(release).state is ReleaseState.STAGED, "a person may let it in again"


@pytest.mark.parametrize(("name", "purpose"), [("reviewer", "approve"), ("approver", "login")])
def test_a_decision_needs_the_deciders_own_signature(deps: Dependencies, name: str, purpose: str) -> None:
    approver = reader_as(deps, "approver")
    text, digest = stated(approver)
    answer = approver.post(f"{page_of(deps)}/decision", signed(deps, name, purpose, text, digest))
    assert (answer.status_code, state_of(deps)) == (400, ReleaseState.GATED)
    assert "signature_invalid" in answer.text


def test_nobody_files_another_persons_statement_or_one_that_was_changed(deps: Dependencies) -> None:
    approver = reader_as(deps, "approver")
    text, digest = stated(approver)
    changed = text.replace("read the card", "never read it")
    assert approver.post(f"{page_of(deps)}/decision", signed(deps, "approver", "approve", changed, digest)).status_code == 400
    other = reader_as(deps, "viewer")
    assert other.post(f"{page_of(deps)}/decision", signed(deps, "approver", "approve", text, digest)).status_code == 400
    assert state_of(deps) is ReleaseState.GATED


def test_roles_are_asked_for_whatever_the_page_offers(deps: Dependencies) -> None:
    """A viewer is refused with a page, and the refusal is logged."""
    viewer = reader_as(deps, "viewer")
    for path, form in (
        (f"{page_of(deps)}/statement", {"decision": "approve"}),
        (f"{page_of(deps)}/stage", {}),
        (f"{page_of(deps)}/promote", {}),
        ("/console/aliases/desk/rollback", {}),
        (f"/console/runs/{run_named(deps, 'triage')}/cancel", {}),
    ):
        answer = viewer.post(path, form)
        assert answer.status_code == 403, path
        assert "<h1>Not allowed</h1>" in answer.text
        assert "role_missing" in answer.text
        assert "Log out" in answer.text
        assert kinds(deps)[0] == "access.denied"
    with deps.ledger.work("acme", write=False) as work:
        denied = [entry.event.data for entry in work.events.latest(20) if entry.event.kind == "access.denied"]
    assert {"action": "release.stage", "code": "role_missing", "asked": release_of(deps).removeprefix("sha256:")} in denied


def test_a_name_that_moved_since_the_page_was_opened_is_not_rolled_back(deps: Dependencies) -> None:
    approve(deps)
    operator = reader_as(deps, "operator")
    for move in ("stage", "promote"):
        assert operator.post(f"{page_of(deps)}/{move}").status_code == 303
    opened = operator.get("/console/aliases/desk/rollback").text
    assert 'name="version" value="1"' in opened
    refused = operator.post("/console/aliases/desk/rollback", {"reason": "alarm", "version": "2"})
    assert (refused.status_code, "alias_moved" in refused.text) == (409, True)
    assert operator.post("/console/aliases/desk/rollback", {"reason": "alarm", "version": "1", "withdraw": "yes"}).status_code == 303
    assert "conflict" in operator.post("/console/aliases/desk/rollback", {"reason": "alarm", "version": "2"}).text


def test_a_job_is_cancelled_from_the_page(deps: Dependencies) -> None:
    operator, run = reader_as(deps, "operator"), run_named(deps, "triage")
    assert f"/console/runs/{run}/cancel" in operator.get(f"/console/runs/{run}").text
    assert "What is finished stays" in operator.get(f"/console/runs/{run}/cancel").text
    assert operator.post(f"/console/runs/{run}/cancel").headers["location"] == f"/console/runs/{run}"
    with deps.ledger.work("acme", write=False) as work:
        assert work.runs.get(run).state is RunState.CANCELLED
    assert operator.post(f"/console/runs/{run}/cancel").status_code == 409


@pytest.mark.parametrize(
    ("form", "status", "code"), [({"reason": "x" * 70_000}, 413, "too_large"), ({"decision": "maybe"}, 400, "field_invalid")]
)
def test_forms_that_cannot_be_used(deps: Dependencies, form: dict[str, str], status: int, code: str) -> None:
    answer = reader_as(deps, "approver").post(f"{page_of(deps)}/statement", form)
    assert (answer.status_code, code in answer.text) == (status, True)


def test_label_errors_are_for_who_may_read_the_data(deps: Dependencies) -> None:
    viewer, reviewer = reader_as(deps, "viewer"), reader_as(deps, "reviewer")
    assert "Look at them" not in viewer.get("/console/data").text
    address = re.search(r"/console/data/[0-9a-f]{64}/labels", reviewer.get("/console/data").text)
    assert address is not None
    assert viewer.get(address[0]).status_code == 403
    assert viewer.post(address[0], {}).status_code == 303
    html = reviewer.get(address[0]).text
    rows = re.findall(r'name="action:(sha256:[0-9a-f]{64})" value="keep"', html)
    assert len(rows) == 8
    decided = {f"action:{rows[0]}": "drop"}
    assert viewer.post(address[0], decided).status_code == 403
    assert reviewer.post(address[0], {f"action:{row}": "" for row in rows}).headers["location"] == address[0]
    assert reviewer.post(address[0], {f"action:{rows[0]}": "burn"}).status_code == 400
    assert reviewer.post(address[0], {f"action:{rows[0]}": "relabel", f"label:{rows[0]}": "unknown"}).status_code == 400
    moved = reviewer.post(address[0], decided)
    assert (moved.status_code, moved.headers["location"] != address[0]) == (303, True)
    assert reviewer.get(address[0]).headers["location"] == moved.headers["location"], "an old address leads to what stands now"
    assert reviewer.post(address[0], decided).status_code == 404, "somebody decided about this row already"
    assert rows[0] not in reviewer.get(moved.headers["location"]).text
    again = reviewer.post(address[0], {f"action:{rows[1]}": "drop"})
    assert again.headers["location"] not in (address[0], moved.headers["location"])
    with deps.ledger.work("acme", write=False) as work:
        assert find_snapshot(work, "desk").manifest.removed == 2, "both decisions are heeded, whatever page they came from"
