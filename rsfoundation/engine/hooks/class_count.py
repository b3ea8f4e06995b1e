"""Whether the heads of a model know as many classes as the data they learn from."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import HOOKS

_OTHERS = {"backbone", "neck", "rpn_head"}  # have a num_classes that is not the data's


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Refuses to train a head with another number of classes than the training data has.

    One class too many trains in silence: most heads take the label after their last for the background.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare before the first step.

        Raises:
            ConfigError: They differ.
        """
        classes = getattr(runner.train_dataloader.dataset, "metainfo", {}).get("classes")
        if classes is None:
            return
        odd = [one for one in _heads(runner.model) if one[1] != len(classes)]
        if odd:
            name, count = odd[0]
            more = f" (and {len(odd) - 1} more heads)" if len(odd) > 1 else ""
            raise ConfigError(
                f"{name} has num_classes={count}{more}, and the training data {len(classes)} classes",
                where=f"model.{name}; train_dataloader.dataset",
                fix=f"set num_classes={len(classes)} there, or choose the classes of the data: "
                "metainfo=dict(classes=(...))",
            )


def _heads(network: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield name and number of classes of every head that has one."""
    for name, module in network.named_modules():
        parts = [part for part in name.split(".") if part != "module"]
        count = getattr(module, "num_classes", None)
        if isinstance(count, int) and parts and not _OTHERS & set(parts) and "loss" not in parts[-1]:
            yield ".".join(parts), count
