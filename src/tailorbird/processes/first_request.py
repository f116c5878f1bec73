"""A first request to what is in production, as a line for a shell."""

from __future__ import annotations

import json

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
    with deps.ledger.work(deps.host, write=False) as work:
        name = next((alias for alias in work.aliases.all() if alias.targets), None)
        if name is None:
            return f"tenant {deps.host} has nothing in production yet: tailorbird promote DIGEST"
        kind = work.releases.get(name.targets[0].release).content.task
    route, asked = _ASKED[kind]
    body = json.dumps({"model": name.path, **asked})
    return (
        f'first request, with what "tailorbird key create" printed in $KEY: curl -sS {base}/v1/{route} -H "authorization: Bearer $KEY" '
        f"-H 'content-type: application/json' -d '{body}'"
    )
