# Oriented R-CNN as RSP trains it (Wang et al., TGRS 2022, on OBBDetection): boxes are enlarged before their features
# are pooled, and only the assigner of anchors leaves the GPU, above 200 objects. Everything not named here is that of
# oriented_rcnn.py.
_base_ = './oriented_rcnn.py'

model = dict(
    roi_head=dict(bbox_roi_extractor=dict(type='rsfoundation.EnlargingRoIExtractor', enlarge=(1.4, 1.2))),
    train_cfg=dict(
        rpn=dict(assigner=dict(gpu_assign_thr=200)),
        rcnn=dict(assigner=dict(gpu_assign_thr=-1))))
