"""Finding, reading and overriding configs, their task and classes; errors that name the place in a config;
configs of Open-CD.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib
import inspect
import logging
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmengine.utils import import_modules_from_strings

from rsfoundation.core.errors import ConfigError, RSFError, nearest
from rsfoundation.core.task import Classes, Task
from rsfoundation.engine.config_migration import is_old_config
from rsfoundation.registry import TASKS
from rsfoundation.visualization import palette

# in addition to mmengine's
_OWN_KEYS = {"image_loading", "lora", "predict", "runner_type", "submission", "task", "tta"}
_SIMILAR = 0.8  # a new key at least this similar to a known one is reported as misspelt


def config_root() -> Path:
    """Return the folder of the shipped configs: the checkout's, else the installed package's."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "configs"
    return checkout if (checkout / "_base_").is_dir() else package / "_configs"


def list_configs() -> dict[str, Path]:
    """Return every runnable shipped config: name such as ``lsknet/lsknet_t_...`` -> file."""
    root = config_root()
    files = sorted(path for path in root.rglob("*.py") if "_base_" not in path.parts)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in files}


def find_config(name: str | Path) -> Path:
    """Find a config by path, by full name (``quickstart/x``) or by its last part (``x``).

    Raises:
        ConfigError: No config, or more than one, has that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = list_configs()
    wanted = path.with_suffix("").as_posix() if path.suffix == ".py" else path.as_posix()
    wanted = wanted.removeprefix("configs/")
    if wanted in known:
        return known[wanted]
    hits = [full for full in known if full.rsplit("/", 1)[-1] == wanted]
    if len(hits) == 1:
        return known[hits[0]]
    if hits:
        raise ConfigError(
            f"the config name '{name}' is ambiguous: {', '.join(hits)}", fix="give the full name"
        )
    hint = nearest(wanted, known) or nearest(wanted, [full.rsplit("/", 1)[-1] for full in known])
    raise ConfigError(
        f"no config file and no shipped config is called '{name}'",
        where=config_root(),
        fix=f"{hint} `rsf info configs` lists them all".strip(),
    )


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config with its bases and apply overrides.

    Args:
        name: A path or the name of a shipped config.
        overrides: ``key.sub=value`` strings.

    Raises:
        ConfigError: The config is unknown, does not parse, or an override is malformed.
    """
    path = find_config(name)
    try:
        cfg = Config.fromfile(path, import_custom_modules=False)
        _import_parts(cfg, path)
    except RSFError:
        raise
    except Exception as error:  # a config is a program: it may raise anything
        raise ConfigError(
            f"the config cannot be read: {type(error).__name__}: {error}", where=_place(path, error)
        ) from error
    if is_old_config(cfg):
        raise ConfigError(
            "the config is one of mmrotate, mmdet or mmseg 0.x, which MMEngine cannot run",
            where=path,
            fix=f"rsf convert config {path} new_config.py --dataset NAME",
        )
    if cfg.get("default_scope") == SCOPE:
        adopt_opencd_config(cfg)
    merge_overrides(cfg, overrides)
    return cfg


def _import_parts(cfg: Config, path: Path) -> None:
    """Import ``custom_imports``: modules that are installed, in the current folder or in the config's."""
    imports = cfg.get("custom_imports")
    if not imports:
        return
    # At the end, so that no file of the folder hides an installed package; kept, since loaders that are
    # spawned import the modules again. Scripts of the console have no folder of the start.
    for folder in (str(Path.cwd()), str(path.resolve().parent)):
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        import_modules_from_strings(**imports)
    except ImportError as error:
        missing = isinstance(error.__context__, ModuleNotFoundError)
        reason = "" if missing else f": {error.__context__}"
        raise ConfigError(
            f"a module of custom_imports cannot be imported ({error}{reason})",
            where=path,
            fix=f"put it into {Path.cwd()} or next to the config, or install it",
        ) from error


