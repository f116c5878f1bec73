"""The registry of use cases: what it derives from a function, what it refuses, and how it is asked."""

from __future__ import annotations

from typing import Annotated, cast

import pytest
from pydantic import Field, ValidationError

from support.doubles import FixedClock
from support.usecases import VIEWER
from tailorbird.auth import Action
from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.domain.identity import ApiKey, Scope
from tailorbird.domain.value import Value
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.registry import UseCase, UseCaseRegistry, perform, perform_for_program, perform_request, use_cases


class NoDependencies:
    """For use cases that ask for none, whichever tenant's they are."""

    def for_tenant(self, _tenant: str) -> NoDependencies:
        return self


DEPS = cast(Dependencies, NoDependencies())


class Echo(Value):
    """What was asked."""

    said: str


RunName = Annotated[str, Field(min_length=1, max_length=8, description="Id of the run.")]


def show(_deps: Dependencies, actor: Actor, run: RunName, limit: Annotated[int, Field(ge=1)] = 50, *, whole: bool = False) -> Echo:
    """Show a run.

    Raises nothing.
    """
    return Echo(said=f"{actor.name} {run} {limit} {whole}")


def nothing(_deps: Dependencies, actor: Actor) -> Echo:
    """Ask nothing in particular."""
    return Echo(said=actor.name)


def shown() -> UseCase[..., Echo]:
    return UseCaseRegistry().usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)(show)


def test_the_request_has_a_field_for_each_parameter_with_its_constraints_and_default() -> None:
    made = shown()
    schema = made.request.model_json_schema()
    assert schema["required"] == ["run"]
    assert schema["properties"]["run"] == {
        "description": "Id of the run.",
        "maxLength": 8,
        "minLength": 1,
        "title": "Run",
        "type": "string",
    }
    assert schema["properties"]["limit"] == {"default": 50, "minimum": 1, "title": "Limit", "type": "integer"}
    assert (made.response, made.summary, made.in_path, made.noun) == (Echo, "Show a run.", ("run",), "run")


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        shown().request.model_validate({"run": "r", "sort": "up"})
    with pytest.raises(InvalidInput) as refused:
        shown().read({"run": "r", "sort": "up"})
    assert (refused.value.error_code, refused.value.param) == ("field_invalid", "sort")


def test_an_argument_that_breaks_a_constraint_is_named_without_what_it_holds() -> None:
    with pytest.raises(InvalidInput, match=r"^run: ") as refused:
        perform(DEPS, VIEWER, shown(), run="secretsecret")
    assert "secret" not in str(refused.value)


def test_it_is_asked_with_named_arguments_and_answers_as_the_function_does() -> None:
    made = shown()
    assert perform(DEPS, VIEWER, made, run="r").said == "viewer r 50 False"
    assert perform(DEPS, VIEWER, made, "r", limit=2, whole=True).said == "viewer r 2 True"
    assert perform_request(DEPS, VIEWER, made, made.read({"run": "r", "limit": "3"})).said == "viewer r 3 False"


def test_a_direct_call_is_the_functions_and_asks_for_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    made = UseCaseRegistry().usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)(show)
    denied: list[str] = []

    def refuse(_deps: Dependencies, _actor: Actor, action: Action, subject: str = "", asked: str = "") -> None:
        denied.append(f"{action.value} {subject}")
        raise Forbidden("no", "ask somebody else")

    monkeypatch.setattr(f"{perform.__module__}.permit", refuse)
    with pytest.raises(Forbidden):
        perform(DEPS, VIEWER, made, run="r")
    assert denied == ["run.show run.show"]
    assert made(DEPS, VIEWER, "r").said == "viewer r 50 False"


def test_a_program_asks_what_its_key_has_the_scope_for() -> None:
    made = UseCaseRegistry().usecase("nothing.ask", "POST", "/api/nothing", Action.SHOW_RUN, scope=Scope.FEEDBACK)(nothing)
    usual = {"id": "0" * 12, "tenant": "acme", "name": "shop", "secret_sha256": "", "created_at": FixedClock().now()}
    key = ApiKey.model_validate(usual | {"scopes": frozenset({Scope.FEEDBACK})})
    assert perform_for_program(DEPS, key, made, made.request()).said == f"key-{'0' * 12}"
    other = key.model_copy(update={"scopes": frozenset(set(Scope) - {Scope.FEEDBACK})})
    for refused, one in ((other, made), (key, UseCaseRegistry().usecase("a.b", "GET", "/api/b", Action.SHOW_RUN)(nothing))):
        with pytest.raises(Forbidden) as missing:
            perform_for_program(DEPS, refused, one, one.request())
        assert missing.value.error_code == "scope_missing"


def test_a_name_is_declared_once() -> None:
    registry = UseCaseRegistry()
    registry.usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)(show)
    with pytest.raises(ValueError, match=r"run\.show is declared twice"):
        registry.usecase("run.show", "GET", "/api/other", Action.SHOW_RUN)(nothing)


@pytest.mark.parametrize("path", ["/api/runs/{run}", "/api/runs/{other}", "/api/runs/newest", "/api/{noun}/list"])
def test_a_path_that_another_may_answer_is_refused(path: str) -> None:
    registry = UseCaseRegistry()
    registry.usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)(show)
    with pytest.raises(ValueError, match="could mean both"):
        registry.usecase("run.other", "GET", path, Action.SHOW_RUN)(nothing)
    registry.usecase("run.other", "POST", path, Action.SHOW_RUN)(nothing)


def test_every_use_case_of_the_house_can_be_asked() -> None:
    known = use_cases()
    assert [made.name.partition(".")[0] for made in known] == sorted(made.name.partition(".")[0] for made in known)
    for made in known:
        assert set(made.in_path) <= set(made.request.model_fields), made.name
        assert issubclass(made.response, Value), made.name
        assert made.request.model_config["extra"] == "forbid", made.name
