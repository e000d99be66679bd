"""Plug-ins that installed packages add: found by their entry points, and in nobody's way where they are broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from constitution.errors import UserError
from constitution.records import Message
from flows import discovery
from pipeline import engines, judges, plugins, rewards, sources, suites, trainers
from pipeline.asking import Role
from pipeline.engines.engine import Chat, Choose, Engine, EngineSettings, Generate, Sampling, Score
from tests.pipeline.packages import installed, write_package

ROOT = Path(__file__).parents[2]
MODULES = {
    "acme.judge": "def build(role, options, another):\n    return (role, dict(options), another)",
    "acme.train": 'KIND = "policy"\nCOLUMNS = ("prompt",)\nDEFAULTS = {"patience": 1}\ndef train(job, progress): ...',
    "acme.engine": """
        from pipeline.engines.engine import Capabilities
        class Engine:
            fingerprint, capabilities = "quiet", Capabilities()
            def render(self, chat): return []
            def generate(self, requests): return []
            def choose(self, groups): return [[] for group in groups]
            def score(self, requests): return "none"
            def close(self): ...
        def build(settings):
            return Engine() if settings.model != "odd" else settings.model
        """,
    "acme.bare_reward": "def build(options): ...",
    "acme.suite": """
        LIMITS = {"at_least": 0.9}
        def measure(evidence): return []
        def conditions(figures, limits): return figures["no such figure"]
        """,
    "acme.exits": "import sys; sys.exit(3)",
    "acme.bare": "def train(job, progress): ...",
    "acme.falls": "def build(role, options, another):\n    raise KeyError('depth')",
    "acme.broken": "import a_module_that_nobody_has",
    "acme.odd": "raise RuntimeError('odd')",
    "acme.empty": "build = 3",
}
POINTS = {
    "precept.judges": {
        "loud": "acme.judge",
        "two-words": "acme.judge",
        "broken": "acme.broken",
        "odd": "acme.odd",
        "empty": "acme.empty",
        "attribute": "acme.judge:build",
        "choice": "acme.judge",
        "exits": "acme.exits",
        "falls": "acme.falls",
    },
    "precept.trainers": {"patient": "acme.train", "bare": "acme.bare"},
    "precept.engines": {"quiet": "acme.engine"},
    "precept.rewards": {"kindly": "acme.engine", "unkindly": "acme.bare_reward"},
    "precept.suites": {"strict": "acme.suite"},
    "precept.flows": {"nightly": "acme.flow"},
}


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Path]:
    site = write_package(tmp_path / "site", "acme-plugins", POINTS, MODULES)
    with installed(site):
        yield site


def test_what_a_package_adds_is_listed_and_nothing_of_it_is_imported(acme: Path) -> None:
    assert {"choice", "loud", "two_words", "broken", "odd", "empty"} <= set(plugins.names("pipeline.judges", "build"))
    assert {"sft", "patient"} <= set(trainers.methods()) and {"model", "kindly"} <= set(rewards.kinds())
    assert "quiet" in plugins.names("pipeline.engines", "build")
    assert plugins.installed("flows")["nightly"][0].module == "acme.flow"
    assert not {name for name in sys.modules if name.startswith("acme")}
    assert "loud" not in trainers.methods()  # a group is one kind's


def test_it_is_chosen_by_name_like_one_of_the_folder(acme: Path) -> None:
    assert judges.build("loud", "role", {"a": 1}).own[:2] == ("role", {"a": 1})  # type: ignore[arg-type,index]
    assert judges.load("two_words").__name__ == "acme.judge"
    assert trainers.resolve("patient", {"patience": 3}) == {"patience": 3}
    from pipeline import engines

    assert engines.build(EngineSettings(kind="quiet")).fingerprint == "quiet"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"'broken' \(acme.broken of the package acme-plugins 1.0\) cannot be imported: ModuleNotFoundError"),
        ("odd", "cannot be imported: RuntimeError: odd; mend the package"),
        ("exits", "cannot be imported: SystemExit: 3; mend the package"),
        ("empty", r"acme-plugins 1.0\) has no function build; mend the package"),
        ("attribute", "must name a module, like my_package.my_module"),
        (
            "nobody",
            r"no judge 'nobody'; there are attribute, broken, (\w+, )*choice, (\w+, )*empty, .*loud, odd, .*two_words",
        ),
    ],
)
def test_a_broken_one_is_one_message_that_names_its_package_and_the_others_still_work(
    acme: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        judges.load(name)
    assert judges.load("loud")


def test_one_that_misbehaves_after_its_import_is_told_by_name(acme: Path) -> None:
    from pipeline import engines

    with pytest.raises(UserError, match=r"the training method in acme\.bare has no KIND; it must be a str"):
        trainers.resolve("bare", {})
    with pytest.raises(
        UserError, match=r"the judge in acme\.falls failed: KeyError: 'depth'; mend it, or take another"
    ):
        judges.build("falls", Role(cast(Engine, None)))
    with pytest.raises(
        UserError, match=r"the engine in acme\.engine built a str, which is no engine: it has no render"
    ):
        engines.build(EngineSettings(kind="quiet", model="odd"))
    with pytest.raises(UserError, match=r"the kind of reward in acme\.bare_reward failed: AttributeError"):
        rewards.check({"kind": "unkindly"})
    with pytest.raises(
        UserError, match=r"gate\.suites\.strict\.at_least is 'high'; it must be such as 0\.9, its default"
    ):
        suites.check(["strict"], {"strict": {"at_least": "high"}})
    suites.check(["strict"], {"strict": {"at_least": 1}})
    found = suites.Measured("strict", "Strict", ())
    with pytest.raises(UserError, match=r"the suite in acme\.suite failed: KeyError: 'no such figure'"):
        suites.conditions([found])
    engine = engines.build(EngineSettings(kind="quiet"))
    chat = Chat((Message("user", "Hi"),))
    with pytest.raises(UserError, match="generate was asked 1 and answered 0"):
        engine.generate([Generate(chat, Sampling(), 0)])
    with pytest.raises(UserError, match="choose was asked 2 and answered 0"):
        engine.choose([Choose((chat, chat), ("A", "B"))])
    with pytest.raises(UserError, match="score returned a str, and not a list"):
        engine.score([Score(chat, "Ho")])
    assert engine.generate([]) == []


def test_a_name_that_the_folder_has_is_refused_and_both_are_named(acme: Path) -> None:
    both = "'choice' is claimed by precept itself and by acme.judge of the package acme-plugins 1.0; rename or"
    with pytest.raises(UserError, match=both):
        judges.load("choice")


def test_a_name_of_two_packages_is_refused_and_one_package_found_twice_is_one(acme: Path, tmp_path: Path) -> None:
    twice = write_package(tmp_path / "twice", "acme-plugins", POINTS, {})
    other = write_package(tmp_path / "other", "rival", {"precept.judges": {"loud": "rival.judge"}}, {}, "2.0")
    with installed(twice):
        assert judges.load("loud")
    with installed(other):
        claimed = "claimed by acme.judge of the package acme-plugins 1.0 and by rival.judge of the package rival 2.0"
        with pytest.raises(UserError, match=claimed):
            judges.load("loud")
        assert "loud" in plugins.names("pipeline.judges", "build")


def test_entry_points_are_read_only_when_somebody_asks_and_once(acme: Path) -> None:
    code = (
        "import sys; from pipeline import plugins, judges, trainers, rewards, engines;"
        "print('importlib.metadata' in sys.modules, plugins._entry_points.cache_info().misses);"
        "plugins.names('pipeline.judges', 'build'); trainers.methods(); rewards.kinds();"
        "print(plugins._entry_points.cache_info().misses, 'loud' in plugins.names('pipeline.judges', 'build'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": f"{ROOT}:{acme}"}
    )
    assert done.returncode == 0, done.stderr
    first, then = done.stdout.splitlines()
    assert (first.split()[1], then) == ("0", "1 True")


@pytest.mark.parametrize(
    ("load", "wrong", "right"),
    [
        (judges.load, "resoned", "reasoned"), (trainers.load, "dpoo", "dpo"), (engines.load, "opnai", "openai"),
        (rewards.load, "modle", "model"), (sources.load, "fiel", "file"), (suites.load, "truthfulnes", "truthfulness"),
        (discovery.load, "imrove", "improve"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_one_is_told_with_what_was_meant(load: Any, wrong: str, right: str) -> None:
    with pytest.raises(UserError, match=f"{wrong!r}; there are .*; did you mean {right}[?]$"):
        load(wrong)
