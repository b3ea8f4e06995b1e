"""What two ranks train for the tests of this folder, by name; see ``worker.py``."""

import json

import torch
from noisy_task import noisy_config

ZERO = ("deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
SHARDED = ("fsdp", *ZERO)
FEW = ("fsdp", "deepspeed-zero1", "deepspeed-zero3")
WHOLE_BATCH = ["train_dataloader.batch_size=8"]
ACCUMULATE = ["optim_wrapper.accumulative_counts=3"]
HALF = ["train_cfg.max_epochs=1"]
BF16 = ["strategy.bf16.enabled=True"]
LORA = {"lora": dict(rank=2, scope="body", target=["0", "2"])}
ADAPTERS = {"model": dict(base="base.pth"), "lora": dict(**LORA["lora"], adapters_only=True)}
RECOMPUTE = {"activation_checkpointing": ["body"]}
DECAY = {
    "optim_wrapper": dict(
        constructor="rsfoundation.LayerDecayOptimWrapperConstructor",
        paramwise_cfg=dict(decay_rate=0.5, part="", bypass_duplicate=True, norm_decay_mult=0.0),
    )
}


def few():
    """Return those of the default suite."""
    found = {name: dict(strategy=name, ema=True) for name in FEW}
    found["deepspeed-zero3-lora"] = dict(strategy="deepspeed-zero3", ema=True, set=LORA)
    return found


def more():
    """Return those of the slow suite."""
    found = {"ddp": dict(strategy="ddp"), "offload": dict(strategy="deepspeed-zero3-offload")}
    for name in SHARDED:
        found[name] = dict(strategy=name, ema=True)
        found.update(_resumed(name, ema=True))
        found[f"{name}-accumulate"] = dict(strategy=name, options=ACCUMULATE)
        found[f"{name}-recompute"] = dict(strategy=name, set=RECOMPUTE)
        found[f"{name}-decay"] = dict(strategy=name, set=DECAY)
        found[f"{name}-lora"] = dict(strategy=name, ema=True, set=LORA)
        found[f"{name}-adapters"] = dict(strategy=name, set=ADAPTERS)
        found.update(_resumed(name, of="-adapters", set=ADAPTERS))
        noisy = dict(strategy=name, ema=True, config="noisy/tiny.py")
        found[f"{name}-noisy"] = noisy
        found[f"{name}-noisy-part"] = dict(**noisy, stop=5, run=f"{name}-noisy-again")
        found[f"{name}-noisy-again"] = dict(**noisy, resume="auto")
    for name in ZERO:
        found[f"{name}-bf16"] = dict(strategy=name, ema=True, options=BF16)
        found[f"{name}-lora-bf16"] = dict(strategy=name, ema=True, set=LORA, options=BF16)
    return found


def alone(names):
    """Return what one process trains with the whole batch, for the ``names`` that two ranks train."""
    found = {"alone": dict(options=WHOLE_BATCH, ema=True)}
    for kind, scenario in (
        ("lora", dict(options=WHOLE_BATCH, ema=True, set=LORA)),
        ("accumulate", dict(options=WHOLE_BATCH + ACCUMULATE)),
        ("decay", dict(options=WHOLE_BATCH, set=DECAY)),
    ):
        if any(name.endswith(f"-{kind}") for name in names):
            found[f"alone-{kind}"] = scenario
    return found


def _resumed(name, of="", **scenario):
    """One epoch, and another one in a new run."""
    again = f"{name}{of}-again"
    return {
        f"{name}{of}-half": dict(strategy=name, options=HALF, run=again, **scenario),
        again: dict(strategy=name, resume="auto", **scenario),
    }


def weights(runs, name):
    """The whole weights of the live model at the end of a run."""
    return torch.load(runs / f"{name}.pth")


def losses(runs, name):
    """The mean losses of a run."""
    return json.loads((runs / f"{name}.json").read_text())


def check_close(ours, wanted):
    """Compare two state dicts to float tolerance."""
    assert set(ours) == set(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def write_noisy(folder):
    """Write the config that draws random numbers wherever it can."""
    noisy_config(folder / "noisy", "epoch", workers=2)
