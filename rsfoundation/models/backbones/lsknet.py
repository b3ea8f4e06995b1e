"""LSKNet: large selective kernels for remote sensing (arXiv 2303.09030)."""

from rsfoundation.models.backbones.gated_conv import GatedConvBackbone, LSKGate
from rsfoundation.registry import MODELS


@MODELS.register_module()
class LSKNet(GatedConvBackbone):
    """Gated convolution blocks whose gate chooses between a 5x5 and a 23x23 field at every position."""

    gate = LSKGate
