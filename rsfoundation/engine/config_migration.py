"""Configs of other toolboxes in the MM family, rewritten for this package.

Understood: mmrotate, mmdet, mmseg (0.x and 1.x) and Open-CD. The network, its weights and the schedule are
kept; a data set of ``configs/_base_/datasets`` takes the place of theirs. Every key that was not understood
is reported with its file and line.
"""

from __future__ import annotations

import ast
import copy
import os
import pprint
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.core.files import replacing
from rsfoundation.registry import MODELS

_OLD_KEYS = ("data", "optimizer", "runner", "lr_config", "img_norm_cfg", "total_epochs")  # of 0.x alone
_VERSIONS = {
    "mmrotate": ("0.x", "1.x"),
    "mmdet": ("2.x", "3.x"),
    "mmseg": ("0.x", "1.x"),
}  # without, with MMEngine
_SCOPES = {"mmrotate": "OrientedDetection", "mmdet": "InstanceSegmentation", "mmseg": "SemanticSegmentation"}
_OPENCD = ("DIEncoderDecoder", "SiamEncoderDecoder", "SiamEncoderMultiDecoder")
# fmt: off
# 0.x types that have no type of that name in 1.x, or a faster one here
_TYPES = {
    "OrientedRCNN": "mmdet.FasterRCNN",
    "RotatedRetinaNet": "mmdet.RetinaNet",
    "RotatedFCOS": "mmdet.FCOS",
    "RotatedFasterRCNN": "mmdet.FasterRCNN",
    "RoITransformer": "mmdet.CascadeRCNN",
    "R3Det": "RefineSingleStageDetector",
    "S2ANet": "RefineSingleStageDetector",
    "OrientedStandardRoIHead": "mmdet.StandardRoIHead",
    "RotatedStandardRoIHead": "mmdet.StandardRoIHead",
    "RoITransRoIHead": "mmdet.CascadeRoIHead",
    "RotatedShared2FCBBoxHead": "mmdet.Shared2FCBBoxHead",
    "RotatedAnchorGenerator": "rsfoundation.FakeRotatedAnchorGenerator",
    "DeltaXYWHAOBBoxCoder": "DeltaXYWHTRBBoxCoder",
    "DeltaXYWHAHBBoxCoder": "DeltaXYWHTHBBoxCoder",
    "RRandomSampler": "rsfoundation.RandomSampler",
    "RBboxOverlaps2D": "RBboxOverlaps2D",
    "lsknet": "rsfoundation.LSKNet",
    **{name: f"rsfoundation.{name}" for name in (
        "LSKNet", "StripNet", "LWGANet", "StripHead",
        "OrientedRPNHead", "AnchorGenerator", "MaxIoUAssigner", "RandomSampler",
    )},
}
_UNREGISTERED = (
    "Pretrained", "Normal", "Xavier", "Kaiming", "Constant", "TruncNormal",
    "nms", "nms_rotated", "soft_nms",
)
# upstream types of 0.x that belong to mmdet in a config of mmrotate
_MMDET = frozenset([
    "FPN", "CrossEntropyLoss", "SmoothL1Loss", "FocalLoss", "L1Loss", "StandardRoIHead",
    "Shared2FCBBoxHead", "FasterRCNN", "RetinaNet", "FCOS", "ResNet", "GIoULoss", "PseudoSampler",
])
_RENAMED = {
    "iou_thr": "iou_threshold",
    "angle_range": "angle_version",
    "out_size": "output_size",
    "sample_num": "sampling_ratio",
}
_STAGES = {"fam_head": "bbox_head_init", "odm_head": "bbox_head_refine", "refine_heads": "bbox_head_refine"}
_IGNORED = frozenset([
    "log_config", "log_level", "dist_params", "workflow", "opencv_num_threads", "mp_start_method",
    "checkpoint_config", "custom_imports", "find_unused_parameters", "cudnn_benchmark", "device", "gpu_ids",
    "angle_version", "img_norm_cfg", "work_dir", "seed", "auto_resume", "launcher", "train_pipeline",
    "test_pipeline", "val_pipeline", "dataset_type", "data_root", "classes", "crop_size", "norm_cfg",
    "backend_args", "file_client_args", "default_scope", "env_cfg", "vis_backends", "visualizer",
    "log_processor", "default_hooks", "tta_model", "tta_pipeline", "resume", "resume_from", "auto_scale_lr",
    "model_wrapper_cfg",
])
# fmt: on

