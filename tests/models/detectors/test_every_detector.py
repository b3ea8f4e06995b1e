"""Every head file builds, trains a step on objects and on none, and predicts; on a GPU as on the CPU."""

import pytest
import torch
from oriented_heads import batch, sample

HEADS = [
    "oriented_rcnn",
    "oriented_rcnn_small",
    "oriented_rcnn_rsp",
    "roi_transformer",
    "strip_rcnn",
    "r3det",
    "s2anet",
    "s2anet_small",
    "rotated_retinanet",
    "rotated_retinanet_small",
    "rotated_fcos",
    "rotated_rtmdet",
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = [pytest.mark.gpu, needs_cuda]
OBJECTS = [[40.0, 40, 40, 20, 0.4], [90, 80, 60, 24, -1.2], [100, 30, 20, 20, 0.0]]


@pytest.mark.parametrize("head", HEADS)
def test_trains_and_predicts(build_detector, head):
    model = build_detector(head)
    data = model.data_preprocessor(batch(sample(OBJECTS), sample([])), True)
    losses = model(**data, mode="loss")
    total, parts = model.parse_losses(losses)
    assert torch.isfinite(total) and total > 0
    assert all(torch.isfinite(value).all() for value in parts.values())
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, grad in gradients.items() if grad is None]
    assert not missing
    assert all(torch.isfinite(grad).all() for grad in gradients.values())

    model.eval()
    with torch.no_grad():
        found = model.test_step(batch(sample([]), sample([])))
    for one in found:
        boxes = one.pred_instances.bboxes
        boxes = boxes.tensor if hasattr(boxes, "tensor") else boxes
        assert boxes.shape[1] == 5 and torch.isfinite(boxes).all()
        assert (boxes[:, 2:4] > 0).all() and len(boxes) == len(one.pred_instances.scores) <= 2000


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("head", HEADS)
def test_a_gpu_gives_the_losses_and_gradients_of_the_cpu(build_detector, head, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    results = []
    for device in ("cpu", "cuda"):
        model = build_detector(head).to(device)
        data = model.data_preprocessor(batch(sample(OBJECTS), sample([])), True)
        torch.manual_seed(0)  # which regions are sampled
        total, parts = model.parse_losses(model(**data, mode="loss"))
        total.backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        results.append({**{name: float(value) for name, value in parts.items()}, "gradient": float(norm)})
    # weights changed by 1e-4 move the gradient of FCOS's overlap loss by a twentieth, on the CPU alone
    one, other = (result.pop("gradient") for result in results)
    assert one == pytest.approx(other, rel=0.1 if head == "rotated_fcos" else 2e-3)
    assert results[0] == pytest.approx(results[1], rel=2e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.bfloat16),
        pytest.param("cuda", torch.bfloat16, marks=CUDA),
        pytest.param("cuda", torch.float16, marks=CUDA),
    ],
)
@pytest.mark.parametrize("head", HEADS)
def test_mixed_precision_trains_and_predicts(build_detector, head, device, dtype):
    model = build_detector(head).to(device)
    data = model.data_preprocessor(batch(sample(OBJECTS), sample([])), True)
    with torch.autocast(device, dtype):
        total, _parts = model.parse_losses(model(**data, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.eval()
    with torch.no_grad(), torch.autocast(device, dtype):
        found = model.test_step(batch(sample([]), sample([])))
    assert all(torch.isfinite(one.pred_instances.scores).all() for one in found)
