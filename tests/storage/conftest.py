"""Small worlds of records for the tests of the store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from constitution.records import Comparison, Generation, Id, Message, Prompt, Question, Verdict, make_id
from storage.store import Store


def a_prompt(text: str) -> Prompt:
    return Prompt((Message("user", text),), "train", "test")


def a_generation(prompt: Prompt, sample: int, text: str, parent: Generation | None = None) -> Generation:
    return Generation(
        id=make_id("test", prompt=prompt.id, sample=sample, parent=parent and parent.id),
        kind="revision" if parent else "response",
        prompt=prompt.id,
        text=text,
        finish_reason="stop",
        engine="scripted",
        parent=parent and parent.id,
        sample=sample,
    )


class World:
    """Records by number: `world.prompt(3)`, `world.question(0)`; `fill` stores pairs and questions."""

    prompt = staticmethod(lambda number: a_prompt(f"prompt {number}"))
    generation = staticmethod(a_generation)

    def response(self, number: int, sample: int = 0, text: str | None = None) -> Generation:
        return a_generation(self.prompt(number), sample, text or f"answer {sample} to {number}")

    def question(self, number: int) -> Question:
        return Question("judge", {"labels": ["A", "B"]}, f"template {number}", f"principle-{number}")

    def comparison(self, number: int) -> Comparison:
        one, other = (self.response(number, sample).content for sample in (0, 1))
        return Comparison.of(self.prompt(number).id, one, other)

    def fill(self, store: Store, comparisons: int, questions: int) -> tuple[list[Id], list[Id]]:
        numbers = range(comparisons)
        store.add_prompts([self.prompt(number) for number in numbers])
        store.add_generations([self.response(number, sample) for number in numbers for sample in (0, 1)])
        pairs = [self.comparison(number) for number in numbers]
        sources = [[self.response(number, sample).id for sample in (0, 1)] for number in numbers]
        store.add_comparisons(pairs, origins=sources)
        asked = [self.question(number) for number in range(questions)]
        store.add_questions(asked)
        return [pair.id for pair in pairs], [question.id for question in asked]

    def verdict(self, question: Id, comparison: Id, p1: float = 0.9, p2: float = 0.9, mass: float = 1.0) -> Verdict:
        numbers = [round(number * 10**9) for number in (p1, p2, mass, mass)]
        return Verdict(question, comparison, *numbers)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code in a process of its own; it reads `sys.argv`, and is killed with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str | int) -> subprocess.Popen[str]:
        command: Sequence[str] = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