_ARCHS = {
    (kind, dims): arch
    for kind in ("LSKNet", "StripNet")
    for arch, dims in (("t", (32, 64, 160, 256)), ("s", (64, 128, 320, 512)))
}
_SHIPPED = {
    "RoITransformer": "lsknet_s_roi_transformer_1x_dota_ms",
    "R3Det": "lsknet_s_r3det_1x_dota_ms",
    "S2ANet": "lsknet_s_s2anet_1x_dota_ms",
}


@dataclass(frozen=True)
class Unknown:
    """A key that was not converted.

    Attributes:
        key: Dotted.
        where: ``file:line``; the file alone where the key is not written out.
        why: What is known of it.
    """

    key: str
    where: str
    why: str


@dataclass(frozen=True)
class ConvertedConfig:
    """A config rewritten for this package.

    Attributes:
        text: The new config.
        dialect: ``mmrotate 0.x``, ``mmseg 1.x``, ``Open-CD`` and so on.
        task: Registered name of its task.
        renamed: Old and new name of every type and key that was changed.
        unknown: Keys that were left out.
    """

    text: str
    dialect: str
    task: str
    renamed: tuple[tuple[str, str], ...]
    unknown: tuple[Unknown, ...]


def is_old_config(cfg: Mapping[str, Any]) -> bool:
    """Return whether a config is of a 0.x toolbox, which MMEngine cannot run."""
    runs_here = any(key in cfg for key in ("train_dataloader", "test_dataloader", "optim_wrapper", "task"))
    return "model" in cfg and not runs_here and any(key in cfg for key in _OLD_KEYS)


def convert_config(source: str | Path, output: str | Path, dataset: str | None = None) -> ConvertedConfig:
    """Rewrite a config of mmrotate, mmdet, mmseg or Open-CD, and write it.

    Args:
        source: The config; its bases must be where it names them.
        output: The new config, a ``.py`` file.
        dataset: A file of ``configs/_base_/datasets`` by name, such as ``dota_ss``; without, the new config
            has no data set and says so. Where that file leaves the steps of training open, those of a file of
            ``configs/_base_/pipelines`` are added.

    Raises:
        ConfigError: The file cannot be read, or has no model; no data set has that name.
    """
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"no such config: {path}", where=path, fix="give the path of a .py config")
    try:
        cfg = Config.fromfile(str(path), import_custom_modules=False)
    except Exception as error:  # configs are programs
        raise ConfigError(
            f"the config cannot be read: {type(error).__name__}: {error}",
            where=path,
            fix="keep the files of its _base_ where it names them",
        ) from error
    if "model" not in cfg:
        raise ConfigError("the config has no model", where=path, fix="give the config of a whole training")
    for module in ("mmdet.models", "mmseg.models", "mmrotate.models"):  # their types register themselves
        import_module(module)
    MODELS.import_from_location()
    converted = _Converter(cfg, path).run(_dataset_file(dataset) if dataset else None, Path(output))
    with replacing(Path(output)) as temporary:
        temporary.write_text(converted.text, encoding="utf-8")
    return converted


