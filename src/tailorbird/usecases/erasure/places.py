"""Places that may hold a data subject's data: folders of the workspace, tables of the record, and what lies outside.

Every folder of a workspace and every table is named in ``PLACES``; tests fail for one that is not. A certificate lists them all, with what
the erasure did about each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.erasure import PlaceTreated, Treatment


@dataclass(frozen=True)
class DataPlace:
    """One place. ``folders`` are files and folders of the workspace, by patterns; ``tables`` those of the record. ``by_name`` says that its
    texts are searched for the person's name."""

    name: str
    treatment: Treatment
    how: str
    folders: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    by_name: bool = False


_SEARCHED, _CLEARED, _NO_DATA, _NOT_SEARCHED = Treatment.SEARCHED, Treatment.CLEARED, Treatment.NO_DATA, Treatment.NOT_SEARCHED

#: How texts are searched, said of each place where they are.
_BY_TEXTS = "texts of fewer than eight words are known again only where nothing else is said"
_BY_NAME = f"; searched for the name as it was given, as words of their own; {_BY_TEXTS}"
_NOT_BY_NAME = f"; NOT searched for the person's name, which is too short; {_BY_TEXTS}"

PLACES = (
    DataPlace(
        "artifacts",
        _SEARCHED,
        "rows and documents of snapshots, results with texts, indexes: destroyed, in the folder or the object store (there without earlier "
        "versions, where the bucket keeps any); bytes that another tenant has stored as its own stay that tenant's",
        folders=("artifacts",),
        tables=("stored",),
    ),
    DataPlace(
        "uploads",
        _SEARCHED,
        "uploaded files, submitted or not, and uploads under way: searched for the name and for texts of the person, and destroyed; files "
        "that are neither text nor table are listed as unread",
        folders=("uploads",),
        by_name=True,
    ),
    DataPlace(
        "caches",
        _CLEARED,
        "local copies of what was destroyed, and what production is compared with: removed on this machine; each other machine that runs "
        "tailorbird removes its own within ten minutes, or when it next starts",
        folders=("cache", "erasures.json"),
    ),
    DataPlace(
        "working folders",
        _CLEARED,
        "training checkpoints, trained weights and logs of the runs that were reached, vectors of all runs: removed, as the caches are",
        folders=("runs",),
    ),
    DataPlace(
        "indexes and annotations",
        _CLEARED,
        "which indexes the tenant stored, and labels of teachers that were not handed over yet: removed, as the caches are",
        folders=("indexes", "annotations"),
    ),
    DataPlace(
        "prompts and label reviews",
        _SEARCHED,
        "prompts with demonstrations that no release needs, logs of searches that tried such prompts, answers on review "
        "sheets, reasons of reviewers: deleted",
        tables=("records", "judgements", "model_reviews"),
        by_name=True,
    ),
    DataPlace(
        "requests",
        _SEARCHED,
        "kept words, labels, the answer queue, users, sketches and predictions of the person's requests: deleted",
        tables=("contents", "feedback", "reviews", "requests"),
        by_name=True,
    ),
    DataPlace(
        "decisions and splits", _SEARCHED, "what was decided about the rows, and their side: deleted", tables=("decisions", "splits")
    ),
    DataPlace(
        "releases",
        _NOT_SEARCHED,
        "a release is signed as a whole: demonstrations in its prompt stay in the record until the tenant is removed, and so do reasons of "
        "approvers; releases that hold or have learned something of the person are named, with the day by which they must go",
        tables=("releases", "approvals"),
    ),
    DataPlace(
        "engine memory",
        _NOT_SEARCHED,
        "weights, indexes and prompts leave memory with their release; keys and values of a request when others need the room",
    ),
    DataPlace(
        "the rest of the record",
        _NO_DATA,
        "names of identities, digests, numbers, and the keyed pseudonym by which the person stays left out",
        folders=("tailorbird.db*",),
        tables=(
            *(
                "alias_moves",
                "aliases",
                "anchor_nodes",
                "anchored_rows",
                "api_keys",
                "checkpoints",
                "data_keys",
                "erasures",
                "gateways",
                "identities",
                "key_usage",
                "log_entries",
            ),
            *("log_frontier", "log_nodes", "looks", "rollouts", "runs", "secrets", "sessions", "signals", "steps", "tenants", "time_floor"),
            "usage",
        ),
    ),
    DataPlace(
        "keys, settings and base models",
        _NO_DATA,
        "what is the installation's own",
        folders=("keys", "log.sealed", "settings.yaml", "permissions", "shipping", "models", ".probe-*"),
    ),
    DataPlace("sources", _NOT_SEARCHED, "files, storages and data sets that objectives name are their owner's"),
    DataPlace("backups", _NOT_SEARCHED, "a backup made before the erasure holds what it held; after a restore, erase again"),
    DataPlace("exports", _NOT_SEARCHED, "exported models, reports, evidence and certificates that were written elsewhere"),
    DataPlace("outside systems", _NOT_SEARCHED, "other engines, trackers, receivers of alerts, logs, snapshots of disks, swap space"),
)


def treated(*, name_looked_for: bool = True) -> tuple[PlaceTreated, ...]:
    """All places, as a certificate lists them."""
    how = _BY_NAME if name_looked_for else _NOT_BY_NAME
    return tuple(
        PlaceTreated(name=place.name, treatment=place.treatment, how=place.how + (how if place.by_name else "")) for place in PLACES
    )
