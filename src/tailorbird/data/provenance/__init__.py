"""Provenance: origin of every row, amendments outside its file, and proofs over snapshots.

    apply_amendments (erasures, retention, decisions) · merkle_seal (salted tree) · snapshot_rewrite · croissant (metadata)

In: rows as read; frozen snapshots. Out: rows to go on with, roots and proofs, snapshots. Must not know: file formats, splits, duplicates.
"""

from tailorbird.data.provenance.apply_amendments import Amendments, amend_documents, amend_rows
from tailorbird.data.provenance.croissant import croissant, redescribed
from tailorbird.data.provenance.merkle_seal import head, members_of, prove_documents, prove_rows, salt_of, seal_documents, stored

__all__ = [
    "Amendments",
    "amend_documents",
    "amend_rows",
    "croissant",
    "head",
    "members_of",
    "prove_documents",
    "prove_rows",
    "redescribed",
    "salt_of",
    "seal_documents",
    "stored",
]
