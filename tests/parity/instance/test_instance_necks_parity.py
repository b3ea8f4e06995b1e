import pytest
import torch

from rsfoundation.models.necks.rs_aggregators import (
    LN2d,
    PseudoFeatureAggregator,
    RSFeatureAggregator,
    RSFeaturePaAggregator,
)
from rsfoundation.models.necks.rs_fpn import RSSimpleFPN, RSSimplePaFPN

AGGREGATORS = [PseudoFeatureAggregator, RSFeatureAggregator, RSFeaturePaAggregator]
CLASSES = {cls.__name__: cls for cls in [LN2d, RSSimpleFPN, RSSimplePaFPN, *AGGREGATORS]}
GOLDENS = [
    "is_ln2d",
    "is_pseudo_aggregator",
    "is_feature_aggregator",
    "is_feature_pa_aggregator",
    "is_simple_fpn",
    "is_simple_pafpn",
]


def _kwargs(meta):
    kwargs = dict(meta["kwargs"])
    if "norm_cfg" in kwargs:
        kwargs["norm_cfg"] = dict(kwargs["norm_cfg"], type="rsfoundation.LN2d")
    if "select_layers" in kwargs:  # written as the text 'range(1,24,2)'
        bounds = kwargs["select_layers"].removeprefix("range(").removesuffix(")").split(",")
        kwargs["select_layers"] = range(*map(int, bounds))
    return kwargs


@pytest.mark.parametrize("name", GOLDENS)
def test_neck(name, golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    meta = golden_meta(name)
    neck = CLASSES[meta["cls"]](**_kwargs(meta))
    assert_keys(name, neck)
    inputs = [golden_image(*item) for item in meta["inputs"]]
    with torch.no_grad():
        outputs = load_recipe_weights(neck)(inputs if type(neck) in AGGREGATORS else inputs[0])
    assert_outputs(name, [outputs] if torch.is_tensor(outputs) else outputs, 2e-5)
