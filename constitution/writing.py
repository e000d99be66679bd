"""Principles as a text that says them: for constitutions that a command makes of a file's, as a draft without a key.

The store keeps the text of every constitution that a model was asked under, so these have one, too. JSON, which is
YAML; comments and layout of the file that they came from are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from constitution import loading
from constitution.principles import Constitution, Principle


def written(name: str, principles: Sequence[Principle]) -> Constitution:
    """The constitution of these principles, with a text. Raises ConstitutionError where they make none."""
    entries = [{key: value for key, value in p.as_dict().items() if value not in ("", None, [], (), False, 0)}
               for p in principles]  # fmt: skip
    file = {"constitution": name, "version": 1, "principles": entries}
    return loading.parse(json.dumps(file, ensure_ascii=False, indent=1, default=list), name)
