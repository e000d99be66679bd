"""The one exception that is a person's mistake, not ours."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do next.

    The command line prints it without a traceback and exits with code 2. Raise anything else for a bug.
    """
