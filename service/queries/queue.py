"""Which pairs of a run a reviewer is shown, and in which order. Who holds what is `service/actions/review.py`'s.

Each reviewer has an order of their own. `random`: all pairs of the run, and only these answers say how good the judge
is. `uncertain` and `flips` look for what is wrong with it, in a random draw of `DRAWN` pairs: nobody answers more in
one sitting, and to rank all pairs all verdicts would have to be read.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from constitution.errors import UserError
from constitution.records import PROBABILITY, Id
from pipeline.review import Sampling, most_flips, nearest_to_even, shuffled
from service.queries.judged import Judged

DRAWN = 2_000
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)


def order(about: Judged, who: str, sample: Sampling, seed: int = 0) -> list[Id]:
    """The pairs in the order in which `who` is shown them, the answered ones too. Raises UserError for an unknown
    `sample`."""
    if sample not in SAMPLINGS:
        raise UserError(f"pairs cannot be drawn by {sample!r}; choose one of {', '.join(SAMPLINGS)}")
    own = shuffled(about.comparisons, who, seed)
    if sample == "random":
        return own
    drawn = own[:DRAWN]
    if sample == "uncertain":
        labels = about.labels(drawn)
        return nearest_to_even([labels[id] for id in drawn])
    said = about.store.evidence(drawn, list(about.voices))
    differ = (2 * said.p1.astype(np.int64) > PROBABILITY) != (2 * said.p2.astype(np.int64) > PROBABILITY)
    return most_flips(said.comparisons, (differ & said.present).sum(axis=1).tolist())
