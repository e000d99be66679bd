"""What Typer's command tree lacks here: a group that falls back to one of its commands, and commands under an old name.

Both keep command lines of earlier versions working. What they say of it goes to standard error, one line.
"""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from cli.screen import tell

# The panels of `precept --help`, by job, in this order.
FLOWS = "Run and schedule flows"
CONSTITUTION = "The constitution"
REVIEW = "Review"
MODELS = "Train and models"
DATA = "Data and store"
MORE = "More"
PANELS = (FLOWS, CONSTITUTION, REVIEW, MODELS, DATA, MORE)


class ByPanel(TyperGroup):
    """A group whose help shows its panels in their order; Typer would show groups after commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        panels = {name: getattr(command, "rich_help_panel", None) for name, command in self.commands.items()}
        return sorted(self.commands, key=lambda name: (*PANELS, panels[name]).index(panels[name]))


class Falling(TyperGroup):
    """A group in which words that name none of its commands are those of its default one."""

    default: ClassVar[str]
    alone: ClassVar[bool]  # whether nothing at all is the default command, too, and not a question for help
    was: ClassVar[str]  # the command line of an earlier version that is understood so; empty where it is today's

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        asks_help = bool(args) and args[0] in ctx.help_option_names
        named = bool(args) and args[0] in self.commands
        nothing = not args and (ctx.resilient_parsing or not self.alone)
        if not (asks_help or named or nothing):
            if self.was and not ctx.resilient_parsing:
                tell(f"precept {self.was} is now: {ctx.command_path} {self.default}")
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def falling(default: str, *, alone: bool = False, was: str = "") -> type[Falling]:
    """The class of a group that falls back to `default`."""
    return type("Falling", (Falling,), {"default": default, "alone": alone, "was": was})


def renamed(new: str) -> type[TyperCommand]:
    """The class of a command that says under which name it is known today."""

    class Renamed(TyperCommand):
        def invoke(self, ctx: Any) -> Any:
            tell(f"{ctx.command_path} is now: precept {new}")
            return super().invoke(ctx)

    return Renamed
