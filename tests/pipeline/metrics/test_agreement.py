"""Agreement with people, against a published table."""

from __future__ import annotations

import numpy as np
import pytest

from constitution.records import PROBABILITY, Label
from pipeline.metrics import agreement


def test_agreement_on_a_published_table() -> None:
    """Gwet 2008, table 1 style: two raters, 125 items, 118 agree on the common category, so kappa collapses and AC1
    does not. By hand: a = .944; pi = (.972, .028, 0); e(kappa) = .9456; e(AC1) over 3 categories = .0272."""
    rows = np.array([[0, 0]] * 118 + [[0, 1]] * 5 + [[1, 0]] * 2)
    assert agreement.raw_agreement(rows) == pytest.approx(0.944)
    assert agreement.cohen_kappa(rows) == pytest.approx(-0.0234, abs=5e-4)
    expected = (0.972 * 0.028 + 0.028 * 0.972) / 2
    assert agreement.gwet_ac1(rows) == pytest.approx((0.944 - expected) / (1 - expected))


def test_agreement_leaves_out_skips_and_unreadable() -> None:
    yes, no = Label(b"1" * 16, "decided", 900_000_000), Label(b"2" * 16, "unreadable", PROBABILITY // 2)
    found = agreement.agreement([("first", yes), ("second", yes), ("skip", yes), ("first", no)])
    assert (found["count"], found["left_out"], found["raw"]["mean"]) == (2, 2, 0.5)
    assert agreement.agreement([])["raw"]["mean"] is None