def _place(path: Path, error: Exception) -> str:
    """Return the line of the config, or of one of its bases, that raised an error, where it is known."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)


def merge_overrides(cfg: Config, overrides: Sequence[str]) -> None:
    """Apply overrides in place; values are parsed as mmengine's ``--cfg-options`` are.

    Args:
        cfg: The config.
        overrides: ``key.sub=value`` strings.

    Raises:
        ConfigError: An override is malformed, misspelt or does not fit the config.
    """
    bad = [item for item in overrides if "=" not in item]
    if bad:
        raise ConfigError(
            f"--cfg-options takes key=value, got '{bad[0]}'",
            fix="write for example --cfg-options train_dataloader.batch_size=4 randomness.seed=1",
        )
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", nargs="*", action=DictAction, default={})
    parsed: dict[str, Any] = {}
    for item in overrides:
        try:
            parsed |= parser.parse_args(["--set", item]).set
        except (AssertionError, RecursionError) as error:  # of brackets that are no list or tuple
            raise ConfigError(
                f"--cfg-options cannot read the value of '{item}'",
                fix="use numbers, words, [a,b] and (a,b); of a dict set each key: model.backbone.depth=50",
            ) from error
    _refuse_without_effect(cfg, {key.partition(".")[0] for key in parsed})
    try:
        cfg.merge_from_dict(parsed)
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise ConfigError(f"--cfg-options do not fit the config: {error}", where=cfg.filename) from error


def _refuse_without_effect(cfg: Config, keys: Iterable[str]) -> None:
    """Refuse top-level keys that mmengine sets without effect: misspelt ones, and variables."""
    chosen = [key for key in keys if key not in _OWN_KEYS]
    if not chosen:
        return
    from mmengine.runner import FlexibleRunner, Runner  # imports torch

    runner_keys = (inspect.signature(kind.__init__).parameters for kind in (Runner, FlexibleRunner))
    read = _OWN_KEYS.union(*runner_keys)
    for key in chosen:
        if key in read:
            continue
        if key in cfg:
            if copies := _copies(cfg, key, read):
                raise ConfigError(
                    f"{key!r} is a variable of the config file: its value was copied when the file was read, "
                    "so that another value here would change nothing",
                    where=f"--cfg-options {key}",
                    fix=f"set it where it was copied to: {', '.join(copies)}",
                )
            continue
        known = {*cfg, *read}
        similar = difflib.get_close_matches(key.lower(), known, n=1, cutoff=_SIMILAR)
        if similar:
            raise ConfigError(
                f"the config has no {key!r}; did you mean {similar[0]!r}?",
                where=f"--cfg-options {key}",
                fix="correct the key; `rsf info config CONFIG` prints all of them",
            )


def _copies(cfg: Config, name: str, read: Collection[str]) -> list[str]:
    """Return the places below the keys that are read which hold the value of a top-level variable."""
    value = cfg[name]
    telling = isinstance(value, (dict, list, str)) and len(value) > 0  # numbers are equal by chance
    places = []
    stack: list[tuple[str, str, Any]] = [(key, key, cfg[key]) for key in cfg if key in read]
    while stack:
        place, leaf, node = stack.pop()
        started = isinstance(value, dict) and isinstance(node, dict) and "type" in value
        if (node == value and (telling or leaf == name)) or (
            started and leaf == name and node.get("type") == value["type"]
        ):
            places.append(place)
        elif isinstance(node, dict):
            stack += [(f"{place}.{key}", key, inner) for key, inner in node.items()]
        elif isinstance(node, (list, tuple)):
            stack += [(f"{place}.{index}", "", inner) for index, inner in enumerate(node)]
    return sorted(places)


def quickstart_config(task: str) -> Path:
    """Return ``configs/quickstart/<task>_toy_*.py``.

    Raises:
        ConfigError: No quickstart config is called after that task.
    """
    start = "quickstart/"
    known = {
        name: file for name, file in list_configs().items() if name.startswith(start) and "_toy_" in name
    }
    for name, file in known.items():
        if name.startswith(f"{start}{task}_toy_"):
            return file
    tasks = sorted({name.removeprefix(start).split("_toy_")[0] for name in known})
    raise ConfigError(
        f"there is no demo called '{task}'", fix=nearest(task, tasks) or f"one of: {', '.join(tasks)}"
    )


def build_task(cfg: Config) -> Task:
    """Build the task named by the config key ``task``.

    Raises:
        ConfigError: The key is missing or names no registered task.
    """
    declared = cfg.get("task")
    TASKS.import_from_location()
    names = sorted(TASKS.module_dict)
    if declared is None:
        raise ConfigError(
            "the config names no task",
            where=cfg.filename,
            fix=f"add task = dict(type='rsfoundation.NAME') with one of: {', '.join(names)}",
        )
    kind = str(declared["type"])
    short = kind.removeprefix("rsfoundation.")
    if short not in TASKS.module_dict:
        raise ConfigError(
            f"no task is registered as '{kind}'",
            where=cfg.filename,
            fix=nearest(short, names) or f"known tasks: {', '.join(names)}",
        )
    arguments = {key: value for key, value in declared.items() if key != "type"}
    return TASKS.module_dict[short](**arguments)


def classes_of(meta: dict[str, Any]) -> Classes:
    """Read class names and colours from a data set's or a checkpoint's metainfo.

    Raises:
        ConfigError: The metainfo names no classes.
    """
    names = meta.get("classes") or meta.get("CLASSES")
    if not names:
        raise ConfigError("the data set's metainfo names no classes", fix="set metainfo=dict(classes=(...))")
    names = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    declared = meta.get("palette") or meta.get("PALETTE") or []
    colours = [tuple(int(value) for value in colour) for colour in declared if not isinstance(colour, str)]
    colours += palette(len(names))[len(colours) :] if len(colours) < len(names) else []
    return Classes(names, tuple(colours[: len(names)]))  # type: ignore[arg-type]


def checkpoint_classes(meta: Mapping[str, Any], cfg: Config) -> Classes:
    """Return the classes that a model predicts: the checkpoint's, else those of the config's test data.

    Args:
        meta: The checkpoint's ``meta``. mmengine writes ``dataset_meta`` there, mmcv 1.x wrote ``CLASSES``;
            files with weights alone have neither.
        cfg: The resolved config. No data are read.

    Raises:
        RSFError: Neither names classes.
    """
    if meta.get("dataset_meta"):
        return classes_of(meta["dataset_meta"])
    if meta.get("CLASSES"):
        return classes_of(dict(meta))
    try:
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, "lazy_init": True})
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    classes = classes_of(dataset.metainfo)
    print_log(
        "the checkpoint names no classes; those of the config's test data are used: "
        f"{', '.join(classes.names)}",
        logger="current",
        level=logging.WARNING,
    )
    return classes


_UNKNOWN_TYPE = re.compile(r"(\S+) is not in the (\S+)::(.+?) registry")
UNKNOWN_OPTION = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_MISSING_OPTION = re.compile(r"(\w+)\.__init__\(\) missing \d+ required \S+ arguments?: (.+)")


def unknown_type_error(error: KeyError, cfg: Config) -> Exception:
    """Turn mmengine's ``KeyError`` for an unregistered type into one that names the nearest types.

    Args:
        error: What the registry raised; another ``KeyError`` is returned as it is.
        cfg: The config that was built.
    """
    match = _UNKNOWN_TYPE.search(str(error))
    if match is None:
        return error
    name, kind = match.group(1).strip("'\""), match.group(3)
    found = dicts_of(cfg.to_dict())
    place = next((f"{path}type" for path, node in found if node.get("type") == name), None)
    where = f"{cfg.filename}: {place}" if place else cfg.filename
    absent = absent_part(name)
    if absent is not None:
        return ConfigError(absent, where=where, fix="install Open-CD, or choose a method of docs/change.md")
    return ConfigError(
        f"the config asks for the {kind} '{name}', which is not registered",
        where=where,
        fix=nearest(name, registered_names(kind)) or "`rsf info models` lists the registered ones",
    )


def registered_names(kind: str) -> list[str]:
    """Return every name that a config may use for ``kind`` (``model``, ``dataset``, ...), with scopes."""
    from mmengine.registry import Registry, root

    roots = [item for item in vars(root).values() if isinstance(item, Registry) and item.name == kind]
    names: list[str] = []
    for registry in roots:
        names += list(registry.module_dict)
        for scope, child in registry.children.items():
            child.import_from_location()
            names += [f"{scope}.{name}" for name in child.module_dict]
    return names


def dicts_of(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict of a config with the start of its keys' dotted path.

    Args:
        node: A config, or a value of one.
        path: Dotted path of ``node``: empty, or ending with a dot.
    """
    if isinstance(node, dict):
        yield path, node
        items: Any = node.items()
    else:
        items = enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from dicts_of(value, f"{path}{key}.")


