"""Makes a detector's training the same thing on one process with a whole batch and on several with its parts.

Every scene is the same scene, so batch statistics and the counts that losses are divided by are those of one
scene wherever it is; every candidate is sampled, nothing is flipped or dropped, so no random number is drawn.
That gradients of different scenes are averaged rightly is tested on the tiny task.
"""


def make_alike(cfg, data_root, batch_size):
    """Change ``cfg`` in place: three steps on one scene of ``data_root``, without validation."""
    loader = cfg.train_dataloader
    dataset = loader.dataset
    dataset.data_root = cfg.data_root = data_root
    dataset.indices = [0] * 6
    for step in dataset.pipeline:
        if "RandomFlip" in step["type"]:
            step["prob"] = 0.0
        if "RandomResizedCrop" in step["type"]:
            step.update(size=64, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, drop_last=True)
    loader.sampler = dict(type="DefaultSampler", shuffle=False)
    loader.pop("batch_sampler", None)
    for name in (
        "val_dataloader",
        "val_cfg",
        "val_evaluator",
        "test_dataloader",
        "test_cfg",
        "test_evaluator",
    ):
        cfg[name] = None
    cfg.param_scheduler = []
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1)
    # a large step makes candidates change places, after which rounding decides
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=0.05)
    cfg.default_hooks["checkpoint"] = dict(type="CheckpointHook", interval=1)
    if cfg.model.type.endswith("SimMIM"):
        cfg.model.patch = 64  # the whole image is hidden: no mask is drawn
    _take_all(cfg.model)


def _take_all(node):
    """Sample every candidate and drop no path."""
    if isinstance(node, dict):
        if str(node.get("type", "")).endswith("Sampler"):
            node.update(num=10**6, pos_fraction=0.999999, neg_pos_ub=-1)
        if "drop_path_rate" in node:
            node["drop_path_rate"] = 0.0
        for value in node.values():
            _take_all(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _take_all(value)