class _Converter:
    def __init__(self, cfg: Config, path: Path) -> None:
        self.cfg, self.path = cfg.to_dict(), path
        self.old = is_old_config(self.cfg)
        self.scope = self._scope()
        self.renamed: dict[str, str] = {}
        self.unknown: list[Unknown] = []
        self.lines = _lines_of_keys(path)

    def _scope(self) -> str:
        model, types = str(self.cfg["model"].get("type", "")), repr(self.cfg["model"])
        if model.rsplit(".", 1)[-1] in _OPENCD:
            return "opencd"
        named = str(self.cfg.get("default_scope", "")) or str(self.cfg["model"].get("_scope_", ""))
        if named in _SCOPES or named == "opencd":
            return named
        if "decode_head" in self.cfg["model"]:
            return "mmseg"
        oriented = ("Rotated", "Oriented", "angle_version", "RoITrans", "S2ANet", "R3Det", "le90")
        return "mmrotate" if any(word in types for word in oriented) else "mmdet"

    def run(self, dataset: Path | None, output: Path) -> ConvertedConfig:
        model = self._part(copy.deepcopy(self.cfg["model"]), "model")
        model.pop("_scope_", None)
        pretrained = model.pop("pretrained", None)
        if pretrained:
            init = dict(type="Pretrained", checkpoint=pretrained)
            model.setdefault("backbone", {}).setdefault("init_cfg", init)
            self.renamed["model.pretrained"] = "model.backbone.init_cfg"
        if self.old:
            self._preprocessor(model)
            if self.scope == "mmrotate":
                self._oriented(model)
        self._backbone(model)
        if "decode_head" in model and not model.get("test_cfg"):
            model["test_cfg"] = dict(mode="whole")
        if self.scope in _SCOPES:
            scope, task = self.scope, _SCOPES[self.scope]
            if scope == "mmdet" and "mask_head" not in repr(model):
                self._report("model", "upright boxes alone: no task of this package")
        else:
            scope, task = "mmseg", "ChangeDetection"
        body: dict[str, Any] = {
            "default_scope": scope,
            "task": dict(type=f"rsfoundation.{task}"),
            "model": model,
        }
        self._check_build(model, scope)
        body |= self._schedule()
        for hook in self.cfg.pop("custom_hooks", None) or ():
            if not hook["type"].endswith("NumClassCheckHook"):  # every run of this package has its own
                self._report("custom_hooks", f"{hook['type']}: hooks are added to the new file by hand")
        for key in self.cfg:
            if key not in _IGNORED and key not in body and key not in _CONSUMED:
                self._report(key, "no key of this package or of MMEngine")
        return ConvertedConfig(
            self._text(body, dataset, output),
            "Open-CD" if self.scope == "opencd" else f"{self.scope} {_VERSIONS[self.scope][not self.old]}",
            task,
            tuple(self.renamed.items()),
            tuple(self.unknown),
        )

    def _part(self, part: Any, where: str) -> Any:
        """Rename types and keys below a dotted key."""
        if isinstance(part, (list, tuple)):
            return [self._part(one, f"{where}[{index}]") for index, one in enumerate(part)]
        if not isinstance(part, dict):
            return part
        out: dict[str, Any] = {}
        names = {**_RENAMED, **_STAGES}
        for key, value in part.items():
            new = names[key] if self.old and key in names else str(key)
            if new != key:
                self.renamed[f"{where}.{key}"] = new
            out[new] = self._part(value, f"{where}.{key}")
        kind = out.get("type")
        if isinstance(kind, str):
            out["type"] = self._type(kind, where)
        if self.old and set(out) == {"iou_threshold"}:  # an nms without a type
            out["type"] = "nms_rotated" if where.endswith("nms") and "rpn" not in where else "nms"
        return out

    def _type(self, kind: str, where: str) -> str:
        if not self.old and self.scope != "opencd":
            return kind
        name = kind.removeprefix("opencd.").removeprefix("mmseg.") if self.scope == "opencd" else kind
        new = _TYPES.get(name, name) if self.scope in ("mmrotate", "opencd") else name
        if new == name and self.scope == "mmrotate" and name in _MMDET:
            new = f"mmdet.{name}"
        if new == name and not _registered(name, "mmseg" if self.scope == "opencd" else self.scope):
            if _registered(f"rsfoundation.{name}", "mmengine"):
                new = f"rsfoundation.{name}"
            else:
                self._report(f"{where}.type", f"no type '{name}' is known")
        if new != kind:
            self.renamed[f"{where}.type: {kind}"] = new
        return new

    def _preprocessor(self, model: dict[str, Any]) -> None:
        norm = self.cfg.get("img_norm_cfg") or _find(self.cfg.get("data", {}), "Normalize") or {}
        if not norm:
            return self._report("img_norm_cfg", "mean and std of the images were not found")
        kind = (
            "mmseg.SegDataPreProcessor" if self.scope in ("mmseg", "opencd") else "mmdet.DetDataPreprocessor"
        )
        made: dict[str, Any] = dict(
            type=kind, mean=norm["mean"], std=norm["std"], bgr_to_rgb=bool(norm.get("to_rgb", True))
        )
        if kind.startswith("mmdet"):
            made |= (
                dict(pad_size_divisor=32, boxtype2tensor=False)
                if self.scope == "mmrotate"
                else dict(pad_size_divisor=32, pad_mask=True)
            )
        else:
            made |= dict(pad_val=0, seg_pad_val=255)
        model["data_preprocessor"] = made
        self.renamed["img_norm_cfg"] = "model.data_preprocessor"

    def _oriented(self, model: dict[str, Any]) -> None:
        """Add what mmrotate 1.x asks for and 0.x had by itself."""
        shipped = _SHIPPED.get(str(self.cfg["model"].get("type")))
        if shipped:
            self._report("model.type", f"its parts are arranged otherwise in 1.x: start from {shipped}")
        rpn = model.get("rpn_head")
        if rpn:
            rpn.pop("version", None)
            rpn.setdefault("anchor_generator", {})["use_box_type"] = True
            assigner = (model.get("train_cfg") or {}).get("rpn", {}).get("assigner")
            if assigner is not None:  # anchors are upright, objects are not
                assigner.setdefault("iou_calculator", dict(type="RBbox2HBboxOverlaps2D"))
        head = (model.get("roi_head") or {}).get("bbox_head")
        for one in head if isinstance(head, list) else [head] if head else []:
            one.setdefault("predict_box_type", "rbox")
            for key in ("reg_predictor_cfg", "cls_predictor_cfg"):
                one.setdefault(key, dict(type="mmdet.Linear"))
        dense = model.get("bbox_head")
        if isinstance(dense, dict) and "anchor_generator" in dense:
            # anchors of 0.x keep the angle 0
            dense["anchor_generator"] |= dict(
                type="rsfoundation.FakeRotatedAnchorGenerator", angle_version=None
            )
            dense.pop("assign_by_circumhbbox", None)

    def _backbone(self, model: dict[str, Any]) -> None:
        """Name the size of one of our backbones where a config writes its widths."""
        backbone = model.get("backbone") or {}
        kind = str(backbone.get("type", "")).removeprefix("rsfoundation.")
        arch = _ARCHS.get((kind, tuple(backbone.get("embed_dims") or ())))
        if arch:
            for key in ("embed_dims", "depths", "mlp_ratios", "norm_cfg", "num_stages"):
                backbone.pop(key, None)
            backbone["arch"] = arch
            self.renamed["model.backbone.embed_dims, depths"] = f"arch='{arch}'"

    def _check_build(self, model: dict[str, Any], scope: str) -> None:
        """Report a network that cannot be built."""
        from mmengine.registry import DefaultScope

        with DefaultScope.overwrite_default_scope(scope):
            while True:
                try:
                    MODELS.build(ConfigDict(copy.deepcopy(model)))
                    return
                except Exception as error:  # a type of any toolbox may raise anything
                    if self._drop_unknown_option(model, str(error)):
                        continue
                    lines = str(error).strip().splitlines() or [""]
                    why = f"it does not build: {type(error).__name__}: {lines[-1][:200]}"
                    return self._report("model", why)

    def _drop_unknown_option(self, model: dict[str, Any], error: str) -> bool:
        """Take an option that a type does not have out of the model, and report it with its own line."""
        from rsfoundation.engine.config import UNKNOWN_OPTION, dicts_of  # that module reads this one

        found = UNKNOWN_OPTION.search(error)
        if not found:
            return False
        owner, option = found.groups()
        having = [(path, part) for path, part in dicts_of(model, "model.") if option in part]
        # a type may hand its options on to a base class, which then refuses them
        named = [one for one in having if str(one[1].get("type", "")).rsplit(".", 1)[-1] == owner]
        if not having or (len(having) > 1 and not named):
            return False
        path, part = (named or having)[0]
        del part[option]
        self._report(f"{path}{option}", f"{part.get('type', owner)} has no such option")
        return True

    def _schedule(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.cfg.get("load_from"):
            out["load_from"] = self.cfg["load_from"]
        if not self.old:
            return out | {key: self.cfg[key] for key in _SCHEDULE if key in self.cfg}
        optimizer = self.cfg.get("optimizer")
        if optimizer:
            optimizer = dict(optimizer)
            wrapper: dict[str, Any] = dict(type="OptimWrapper")
            if "paramwise_cfg" in optimizer:
                wrapper["paramwise_cfg"] = optimizer.pop("paramwise_cfg")
            wrapper["optimizer"] = optimizer
            clip = (self.cfg.get("optimizer_config") or {}).get("grad_clip")
            if clip:
                wrapper["clip_grad"] = clip
            if self.cfg.get("fp16"):
                wrapper |= dict(type="AmpOptimWrapper", loss_scale="dynamic")
            out["optim_wrapper"] = wrapper
            self.renamed["optimizer, optimizer_config"] = "optim_wrapper"
        runner = self.cfg.get("runner") or {}
        epochs, iterations = runner.get("max_epochs", self.cfg.get("total_epochs")), runner.get("max_iters")
        interval = (self.cfg.get("evaluation") or {}).get("interval", 1)
        if epochs:
            out["train_cfg"] = dict(by_epoch=True, max_epochs=epochs, val_interval=interval)
        elif iterations:
            out["train_cfg"] = dict(by_epoch=False, max_iters=iterations, val_interval=interval)
        if "train_cfg" in out:
            out |= dict(val_cfg=dict(type="ValLoop"), test_cfg=dict(type="TestLoop"))
        rates = self.cfg.get("lr_config")
        if rates:
            out["param_scheduler"] = self._rates(dict(rates), epochs, iterations)
            self.renamed["lr_config"] = "param_scheduler"
        return out

    def _rates(
        self, rates: dict[str, Any], epochs: int | None, iterations: int | None
    ) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        warm = rates.get("warmup_iters", 0)
        if rates.get("warmup"):
            out.append(
                dict(
                    type="LinearLR",
                    start_factor=rates.get("warmup_ratio", 0.1),
                    by_epoch=False,
                    begin=0,
                    end=warm,
                )
            )
        by_epoch, policy = rates.get("by_epoch", True), str(rates.get("policy", "")).lower()
        if policy == "step":
            steps = rates["step"] if isinstance(rates["step"], (list, tuple)) else [rates["step"]]
            gamma = rates.get("gamma", 0.1)
            out.append(dict(type="MultiStepLR", milestones=list(steps), gamma=gamma, by_epoch=by_epoch))
        elif policy in ("poly", "cosineannealing"):
            end = epochs if by_epoch else iterations
            kind = "PolyLR" if policy == "poly" else "CosineAnnealingLR"
            one = dict(
                type=kind,
                eta_min=rates.get("min_lr", 0.0),
                begin=0 if by_epoch else warm,
                end=end,
                by_epoch=by_epoch,
            )
            if policy == "poly":
                one["power"] = rates.get("power", 1.0)
            else:
                one["T_max"] = end if by_epoch else (end or 0) - warm
            out.append(one)
        else:
            self._report("lr_config.policy", f"'{policy}' is not converted")
        return out

    def _report(self, key: str, why: str) -> None:
        words = [word for word in re.split(r"[.\[\]]+", key) if word]
        candidates = (".".join(words), *(word for word in reversed(words) if word != "type"))
        place = next((self.lines[name] for name in candidates if name in self.lines), str(self.path))
        self.unknown.append(Unknown(key, place, why))

    def _text(self, body: dict[str, Any], dataset: Path | None, output: Path) -> str:
        lines = [f"# Converted from {self.path.name} by `rsf convert config`."]
        lines += [f"# Not converted: {one.key} ({one.why})." for one in self.unknown]
        schedule = body.get("train_cfg") or {}
        iterations = "max_iters" in schedule
        runtime = f"runtime/{'iterations' if iterations else 'default'}.py"
        data: list[str] = []
        if dataset is None:
            lines.append("# The data set is missing: add a file of configs/_base_/datasets to _base_.")
            bases = [runtime]
        else:
            pipeline = self._pipeline(dataset)
            bases = [f"datasets/{dataset.name}", *([f"pipelines/{pipeline}.py"] if pipeline else []), runtime]
            data = self._loaders(bool(pipeline), iterations)
            if pipeline:
                lines.append(f"# The steps of training are those of _base_/pipelines/{pipeline}.py.")
        if iterations and schedule.get("val_interval"):
            body["default_hooks"] = dict(checkpoint=dict(interval=schedule["val_interval"]))
        root = dataset.parents[1] if dataset else _config_folder()
        root_name = Path(os.path.relpath(root, output.resolve().parent)).as_posix()
        out = "\n".join([*lines, f"_base_ = {[f'{root_name}/{base}' for base in bases]}"]) + "\n\n"
        for key, value in body.items():
            # a base's model or schedule must not shine through
            out += f"{key} = {pprint.pformat(value, sort_dicts=False, width=110)}\n"
        return out + "".join(f"{line}\n" for line in data)

    def _pipeline(self, dataset: Path) -> str | None:
        """Return the file of ``_base_/pipelines`` that a data set needs, if its own file has no steps."""
        if "pipeline" in Config.fromfile(str(dataset)).train_dataloader.dataset:
            return None
        if self.scope == "mmdet":
            return "instance_1024"
        types = repr(self.cfg["model"])
        if "SiamEncoderMultiDecoder" in types:
            return "semantic_change"
        if "'Changer'" in types:
            return "change_changer"
        return "change_standard_512" if 512 in (self.cfg.get("crop_size") or ()) else "change_standard_256"

    def _loaders(self, pipeline: bool, iterations: bool) -> list[str]:
        """Return the lines of the loaders: batch, sampler of the schedule, steps."""
        batch = (self.cfg.get("train_dataloader") or {}).get("batch_size")
        batch = batch or (self.cfg.get("data") or {}).get("samples_per_gpu")
        parts = [f"batch_size={batch}"] if batch else []
        # an infinite sampler would never end an epoch
        parts.append(f"sampler=dict(type='{'Infinite' if iterations else 'Default'}Sampler', shuffle=True)")
        parts += ["dataset=dict(pipeline={{_base_.train_pipeline}})"] if pipeline else []
        lines = [f"train_dataloader = dict({', '.join(parts)})"]
        if pipeline and self.scope == "mmdet":
            lines.append("val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))")
            lines.append("test_dataloader = val_dataloader")
        return lines


def _config_folder() -> Path:
    from rsfoundation.engine.config import config_root  # that module reads this one

    return config_root() / "_base_"


def _dataset_file(name: str) -> Path:
    """Return the file of a data set.

    Raises:
        ConfigError: There is none of that name.
    """
    folder = _config_folder() / "datasets"
    known = sorted(file.stem for file in folder.glob("*.py"))
    if name not in known:
        hint = nearest(name, known)
        raise ConfigError(
            f"no data set is called '{name}'",
            where="--dataset",
            fix=f"{hint} Names: {', '.join(known)}".strip(),
        )
    return folder / f"{name}.py"


# fmt: off
_DATA = frozenset([
    "train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator",
    "data_preprocessor",
])
# fmt: on
_SCHEDULE = ("train_cfg", "val_cfg", "test_cfg", "optim_wrapper", "param_scheduler")
_CONSUMED = {"model", *_OLD_KEYS, "optimizer_config", "evaluation", "load_from", "fp16", *_DATA, *_SCHEDULE}


def _registered(name: str, scope: str) -> bool:
    """Return whether a type, layer or loss of this name exists in the registries of a scope."""
    import mmcv.ops
    from mmengine import registry as roots

    if hasattr(mmcv.ops, name):  # layers of regions are no registered types
        return True

    scoped = name if "." in name or scope == "mmengine" else f"{scope}.{name}"
    for kind in ("MODELS", "TASK_UTILS", "OPTIMIZERS", "WEIGHT_INITIALIZERS"):
        for one in (name, scoped):
            try:
                if getattr(roots, kind).get(one) is not None:
                    return True
            except (KeyError, ImportError):
                continue
    return name in _UNREGISTERED


def _find(part: Any, kind: str) -> dict[str, Any] | None:
    """Return the first dictionary of a type below a value."""
    if isinstance(part, dict):
        if str(part.get("type", "")).endswith(kind):
            return part
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        return next((found for one in part if (found := _find(one, kind))), None)
    return None


def _lines_of_keys(path: Path) -> dict[str, str]:
    """Return ``file:line`` of every key of a config and its bases, dotted, and of its last word."""
    found: dict[str, str] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own: dict[str, str] = {}

    def visit(node: ast.AST, key: str) -> None:
        pairs: list[tuple[str, ast.AST, int]] = []
        if isinstance(node, ast.Call):
            pairs = [(f"{key}.{one.arg}", one.value, one.lineno) for one in node.keywords if one.arg]
        elif isinstance(node, ast.Dict):
            pairs = [
                (f"{key}.{name.value}", value, name.lineno)
                for name, value in zip(node.keys, node.values, strict=True)
                if isinstance(name, ast.Constant) and isinstance(name.value, str)
            ]
        elif isinstance(node, (ast.List, ast.Tuple)):
            pairs = [(f"{key}.{index}", one, one.lineno) for index, one in enumerate(node.elts)]
        for name, value, line in pairs:
            note(name, line)
            visit(value, name)

    def note(name: str, line: int) -> None:
        own.setdefault(name, f"{path}:{line}")
        own.setdefault(name.rpartition(".")[2], f"{path}:{line}")

    for statement in tree.body:
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            if not isinstance(target, ast.Name):
                continue
            assert isinstance(statement, ast.Assign)
            if target.id == "_base_":
                bases = ast.literal_eval(statement.value)
                for base in [bases] if isinstance(bases, str) else bases:
                    file = path.parent / base
                    found |= _lines_of_keys(file) if file.suffix == ".py" and file.is_file() else {}
            note(target.id, statement.lineno)
            visit(statement.value, target.id)
    return found | own
