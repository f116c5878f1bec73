"""The key of the log, changed by cross-signing."""

from __future__ import annotations

from tailorbird import auth
from tailorbird.auth import Action
from tailorbird.domain.value import Value
from tailorbird.system.files import OWNER_FILE
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance.audit import ORIGIN, log_key
from tailorbird.usecases.maintenance.checkpoint_shipping import LOG_SUBJECT
from tailorbird.usecases.registry import local


class LogKeyChange(Value):
    """The public keys (base64) of before and now, and the verifier key now."""

    former: str
    public: str
    verifier_key: str


@local(Action.SETTLE_LOG)
def rotate_log_key(deps: Dependencies, actor: Actor) -> LogKeyChange:
    """Makes a new key of the log, which seals and signs from now on. Both keys sign the change, which stands in the log.

    A change that was cut off is done by doing it again. Raises Forbidden, NotFound (the key is on another machine).
    """
    former, folder = log_key(deps), deps.workspace / "keys"
    following, former_file = folder / "log.next.key", auth.former_key_file(deps.workspace)
    if not following.exists():
        auth.create_key(following)
    key, now = auth.load_key(following), deps.clock.now()
    change = LogKeyChange(
        former=auth.public_key(former), public=auth.public_key(key), verifier_key=auth.verifier_key(ORIGIN, auth.public_key(key))
    )
    with deps.ledger.work(actor.tenant) as work:
        record(work, auth.ROTATED, actor.name, LOG_SUBJECT, now, auth.rotation_facts(former, key, now))
    former_file.write_text(change.former + "\n", encoding="ascii")
    former_file.chmod(OWNER_FILE)
    following.replace(folder / "log.key")
    with deps.ledger.work(actor.tenant) as work:
        record(work, "log.sealed_anew", actor.name, LOG_SUBJECT, now)
    former_file.unlink()
    return change