@contextmanager
def explained_option_errors(cfg: Config) -> Iterator[None]:
    """Let what is built and run inside raise errors that name the place in ``cfg``.

    Raises:
        ConfigError: A part is built with an option that it does not take, or without one that it needs.
    """
    try:
        yield
    except TypeError as error:
        known = _option_error(error, cfg)
        if known is None:
            raise
        raise known from error


def _option_error(error: TypeError, cfg: Config) -> ConfigError | None:
    """Return the config's error for one of Python about arguments; ``None`` for any other ``TypeError``."""
    unknown, missing = UNKNOWN_OPTION.search(str(error)), _MISSING_OPTION.search(str(error))
    if unknown is not None:
        kind, option = unknown.groups()
        found = next(((path, node) for path, node in dicts_of(cfg.to_dict()) if option in node), None)
        if found is None:
            return None  # not from the config: an error of the program
        path, node = found
        return ConfigError(
            f"{node.get('type', kind)} takes no option {option!r}",
            where=f"{cfg.filename}: {path}{option}",
            fix=nearest(option, _options_of(node, kind)) or "remove it",
        )
    if missing is not None:
        kind, options = missing.groups()
        return ConfigError(f"{kind} needs {options}", where=cfg.filename, fix="set it in the config")
    return None


def _options_of(node: dict[str, Any], owner: str) -> set[str]:
    """Return the options that what a config dict builds takes, those of its base classes included.

    Blocks such as ``lora`` and data loaders name no type: the first are those of ``owner``.
    """
    from torch.utils.data import DataLoader

    kind = _registered(str(node["type"])) if "type" in node else _registered(owner) or DataLoader
    classes = inspect.getmro(kind) if inspect.isclass(kind) else ()
    names = set(inspect.signature(kind).parameters) if inspect.isfunction(kind) else set()
    for one in classes:
        if one is not object:
            names |= set(inspect.signature(vars(one).get("__init__", one)).parameters)
    return names - {"self", "args", "kwargs"}


