"""Constitutions by name: a file, or a revision of the one that is ratified in the store."""

from __future__ import annotations

from pathlib import Path

from constitution import loading
from constitution.errors import UserError
from constitution.principles import Constitution
from storage.store import Store


def read(name: str, store: Store) -> Constitution:
    """The constitution of a file of that path, or of a revision: `ratified`, an amendment's number, the first digits of
    a version. A file goes first. Raises ConstitutionError for a file with mistakes, UserError where nothing fits."""
    if Path(name).is_file():
        return loading.load(name)
    try:
        amendment = store.amendment(name)
    except UserError as error:
        raise UserError(f"{name} is no file, and no revision: {error}") from None
    return loading.parse(amendment.text, f"amendment {amendment.number}")


def ratified(store: Store) -> Constitution:
    """The constitution in force. Raises UserError in a fresh store."""
    amendment = store.amendment("ratified")
    return loading.parse(amendment.text, f"amendment {amendment.number}")
