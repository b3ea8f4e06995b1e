"""Every pyramid backbone against the golden outputs of the published network."""

import numpy as np
import pytest
import torch
from backbone_golden import CASES, FOLDER, NETWORKS, assert_golden, build_filled, golden_keys, image, shapes

from rsfoundation.registry import MODELS


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_and_order_are_the_published_ones(name):
    assert list(shapes(MODELS.build(NETWORKS[name])).items()) == list(golden_keys(name).items())


@pytest.mark.parametrize("case", CASES)
def test_every_stage_map_equals_the_published_one(case):
    name = case.split(".")[0]
    golden = np.load(FOLDER / f"{case}.npz")
    kept = tuple(str(key) for key in np.atleast_1d(golden["kept_buffers"]) if str(key))
    model = build_filled(name, kept)
    inputs = image(str(golden["input_name"]), tuple(golden["input_shape"]))
    with torch.no_grad():
        inference = model(inputs)
    assert_golden(case, inference)
    assert_golden(case, model(inputs))