def _registered(name: str) -> Any:
    """Return what any registry has under a name, with or without its scope."""
    from mmengine.registry import Registry, root

    scope, _, short = name.rpartition(".")
    for registry in (item for item in vars(root).values() if isinstance(item, Registry)):
        for child in (registry, *registry.children.values()):
            if scope in ("", child.scope) and short in child.module_dict:
                return child.module_dict[short]
    return None


SCOPE = "opencd"
_OURS = "rsfoundation"
_TASK = dict(type="rsfoundation.ChangeDetection")
_LINK = "https://github.com/likyoo/open-cd"
# Parts of Open-CD that this package does not have.
_ABSENT = (
    *("IFN", "HAN", "CGNet", "LightCDNet", "TinyNet", "TinyFPN", "TinyHead", "DS_FPNHead", "FarSegFPN"),
    *("FarSegHead", "ChangeStarHead", "BAN", "BitemporalAdapterHead", "BAN_MLPDecoder", "BAN_BITHead"),
    *("TimeTravellingPixels", "VisionTransformerTurner", "ViTSAM_Custom", "MLPSegHead"),
    *("TimeFusionTransformerEncoderLayer", "SimpleFPN", "SequentialNeck", "DistillDIEncoderDecoder_S"),
    *("DistillSiamEncoderDecoder_ChangeStar", "DistillLossChangeStar", "DistillDIEncoderDecoder_TTP"),
)


