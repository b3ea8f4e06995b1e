"""Pages of the documentation site made from code, and links that hold on disk turned into links of the site.

A hook of mkdocs (``mkdocs.yml`` names it). README, CONTRIBUTING, CHANGELOG and ``data/README.md`` become
pages as they are; the command line, the configs, the options of a run, the Python API and the tables of the
model zoo are written from the code.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rsfoundation.cli.app import app
from rsfoundation.core.task import Task
from rsfoundation.engine.config import dicts_of, list_configs, load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.inference.predict import PredictOptions
from rsfoundation.models.pretrained.catalogue import WEIGHTS

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/rsfoundation/rsfoundation"
# files outside docs/ that are pages of the site
ADOPTED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "layouts.md",
}
LAYERS = {
    "core": "errors, reports, what a task can do",
    "geometry": "boxes, masks, windows",
    "io": "rasters, label files, vectors, checkpoints",
    "models": "backbones, encoders, necks, heads, detectors, segmentors",
    "datasets": "data sets and transforms",
    "evaluation": "metrics, reports, submissions",
    "engine": "training, testing, export, checkpoints, strategies",
    "inference": "scenes in, maps out",
    "prepare": "making and checking data sets",
    "tasks": "the tasks",
    "ops": "operators without a compiler",
}
# a class that has its own place in the API reference, shown here too
_INSIDE = "    options:\n      heading_level: 3\n      skip_local_inventory: true\n"
_LINK = re.compile(r"(\]\(|<img src=\")([^)\"\s]+)")
_CODE = re.compile(r"`[^`\n]+`")
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?")
_WEIGHTS_TITLE = "Published weights"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from code.

    Args:
        files: Files of ``docs/``.
        config: The site's.
    """
    pages = {
        **{target: (ROOT / source).read_text(encoding="utf-8") for source, target in ADOPTED.items()},
        "reference/cli.md": _command_line(),
        "reference/configs.md": _configs(),
        "reference/options.md": _options(),
        **_api(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links between files of the repository links of the site, or to the repository where no page is.

    Args:
        markdown: Text of the page.
        page: The page.
        config: The site's.
        files: All files of the site.
    """
    name = page.file.src_uri
    adopted = {target: source for source, target in ADOPTED.items()}
    folder = posixpath.dirname(adopted.get(name, f"docs/{name}"))

    def rewrite(match: re.Match[str]) -> str:
        link, _, anchor = match[2].partition("#")
        if not link or "://" in link or link.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, link))
        if path in ADOPTED:
            target = ADOPTED[path]
        elif path.startswith("docs/") and files.get_file_from_path(path[len("docs/") :]):
            target = path[len("docs/") :]
        else:
            return f"{match[1]}{REPOSITORY}/tree/main/{path}"
        relative = posixpath.relpath(target, posixpath.dirname(name) or ".")
        return f"{match[1]}{relative}{'#' + anchor if anchor else ''}"

    text = _bars_in_code(_LINK.sub(rewrite, markdown))
    if name == "zoo.md":
        text += "\n\n" + _zoo(json.loads((ROOT / "docs" / "zoo.json").read_text()))
    return text


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show names that docstrings mark with a role of Sphinx as code.

    Args:
        html: Content of the page.
        page: The page.
        config: The site's.
        files: All files of the site.
    """
    return _ROLE.sub("<code>", html)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table.

    Args:
        columns: Headings.
        rows: Cells; bars and line breaks are escaped.
    """
    lines = [list(columns), ["---"] * len(columns), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _bars_in_code(text: str) -> str:
    """Take the backslash from bars in code of tables: GitHub needs it, Python-Markdown shows it."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("|"):
            lines[number] = _CODE.sub(lambda code: code[0].replace("\\|", "|"), line)
    return "\n".join(lines)


def _command_line() -> str:
    """Write one section per verb: usage, arguments, options, as ``--help`` says them."""
    parts = [
        "# Command line\n\nWhat `rsf VERB --help` prints, of every verb. Options of all verbs: `--debug` and "
        "`--help`. Exit status: 0 done, 1 some scenes or checks failed, 2 an error that the message "
        "explains.\n"
    ]
    for command in _commands(typer.main.get_command(app), "rsf"):
        parts.append(command)
    return "\n".join(parts)


def _commands(command: Any, name: str, depth: int = 2) -> Iterator[str]:
    children = {} if not hasattr(command, "commands") else command.commands
    if depth > 2 or not children:
        context = command.make_context(name.split()[-1], [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        text = re.sub(r"\[/?(?:bold|dim|cyan)[^\]]*\]", "", command.help or "")
        text = re.sub(r"(?<=\n\n)(Examples?: )?(rsf .*)", r"\1`\2`", text)
        rows = [row for row in (_parameter(p, context) for p in command.params) if row]
        section = f"{'#' * depth} {name}\n\n{text}\n\n```\n{name} {usage}\n```\n"
        yield section + (
            "\n" + _table(("argument or option", "meaning"), rows) if rows and not children else ""
        )
    for key, child in children.items():
        if not child.hidden:
            yield from _commands(child, f"{name} {key}", min(depth + 1, 4))


def _parameter(parameter: Any, context: Any) -> tuple[str, str] | None:
    record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
    return record and (f"`{record[0]}`", _escape(re.sub(r"\s+", " ", record[1])))


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


@cache
def _header(path: Path) -> tuple[str, dict[str, str]]:
    """Return the header of a config: its title, and its parts ``Reported``, ``Protocol``, ... by name.

    Commands, which are indented, become code on lines of their own.
    """
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        code, _, comment = line[1:].strip().partition("  # ")
        comment = f" ({comment.strip()})" if comment else ""
        lines.append(f"\n`{code.strip()}`{comment}\n" if line.startswith("#   ") else line[1:].strip())
    text = re.sub(r" *\n+ *", "\n", " ".join(lines))
    parts = re.split(r"\b(Reported|Protocol|Training|Trained):\s*", text)
    return parts[0].strip(), dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def _families() -> dict[str, dict[str, Path]]:
    families: dict[str, dict[str, Path]] = {}
    for name, path in list_configs().items():
        families.setdefault(path.parent.name, {})[name] = path
    return families


def _configs() -> str:
    parts = [
        "# Configs\n\nEvery shipped config by family: `rsf train NAME`, `rsf test NAME`. What a config "
        "is made of: "
        "`rsf info config NAME`. Published numbers and costs: [model zoo](../zoo.md).\n"
    ]
    for family, files in sorted(_families().items()):
        rows = [
            (f"[`{name}`]({REPOSITORY}/blob/main/configs/{name}.py)", _escape(_header(path)[0]))
            for name, path in sorted(files.items())
        ]
        parts.append(f"## {family}\n\n" + _table(("name", "what"), rows))
    return "\n".join(parts)


def _options() -> str:
    parts = [
        "# Options from Python\n\nKeyword arguments of `rsfoundation.train`, `test` and `predict`; the "
        "command line has the same, with dashes.\n"
    ]
    for kind, functions in ((RunOptions, "`train`, `test`"), (PredictOptions, "`predict`")):
        parts.append(f"## {functions}\n\n::: {kind.__module__}.{kind.__qualname__}\n{_INSIDE}")
    parts.append(f"## What a task declares\n\n::: {Task.__module__}.{Task.__qualname__}\n{_INSIDE}")
    return "\n".join(parts)


def _api() -> dict[str, str]:
    """Write one page per layer, with every public class and function of its modules."""
    rows = [(f"[`rsfoundation.{layer}`](api/{layer}.md)", what) for layer, what in LAYERS.items()]
    pages = {
        "reference/api.md": "# Python API\n\n"
        + _table(("layer", "what"), rows)
        + "\n::: rsfoundation.api\n    options:\n      members_order: source\n"
    }
    for layer, what in LAYERS.items():
        modules = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for path in sorted((ROOT / "rsfoundation" / layer).rglob("*.py"))
            if not path.name.startswith("_") and "kernels" not in path.parts
        ]
        text = "".join(f"\n::: {module}\n" for module in modules)
        pages[f"reference/api/{layer}.md"] = f"# rsfoundation.{layer}: {what}\n{text}"
    return pages


def _zoo(zoo: Mapping[str, Any]) -> str:
    """Write the model zoo: costs, published numbers, toy numbers, latency, weights.

    Args:
        zoo: Content of ``docs/zoo.json``, which ``tools/zoo.py`` writes.
    """
    parts = []
    for family, files in sorted(_families().items()):
        published = {name: path for name, path in files.items() if not _is_toy(name)}
        if published:
            parts.append(f"## {family}\n\n" + _published(published, zoo["configs"]))
    parts.append(_toy(zoo))
    parts.append(_latency(zoo.get("latency", [])))
    columns = ("name", "trained on", "reported", "licence", "page", "SHA-256")
    weights = [
        (
            f"`{w.name}`",
            w.trained_on,
            "\n".join(f"{key}: {value}" for key, value in w.metrics.items()),
            w.licence,
            f"[authors]({w.page})",
            f"`{w.sha256}`" if w.sha256 else "not published",
        )
        for w in WEIGHTS.values()
    ]
    parts.append(
        f"## {_WEIGHTS_TITLE}\n\n`init_cfg=dict(type='Pretrained', checkpoint='NAME')`\n\n"
        + _table(columns, weights)
    )
    return "\n".join(parts)


def _published(files: Mapping[str, Path], counts: Mapping[str, Any]) -> str:
    """Write the table of a family: cost, published number and its protocol, weights.

    Args:
        files: Config name -> file.
        counts: Config name -> its counts.
    """
    rows = []
    for name, path in sorted(files.items()):
        header = _header(path)[1]
        rows.append(
            (
                f"[`{path.stem}`]({REPOSITORY}/blob/main/configs/{name}.py)",
                *_cost(counts.get(name)),
                _escape(header.get("Reported", "not reported")),
                _escape(header.get("Protocol", "")),
                _start(name),
            )
        )
    return _table(("config", "parameters", "GMAC", "published", "protocol", "starts from"), rows)


def _cost(count: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return the cells of parameters and operations, with the parts that are not counted."""
    if not count:
        return "", ""
    without = ", ".join(f"`{part}`" for part in count.get("uncounted", ()))
    macs = f"{count['macs'] / 1e9:.1f}" + (f", without {without}" if without else "")
    return f"{count['params'] / 1e6:.2f} M", macs


def _is_toy(name: str) -> bool:
    """Say whether a config is trained on toy scenes, so that its number is ours."""
    return name.startswith(("quickstart/", "distill/toy_"))


def _start(name: str) -> str:
    """Return the weights that a config starts from, with their licences.

    Args:
        name: Name of the config.
    """
    anchor = _WEIGHTS_TITLE.lower().replace(" ", "-")
    parts = dicts_of(load_config(name).get("model", {}))
    names = dict.fromkeys(part["checkpoint"] for _, part in parts if isinstance(part.get("checkpoint"), str))
    return "\n".join(
        f"[`{one}`](#{anchor}), {WEIGHTS[one].licence}" if one in WEIGHTS else f"`{one}`" for one in names
    )


def _toy(zoo: Mapping[str, Any]) -> str:
    """Write the table of the trainings on toy scenes: how to run them, and what they gave.

    Args:
        zoo: Content of ``docs/zoo.json``.
    """
    rows = []
    for name, path in sorted(list_configs().items()):
        if not _is_toy(name):
            continue
        title, header = _header(path)
        commands = [code for code in _CODE.findall(title) if code.startswith("`rsf ")]
        if not any(f"rsf train {path.stem}" in one or f"rsf train {name}" in one for one in commands):
            commands.append(f"`rsf train {name}`")
        run = zoo["toy"].get(name)
        recorded = run and f"{run['metric']} {run['value']:g} in {run['seconds']:.0f} s"
        rows.append(
            (
                "\n".join(commands),
                *_cost(zoo["configs"].get(name)),
                recorded or "",
                _escape(header.get("Protocol", "")),
            )
        )
    return (
        "## Trainings on toy scenes\n\nOur own numbers, from random weights on two CPU cores, 160 drawn "
        "scenes (`rsf prepare toy`) unless the row says otherwise, best checkpoint on 40 others. Another "
        "processor's rounding changes the numbers by a few hundredths.\n\n"
        + _table(("commands", "parameters", "GMAC", "recorded run", "protocol, and result by seed"), rows)
    )


def _latency(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write one table per machine and conditions: rows of different ones are never mixed.

    Args:
        rows: Results of ``rsf benchmark``.
    """
    tables: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        timed = row["latency"]
        shape = " x ".join(map(str, timed["input_shape"]))
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        conditions = (
            f"{row['processor']}, {timed['threads']} threads, {timed['dtype']}, {timed['memory_format']}, "
            f"input {shape}, {row['repeats']} calls; {versions}"
        )
        values = (f"`{row['name']}`", f"{timed['p50_ms']:.0f}", f"{timed['p95_ms']:.0f}")
        tables.setdefault(conditions, []).append(values)
    parts = ["## Latency of backbones\n\n`rsf benchmark NAME --size 512 --threads 2 --device cpu`\n"]
    for conditions, values in tables.items():
        parts.append(f"{conditions}:\n\n" + _table(("backbone", "p50, ms", "p95, ms"), values))
    return "\n".join(parts)
