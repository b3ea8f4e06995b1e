"""The tree stays readable: plain terms, short files, documented arguments, declared dependencies."""

import ast
import importlib
import re
import sys
from importlib.metadata import packages_distributions

import pytest
from locations import ROOT
from packaging.requirements import Requirement

from rsfoundation.cli.app import VERBS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = ROOT / "rsfoundation"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = [
    *MODULES,
    *(ROOT / "tools").glob("*.py"),
    *(ROOT / "configs").rglob("*.py"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs").rglob("*.md"),
]
# Words that tell a field engineer nothing; CONTRIBUTING.md has the terms to use.
WORDS = re.compile(
    r"\b(told|beside|mend(s|ed|ing)?|cures?|stands|lies|sentences?|goes on|figures(?! \d)"
    r"|put in place|at fault)\b",
    re.IGNORECASE,
)
# The list of words itself.
ALLOWED_WORDS = {"CONTRIBUTING.md"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_plain_terms(path):
    if name_of(path) in ALLOWED_WORDS:
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if WORDS.search(line)]
    assert not found, f"see the glossary in CONTRIBUTING.md: {found}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_over_600_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


def importers_of_modules():
    """Return module -> modules, other than packages, that import it."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    importers = {name: set() for name in names}
    for name, path in names.items():
        if path.stem == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rsfoundation"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    importers[full if full in names else node.module].add(name)
    return importers


def test_few_modules_have_one_importer():
    """A helper with one caller belongs to its caller's file, unless it is a part of its own."""
    alone = sorted(name for name, by in importers_of_modules().items() if len(by) == 1)
    assert len(alone) <= 30, alone


def public_functions(path):
    """Yield name and node of public functions and methods; not of methods that a base class declares."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = getattr(module, node.name).__mro__[1:]
            for child in node.body:
                inherited = isinstance(child, ast.FunctionDef) and any(hasattr(b, child.name) for b in bases)
                if isinstance(child, ast.FunctionDef) and not child.name.startswith("_") and not inherited:
                    yield f"{node.name}.{child.name}", child


# triton is there on machines with CUDA alone; commands are described by their options' help
WITH_ARGUMENTS = [path for path in MODULES if "cli" not in path.parts and "triton" not in path.stem]


@pytest.mark.parametrize("path", WITH_ARGUMENTS, ids=name_of)
def test_public_functions_with_two_parameters_describe_them(path):
    found = []
    for name, function in public_functions(path):
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        count = sum(one.arg not in ("self", "cls") and not one.arg.startswith("_") for one in parameters)
        if count >= 2 and "Args:" not in (ast.get_docstring(function) or ""):
            found.append(f"{function.lineno}: {name}")
    assert not found


def imported_modules(path):
    """Return the top-level names of the modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def declared(*extras):
    """Return the normalised names of the declared distributions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras or optional for line in optional[extra])]
    return {normalised(Requirement(line).name) for line in lines}


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared():
    names = set.union(*(imported_modules(path) for path in MODULES))
    names -= {*sys.stdlib_module_names, "rsfoundation", "triton"}  # triton comes with torch's CUDA builds
    providers = packages_distributions()
    # opencv may be the build with a GUI; opencd is the user's own where it is installed
    known = declared() | {"opencv-python"}
    missing = {
        name: providers.get(name, ["not installed"])
        for name in sorted(names - {"opencd"})
        if not known & {normalised(one) for one in providers.get(name, [])}
    }
    assert not missing


def test_every_dependency_is_imported_or_needed_at_run_time():
    names = set.union(*(imported_modules(path) for path in MODULES))
    used = {normalised(one) for name in names for one in packages_distributions().get(name, [])}
    # mmrotate imports torchvision, mmengine the trackers, torch.onnx onnxscript and onnx, geopandas the rest;
    # onnxruntime runs what torch.onnx wrote
    indirect = {"torchvision", "wandb", "tensorboard", "onnx", "onnxscript", "onnxruntime"}
    indirect |= {"pyogrio", "pyarrow", "opencv-python-headless"}
    extras = ("geo", "deepspeed", "peft", "wandb", "tensorboard", "onnx")
    unused = declared(*extras) - used - indirect
    assert not unused, unused


def commands():
    """Yield file, line and words of every ``rsf ...`` command that code or a page names in back quotes."""
    for path in TEXTS:
        if path.suffix == ".py" and "configs" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"`(rsf [a-z][^`]*)`", text):
            yield path, text.count("\n", 0, match.start()) + 1, match[1].split()[1:]


def command_tree():
    """Return verb -> names of its subcommands; none for a verb without."""
    import typer
    from typer.main import get_command

    tree = {}
    for verb in VERBS:
        app = typer.Typer()
        importlib.import_module(f"rsfoundation.cli.{verb}").register(app)
        app.callback()(lambda: None)  # also one verb alone is a group then
        commands = get_command(app).commands
        tree |= {name: set(getattr(command, "commands", ())) for name, command in commands.items()}
    return tree


def test_every_command_that_is_named_exists():
    tree = command_tree()
    wrong = []
    for path, line, words in commands():
        words = [word.strip(".,;:") for word in words]
        if words[0] == "VERB":
            continue
        known = words[0] in tree
        if known and tree[words[0]] and len(words) > 1 and re.fullmatch(r"[a-z][a-z0-9-]*", words[1]):
            known = words[1] in tree[words[0]]
        if not known:
            wrong.append(f"{name_of(path)}:{line}: rsf {' '.join(words)}")
    assert not wrong
