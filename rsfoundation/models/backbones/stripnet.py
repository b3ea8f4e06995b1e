"""StripNet: large strip convolutions for remote sensing (Strip R-CNN, arXiv 2501.03775)."""

from rsfoundation.models.backbones.gated_conv import GatedConvBackbone, StripGate
from rsfoundation.registry import MODELS


@MODELS.register_module()
class StripNet(GatedConvBackbone):
    """Gated convolution blocks whose gate sees 19 positions along a row, then along a column."""

    gate = StripGate
