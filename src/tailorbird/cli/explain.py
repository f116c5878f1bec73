"""``tailorbird explain``: from an answer back to everything behind it."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.plain_text import tell
from tailorbird.cli.session import open_session, print_json
from tailorbird.reporting import explanation
from tailorbird.usecases.monitoring.explain import explain_request

explain = command()


@explain.command()
def _explain(
    request: Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.")],
) -> None:
    """Trace an answer to its release, evidence, data and approvers."""
    session = open_session()
    found = session.ask(explain_request, request=request)
    print_json(found) if session.as_json else tell(explanation(found))


apps = {"explain": explain}
