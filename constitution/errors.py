"""The one exception that is a person's mistake, not ours, and what a person meant by a name that is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do next.

    The command line prints it without a traceback and exits with code 2. Raise anything else for a bug.
    """


def nearest_name(name: str, names: Iterable[str]) -> str:
    """The one of `names` that is spelled much as `name` is, or nothing."""
    known = {each.lower(): each for each in names}
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.7)
    return known[close[0]] if close else ""


def meant(name: str, names: Iterable[str]) -> str:
    """The end of a message about a name that is none of `names`: "; did you mean ...?", or nothing."""
    near = nearest_name(name, names)
    return f"; did you mean {near}?" if near else ""
