"""What `precept constitution lint --ask` says of judges that are known: how often it blames one that reads or guesses,
and how often it finds one that does not read, or is inverted, by how many examples there are.

    python -m benchmarks.wordings

Five principles a lint, 1,000 lints a row. Answers are drawn independently; a judge that does not read names the same
reply to a question and to its twin.
"""

from __future__ import annotations

import argparse

import numpy as np

from pipeline.metrics.twins import Asked, figures

PRINCIPLES = 5
SAID = ("read", "not read", "inverted", "too few to say")
JUDGES = {  # how often right on the question and on its twin; None: the same reply again
    "reads both, right on 90%": (0.9, 0.9),
    "reads both, right on 75%": (0.75, 0.75),
    "guesses": (0.5, 0.5),
    "does not read, right on 80%": (0.8, None),
    "does not read, right on 50%": (0.5, None),
    "inverted, twin right on 90%": (0.1, 0.9),
    "inverted on 75%, guesses the twin": (0.25, 0.5),
}


def examples(rng: np.random.Generator, n: int, question: float, twin: float | None) -> list[Asked]:
    right = rng.random(n) < question
    other = ~right if twin is None else rng.random(n) < twin  # the same reply is wrong on the twin where it was right
    return [
        Asked(str(i), 0.9 if r else 0.1, 0.1 if t else 0.9) for i, (r, t) in enumerate(zip(right, other, strict=True))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lints", type=int, default=1000)
    lints = parser.parse_args().lints
    rng = np.random.default_rng(0)
    print(f"{'judge':<36}{'examples':>9}" + "".join(f"{said:>16}" for said in SAID) + f"{'a lint blames':>15}")
    for name, (question, twin) in JUDGES.items():
        for n in (5, 10, 20, 40):
            every = [
                [
                    figures("p", "q", "t", examples(rng, n, question, twin), of=PRINCIPLES).said
                    for _ in range(PRINCIPLES)
                ]
                for _ in range(lints)
            ]
            said = [one for some in every for one in some]
            blames = sum(any(one in ("not read", "inverted") for one in some) for some in every) / lints
            shares = "".join(f"{said.count(one) / len(said):>16.1%}" for one in SAID)
            print(f"{name:<36}{n:>9}{shares}{blames:>15.1%}")


if __name__ == "__main__":
    main()
