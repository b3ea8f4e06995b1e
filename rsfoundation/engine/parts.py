"""Naming a part of a model in a config."""

from torch import nn

from rsfoundation.errors import ConfigError, nearest


def find_part(model: nn.Module, name: str, where: str) -> nn.Module:
    """Return a submodule by its dotted name.

    Args:
        model: The whole model.
        name: Such as ``backbone``.
        where: The key of the config that names it, for the error.

    Raises:
        ConfigError: The model has no such part.
    """
    part = dict(model.named_modules()).get(name)
    if part is None:
        known = [child for child, _ in model.named_children()]
        raise ConfigError(
            f"the model has no part '{name}'",
            where=where,
            cure=nearest(name, known) or f"one of: {', '.join(known)}",
        )
    return part
