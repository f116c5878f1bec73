"""A first request to what is in production, as a line for a shell."""

from __future__ import annotations

import json

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases.dependencies import Dependencies

#: What each kind of task is asked: the route, and the request beside ``model``.
_ASKED: dict[TaskKind, tuple[str, dict[str, object]]] = {
    TaskKind.CLASSIFY: ("chat/completions", {"messages": [{"role": "user", "content": "TEXT"}]}),
    TaskKind.GENERATE: ("chat/completions", {"messages": [{"role": "user", "content": "TEXT"}]}),
    TaskKind.RANK: ("rerank", {"query": "TEXT"}),
}


def first_request(deps: Dependencies, base: str) -> str:
    """A ``curl`` line that asks the first name in production of the gateway at the URL ``base``, with the key in ``$KEY``; what to do first
    where nothing is in production."""
    try:
        with deps.ledger.work(deps.host, write=False) as work:
            name = next((alias for alias in work.aliases.all() if alias.targets), None)
            kind = work.releases.get(name.targets[0].release).content.task if name else None
    except TailorbirdError:  # what serves tells of it: a line of help stops no gateway
        return "the first request cannot be told now: docs/api.md has examples"
    if name is None or kind is None:
        return f"tenant {deps.host} has nothing in production yet: tailorbird promote DIGEST"
    route, asked = _ASKED[kind]
    body = json.dumps({"model": name.path, **asked})
    return (
        f'first request, with what "tailorbird key create" printed in $KEY: curl -sS {base}/v1/{route} -H "authorization: Bearer $KEY" '
        f"-H 'content-type: application/json' -d '{body}'"
    )
