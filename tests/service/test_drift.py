"""A remote model that changed under its declared revision is refused; one that did not is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitution.errors import UserError
from service.work.drift import refuse_moved
from storage.store import Store


class Remote:
    def __init__(self, fingerprint: str, answers: list[float]) -> None:
        self.fingerprint, self._answers = fingerprint, answers

    def canary(self) -> list[float]:
        return self._answers


def test_canaries_are_kept_by_revision_and_drift_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "x.db") as store:
        refuse_moved(store, "judge", Remote("revision-1", [-0.5, -1.0]))
        refuse_moved(store, "judge", Remote("revision-1", [-0.51, -1.01]))
        with pytest.raises(UserError, match=r"judge.*moved by 0.50"):
            refuse_moved(store, "judge", Remote("revision-1", [-0.5, -1.5]))
        refuse_moved(store, "judge", Remote("revision-2", [-0.5, -1.5]))
        with pytest.raises(UserError):  # the first answers stay the ones compared with
            refuse_moved(store, "judge", Remote("revision-1", [-0.5, -1.5]))


def test_an_engine_with_a_real_fingerprint_has_no_canaries(tmp_path: Path) -> None:
    with Store.open(tmp_path / "x.db") as store:
        refuse_moved(store, "policy", object())
        assert store.canaries("none", {}) == {}
