"""The stored prompts that are nearest to a typed one, by the words they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def nearest(query: str, texts: Sequence[str], most: int) -> list[tuple[int, float]]:
    """The places of the `most` texts nearest to the query, with their cosine (0 to 1), the nearest first.

    TF-IDF over words, fitted on the texts and the query. Texts that share no word with it are left out.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        # token_pattern: words of one letter count, too; sklearn's own drops "I" and "a"
        matrix = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True).fit_transform([query, *texts])
    except ValueError:  # there is no word in any of them
        return []
    cosines = (matrix[1:] @ matrix[0].T).toarray()[:, 0]
    order = np.argsort(-cosines, kind="stable")[:most]
    return [(int(i), min(1.0, float(cosines[i]))) for i in order if cosines[i] > 0]
