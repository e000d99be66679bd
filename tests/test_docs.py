"""The documentation against the code: commands, settings, files and figures that it names exist."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from constitution import loading

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _figures() -> Any:
    spec = importlib.util.spec_from_file_location("figures", ROOT / ".ci" / "figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _code(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    from typer.main import get_command

    from cli.main import app

    every: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    known = {name: command for name, command in every.items() if not command.hidden}  # today's names
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"(?:^|[`\s])precept ([a-z]+)(?: ([a-z]+))?", "\n".join(_code(text)) + "\n".join(re.findall(r"`[^`\n]+`", text))
    )
    for command, sub in named:
        assert command in known, f"{page.name}: precept {command}"
        subcommands = getattr(known[command], "commands", None)
        if subcommands and not (getattr(known[command], "alone", False) and not sub):
            assert sub in subcommands, f"{page.name}: precept {command} {sub}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_and_module_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
    for module in re.findall(r"python -m ((?:benchmarks|sandbox)\.\w+)", text):
        assert importlib.util.find_spec(module), f"{page.name}: {module}"


def test_every_setting_says_what_it_does_in_a_sentence() -> None:
    from service.queries.settings import sections

    for section in sections():
        assert section.does.endswith("."), section.name
        for known in section.settings:
            assert known.does[:1].isupper() or known.does[:1] in "`p", known
            assert known.does.endswith(".") and "\n" not in known.does, known


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_settings_in_pages_are_settings(page: Path) -> None:
    from service.settings import Settings

    for block in _code(page.read_text(encoding="utf-8"), "toml") + [
        b for b in _code(page.read_text(encoding="utf-8")) if re.match(r"\[\w+\]\n", b)
    ]:
        Settings.model_validate(tomllib.loads(block))


def test_the_example_principle_of_the_docs_loads() -> None:
    block = _code((ROOT / "docs" / "constitution.md").read_text(encoding="utf-8"), "yaml")[0]
    assert loading.parse(block, "docs/constitution.md").principles[0].id == "direct"


def test_the_figures_of_the_readme_are_ranges_that_ci_can_check() -> None:
    figures = _figures()
    ranges = figures.ranges((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(ranges) >= 8 and all(low < high for _, low, high in ranges)
    with pytest.raises(ValueError, match="no table"):
        figures.ranges("nothing")


def test_a_figure_outside_its_range_fails(tmp_path: Path) -> None:
    figures = _figures()
    (tmp_path / "readme").write_text("<!-- figures -->\n| a | `x.y` | 0.5 | 1 |\n<!-- /figures -->")
    (tmp_path / "good").write_text('{"x": {"y": 0.7}}')
    (tmp_path / "bad").write_text('{"x": {"y": 0.4}}')
    assert figures.main(str(tmp_path / "good"), str(tmp_path / "readme")) == 0
    assert figures.main(str(tmp_path / "bad"), str(tmp_path / "readme")) == 1


def test_the_map_of_the_house_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = [p.parent.name for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests",)]
    for package in packages:
        assert f"{package}/" in readme, package


def test_every_option_of_the_openai_engine_is_told_with_its_default() -> None:
    import json

    from pipeline.engines.openai import Options

    page = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| .+ \|$", page, re.MULTILINE))
    assert rows == {name: json.dumps(field.default) for name, field in Options.model_fields.items()}