@functools.cache
def why_unusable() -> str | None:
    """Say why ``opencd`` cannot be used; ``None`` where it can. It is imported only here."""
    if find_spec(SCOPE) is None:
        return "opencd is not installed"
    try:
        importlib.import_module(SCOPE)
    except Exception as error:  # it asserts the versions of what it builds on, and they raise anything
        return f"the installed opencd cannot be imported ({type(error).__name__}: {error})"
    return None


def adopt_opencd_config(cfg: Config) -> None:
    """Let a config of Open-CD run here, in place; any other config stays as it is.

    Changed are the scope, the tools that draw pictures (runs here draw their own), and, where they are
    missing, the task and the metrics of the changed class.

    Args:
        cfg: The config as read.
    """
    if cfg.get("default_scope") != SCOPE:
        return
    cfg.setdefault("task", dict(_TASK))
    reason = why_unusable()
    if reason is not None:
        print_log(f"{reason}: its types are taken from {_OURS}", logger="current", level=logging.INFO)
        cfg.default_scope = _OURS
        for key in list(cfg.keys()):
            cfg[key] = _rename(cfg[key])
        _replace_pictures(cfg)
    for key in ("val_evaluator", "test_evaluator"):
        if cfg.get(key):
            cfg[key] = _with_change_metric(cfg[key])


def absent_part(name: str) -> str | None:
    """Return what to say of a type that Open-CD has and this package has not; ``None`` for any other type."""
    short = name.removeprefix(f"{SCOPE}.").removeprefix(f"{_OURS}.")
    if short not in _ABSENT:
        return None
    return f"'{short}' is a part of Open-CD ({_LINK}) that this package does not have"


def _rename(node: Any) -> Any:
    """Replace the prefix of Open-CD's scope in every type of a part of a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _rename(value)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(_rename(item) for item in node)
    prefix = f"{SCOPE}."
    return (
        f"{_OURS}.{node.removeprefix(prefix)}" if isinstance(node, str) and node.startswith(prefix) else node
    )


def _replace_pictures(cfg: Config) -> None:
    """Take mmengine's visualizer, and leave out Open-CD's hook: runs here draw pairs themselves."""
    visualizer = cfg.get("visualizer")
    if visualizer:
        backends = [
            dict(type="LocalVisBackend") if _short(backend) == "CDLocalVisBackend" else backend
            for backend in visualizer.get("vis_backends") or []
        ]
        cfg.visualizer = dict(type="Visualizer", vis_backends=backends or [dict(type="LocalVisBackend")])
    cfg.pop("vis_backends", None)
    hooks = cfg.get("default_hooks") or {}
    if _short(hooks.get("visualization") or {}) == "CDVisualizationHook":
        hooks.pop("visualization")


def _short(part: Any) -> str:
    return str(part.get("type", "")).rpartition(".")[2]


def _with_change_metric(evaluator: Any) -> Any:
    """Add the metrics of the changed class to the means over both classes, which nobody publishes."""
    metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    if [_short(metric) for metric in metrics] != ["IoUMetric"]:
        return evaluator
    return [*metrics, dict(type="rsfoundation.ChangeMetric")]
