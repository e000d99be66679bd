"""The sample of a preview: the judge is asked about some of the labels that a draft may turn, and its verdicts stay."""

from __future__ import annotations

from collections.abc import Sequence

from constitution.principles import Constitution
from constitution.records import Id, canonical
from service.queries import pool
from service.queries.preview import Preview, draw, drawn_for, preview
from service.settings import prepare_process
from service.wiring import Wiring
from service.work import life
from service.work.drift import refuse_drift
from service.work.progress import Progress

KIND = "preview"  # of the run that a sample is asked in


def sampled(
    wiring: Wiring, draft: Constitution, sample: int, *, who: str, report: Progress, base: str = "", run: str = ""
) -> Preview:
    """The preview of a draft, with `sample` labels of those that may turn asked about. Raises as `preview` does, and
    BudgetReached at a limit of the settings."""
    drawn = draw(wiring, draft, run, sample)
    _ask(wiring, draft, drawn, who, report, run)
    return preview(wiring, draft, who, base, run, drawn)


def _ask(wiring: Wiring, draft: Constitution, comparisons: Sequence[Id], who: str, report: Progress, run: str) -> None:
    """Ask the judge the draft's questions about some comparisons, those that label each, where it has not been."""
    prepare_process(wiring.settings)
    judge = wiring.asked_judge(wiring.settings.judge)
    store, wiring.constitution = wiring.store, draft
    store.add_questions([judge.question(p) for p in draft])
    missing = {q for _, q in store.missing_verdicts(comparisons, list(set(pool.questions(judge, draft).values())))}
    labels = drawn_for(wiring, draft, run, comparisons)
    wanted = {c: missing if labels is None else missing & labels[c] for c in comparisons}
    if not any(wanted.values()):
        return
    key = canonical({"kind": KIND, "constitution": draft.version, "judge": judge.fingerprint})
    with life.at_work(wiring, KIND, key, {"judge": judge.fingerprint}, who=who, report=report) as work:
        refuse_drift(work, "judge")
        work.ask_judge(KIND, wiring.judge(wiring.settings.judge), comparisons, wanted)
        store.finish_run(work.run.id, "finished", result={})
