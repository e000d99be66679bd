"""`precept constitution`: files of principles, what puts them in force, and what stored verdicts say of them.

YAML, pydantic, rich and the store are imported by the command that needs them, so that `precept --help` stays instant.
A mistake is raised as UserError; the entry point prints it and exits with 2.
"""

from __future__ import annotations

import typer

from cli.constitution import amend, annotated, attribute, compare, diff, examples, files, history, lint, stress

FILE = "The file"
FORCE = "What is in force"
SAID = "What the judge says of it"

app = typer.Typer(no_args_is_help=True, help="Write, check, compare and amend the file of principles.")
app.command("new", rich_help_panel=FILE)(files.new)
app.command("check", rich_help_panel=FILE)(files.check)
app.command("show", rich_help_panel=FILE)(files.show)
app.command("diff", rich_help_panel=FILE)(diff.diff)
app.command("amend", rich_help_panel=FORCE)(amend.amend)
app.command("log", rich_help_panel=FORCE)(history.log)
app.command("blame", rich_help_panel=FORCE)(history.blame)
app.command("restore", rich_help_panel=FORCE)(history.restore)
app.command("test", rich_help_panel=SAID)(examples.test)
app.command("lint", rich_help_panel=SAID)(lint.lint)
app.command("attribute", rich_help_panel=SAID)(attribute.attribute)
app.command("compare", rich_help_panel=SAID)(compare.compare)
app.command("stress", rich_help_panel=SAID)(stress.stress)
app.command("export", rich_help_panel=SAID)(annotated.export)
