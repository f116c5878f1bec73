"""Columns and naming of the ledger's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, MetaData, String, false

#: One spelling for the names of constraints.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def tenant_column() -> Column[str]:
    """The tenant that a row belongs to, first in its key."""
    return Column("tenant", String, ForeignKey("tenants.name"), primary_key=True)


def key_column(name: str) -> Column[str]:
    """A part of the key."""
    return Column(name, String, primary_key=True)


def text_column(name: str) -> Column[str]:
    """A text that is there."""
    return Column(name, String, nullable=False)


def said_column(name: str) -> Column[str]:
    """A text that may be empty."""
    return Column(name, String, nullable=False, server_default="")


def flag_column(name: str) -> Column[bool]:
    """True or false; false in rows of before."""
    return Column(name, Boolean, nullable=False, server_default=false())


def count_column(name: str) -> Column[int]:
    """A number that may be large."""
    return Column(name, BigInteger, nullable=False)
