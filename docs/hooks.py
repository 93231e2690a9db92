"""Hooks of the documentation site: reference pages generated from the code, and links to files outside ``docs/``.

mkdocs calls the functions named ``on_...``. The generated pages exist in the site alone, so they cannot be out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.core import TyperArgument, TyperGroup

from agr_core.config import TrialConfig
from orchestrator.cli.lazy import COMMANDS, load

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>(?:\.\./)+[^)#\s]*)(?:#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, text in (("reference/commands.md", commands_page()), ("reference/trial.md", trial_page())):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Show a link to a file of the repository outside ``docs/`` as its path; the site does not hold such files."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def path_of(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if not target.exists() or target.is_relative_to(ROOT / "docs"):
            return link[0]  # a page of the site, or a broken link, which mkdocs reports
        path = target.relative_to(ROOT).as_posix()
        text = link["text"].strip("`")
        return f"`{path}`" if text in path else f"{text} (`{path}`)"

    return _LINK.sub(path_of, markdown)


def commands_page() -> str:
    """Every command with its arguments and options, from the commands themselves."""
    lines = ["# Commands", "", "Results go to standard output, everything else to standard error. Exit codes: 0 done,"]
    lines += ["1 the work failed, 2 the input was wrong, 130 interrupted.", ""]
    for name in sorted(name for name, listed in COMMANDS.items() if not listed.hidden):
        for path, command in _commands(f"agr {name}", load(name)):
            lines += _command(path, command)
    return "\n".join(lines) + "\n"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            yield from _commands(f"{path} {name}", command.commands[name])
    elif not command.hidden:
        yield path, command


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [param for param in command.params if isinstance(param, TyperArgument)]
    options = [param for param in command.params if not isinstance(param, TyperArgument)]
    usage = " ".join([path, *(_spelling(argument) + "…" * (argument.nargs == -1) for argument in arguments)])
    yield from (f"## {path}", "", *_paragraphs(command.help or ""), "```text", usage, "```", "")
    shown = [(param, param.help or "") for param in (*arguments, *options)]
    rows = [(_spelling(param), " ".join(text.split())) for param, text in shown if not getattr(param, "hidden", False)]
    if rows:
        yield from ("| argument or option | meaning |", "|---|---|")
        yield from (f"| `{spelling}` | {_cell(text)} |" for spelling, text in rows)
        yield ""


def _spelling(param: Any) -> str:
    value = param.metavar or param.name.upper()
    if isinstance(param, TyperArgument):
        return value if param.required else f"[{value}]"
    return ", ".join(param.opts) + ("" if param.is_flag else f" {value}")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b", "").split("\n\n"):
        yield from (_escaped(" ".join(paragraph.split())), "")


def trial_page() -> str:
    """Every field of TrialConfig: its type, default and meaning, from its JSON schema."""
    schema = TrialConfig.model_json_schema()
    models = schema["$defs"]
    lines = [
        "# Settings of a trial",
        "",
        "Everything under `trial` and `space` of a sweep file, as dotted paths. A part",
    ]
    lines += ["with a `name` has one table for each name.", ""]
    lines += _model("trial", models["TrialConfig"], models, {"TrialConfig"})
    return "\n".join(lines) + "\n"


def _model(path: str, schema: dict[str, Any], models: dict[str, Any], seen: set[str]) -> list[str]:
    later: list[tuple[str, str]] = []
    lines = [f"## {path}", "", *_paragraphs(schema.get("description", "")), "| field | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    for name, field in schema.get("properties", {}).items():
        below = [reference.rsplit("/", 1)[-1] for reference in _references(field)]
        later += [(f"{path}.{name}".removeprefix("trial."), model) for model in below]
        default = (
            f"`{field['default']}`" if "default" in field else "required" if name in schema.get("required", ()) else ""
        )
        lines.append(f"| `{name}` | {_cell(_type(field))} | {_cell(default)} | {_cell(field.get('description', ''))} |")
    lines.append("")
    for below_path, model in later:
        if model not in seen and models[model].get("properties"):
            seen.add(model)
            constant = models[model]["properties"].get("name", models[model]["properties"].get("encoding", {}))
            lines += _model(
                f"{below_path}: {constant['const']}" if "const" in constant else below_path, models[model], models, seen
            )
    return lines


def _references(field: Any) -> Iterator[str]:
    if isinstance(field, dict):
        if "$ref" in field:
            yield field["$ref"]
        for key, value in field.items():
            if key != "discriminator":
                yield from _references(value)
    elif isinstance(field, list):
        for value in field:
            yield from _references(value)


def _type(field: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1].removesuffix("Config"))
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(dict.fromkeys(_type(each) for each in field.get("anyOf", field.get("oneOf", []))))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}".removesuffix(" of ")
    bounds = [
        f"{sign} {field[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in field
    ]
    return " ".join([str(field.get("type", "")), ", ".join(bounds)]).strip()


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;") if "`" not in text else text
