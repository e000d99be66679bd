"""What `make check` chooses to run: on a small house of its own, whose every answer is known, and on this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import imports, seconds, touched
from tests.imports import dependencies

ROOT = Path(__file__).parents[1]
Graph = dict[str, set[str]]
FILES = {
    "attic/__init__.py": "",
    "attic/base.py": "",
    "attic/middle.py": '"""A docstring may name attic.top."""\nfrom attic import base\nPAGE = "page.html"\n',
    "attic/top.py": "from attic.middle import PAGE\n",
    "attic/plugins.py": "",
    "attic/templates/page.html": "",
    "attic/judges/__init__.py": "from attic import plugins\n",
    "attic/judges/coin.py": "",
    "cellar/__init__.py": "",
    "cellar/main.py": "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'attic.top'])\n",
    "tests/conftest.py": "",
    "tests/test_house.py": "",
    "tests/attic/conftest.py": "",
    "tests/attic/test_base.py": "from attic.base import anything\n",
    "tests/attic/test_page.py": "import attic.top\n",
    "tests/attic/test_judging.py": "import attic.judges\n",
    "tests/cellar/test_main.py": "def test_it():\n    from cellar import main\n",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("house")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def graph(house: Path) -> Graph:
    return dependencies(house, by_name={})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("tests/attic/test_page.py", {"attic/test_page.py": 0}),
        ("attic/top.py", {"attic/test_page.py": 1, "cellar/test_main.py": 2}),  # started by its name
        ("attic/middle.py", {"attic/test_page.py": 2, "cellar/test_main.py": 3}),
        ("attic/base.py", {"attic/test_base.py": 1, "attic/test_page.py": 3, "cellar/test_main.py": 4}),
        ("attic/judges/coin.py", {"attic/test_judging.py": 2}),  # found by its name
        ("attic/templates/page.html", {"attic/test_page.py": 1, "cellar/test_main.py": 4}),  # named by middle; mirrored
        ("tests/attic/conftest.py", {f"attic/test_{name}.py": 1 for name in ("base", "page", "judging")}),
        ("cellar/__init__.py", {"cellar/test_main.py": 2}),
        ("docs/unnamed.md", {}),
    ],
)
def test_a_change_touches_what_is_built_on_it(change: str, found: dict[str, int], house: Path, graph: Graph) -> None:
    answer = touched.touched([change], graph, house)
    assert list(answer.values()) == sorted(answer.values())
    assert answer.pop("tests/test_house.py") == 1  # looks at the whole
    assert answer == {f"tests/{name}": distance for name, distance in found.items()}


def test_no_change_touches_nothing(house: Path, graph: Graph) -> None:
    assert touched.touched([], graph, house) == {}


def test_of_two_tests_as_near_the_one_of_the_same_package_is_first() -> None:
    near = {"tests/attic/test_a.py": 1, "tests/cellar/test_b.py": 1, "tests/attic/test_c.py": 0}
    assert list(touched.ordered(near, {"cellar/x.py"})) == [
        f"tests/{n}.py" for n in ("attic/test_c", "cellar/test_b", "attic/test_a")
    ]


def test_a_test_that_was_deleted_is_not_run(tmp_path: Path) -> None:
    assert touched.touched(["tests/test_gone.py"], {}, tmp_path) == {}


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)


def test_a_change_is_all_since_the_branch_left_main(tmp_path: Path) -> None:
    def commit(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-m", "x")

    def found() -> list[str]:
        return touched.changed(tmp_path, touched.base(tmp_path))

    git(tmp_path, "init", "-q")
    commit(old="1", gone="1")
    assert found() == ["gone", "old"]  # the first commit: all is new
    commit(second="2")
    assert found() == ["second"]  # no origin/main: the last commit
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert found() == []
    commit(third="3")
    (tmp_path / "old").write_text("2")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("")
    assert found() == ["gone", "new", "old", "third"]
    (tmp_path / ".gitignore").write_text("new\n")
    assert found() == [".gitignore", "gone", "old", "third"]


def test_what_fits_is_chosen_the_nearest_first_and_what_changed_always() -> None:
    found = {"changed": 0, "near": 1, "long": 2, "far": 3, "unknown": 4}
    took = {"changed": 50.0, "near": 4.0, "long": 30.0, "far": 2.0}
    assert touched.fitting(found, took, 60.0) == ["changed", "near", "far"]
    assert touched.fitting(found, took, 61.0) == ["changed", "near", "far", "unknown"]
    assert touched.fitting(found, took, 1.0) == ["changed"]


def test_the_seconds_of_a_file_are_those_of_its_tests_that_are_not_slow(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import time, pytest\n"
        "def test_one(): time.sleep(0.2)\n"
        "@pytest.fixture\ndef wait(): time.sleep(0.2)\n"
        "def test_two(wait): pass\n"
        "@pytest.mark.slow\ndef test_three(): time.sleep(0.5)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", f"--rootdir={tmp_path}", str(tmp_path)]
    for more in ((), ("-k", "one")):  # a part of them does not make the rest forgotten
        done = subprocess.run([*command, *more, "-c", str(tmp_path / "pytest.ini")], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stdout.decode()
        assert 0.4 <= seconds.by_file(tmp_path)["test_it.py"] < 0.9
    assert seconds.by_file(tmp_path / "nothing") == {}


def test_every_module_of_this_house_is_in_the_reach_of_a_test() -> None:
    """Beside those that look at the whole. A module that is loaded by name and forgotten here would be in none's."""
    graph = dependencies(ROOT)
    assert not [f for f in graph if not (ROOT / f).is_file() and not f.endswith("conftest.py")]
    ours = [f for f in graph if not f.startswith("tests/")]
    reach = {f: touched.touched([f], graph, ROOT) for f in ours if f not in ("sandbox/recipe.py", "sandbox/corpus.py")}
    assert [f for f, tests in reach.items() if all(name.count("/") == 1 for name in tests)] == []
    assert [f for f in imports.BY_NAME if f not in graph] == []
