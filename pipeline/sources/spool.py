"""The prompts of a long file, on disk while they are worked with: a temporary file, of which nothing is held."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Sequence

from constitution.records import Prompt, Split, canonical, known, messages_of
from constitution.streams import Ids, Stream
from pipeline.sources.openings import Openings


class Spool:
    """Prompts as they are read, those that repeat too. `given`: the split that a row gives, where it does; all that
    open alike have the most held out of these."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the prompts are looked at)
        self._begins, self._ids, self._openings = array("q", [0]), Ids(), Openings()

    def put(self, prompt: Prompt, given: Split | None) -> None:
        self._ids.append(prompt.id)
        if given is not None:
            self._openings.say(prompt.messages, given)
        row = [list(prompt.messages), prompt.split, prompt.source, prompt.tags, prompt.principles]
        self._begins.append(self._begins[-1] + self._file.write(canonical(row).encode("ascii")))

    def __len__(self) -> int:
        return len(self._ids)

    def prompts(self) -> Stream[Prompt]:
        """Each prompt once, in the order of the first of those that repeat."""
        self._file.flush()
        first = self._ids.first_places()
        first.sort()
        return Stream(array("q", first.tolist()), self._read)

    def _read(self, places: Sequence[int]) -> list[Prompt]:
        found = []
        for place in places:
            begin, end = self._begins[place : place + 2]
            messages, split, source, tags, principles = json.loads(os.pread(self._file.fileno(), end - begin, begin))
            said = messages_of(messages)
            split = self._openings.split(said, split) if self._openings else split
            found.append(known(Prompt(said, split, source, tuple(tags), tuple(principles)), self._ids[place]))
        return found
