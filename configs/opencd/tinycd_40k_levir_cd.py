# TinyCD (Codegoni et al., 2022), 285 thousand parameters, on LEVIR-CD.
# Reported: 91.87 precision, 89.89 recall, 90.87 F1, 83.26 IoU of the changed class, in per cent, on the LEVIR-CD test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 256 px, 1 GPU
# x 8 pairs, AdamW 3.57e-3, 40 000 iterations.
_base_ = [
    '../_base_/heads/change_full_resolution.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        type='rsfoundation.TinyCD',
        in_channels=3,
        bkbn_name='efficientnet_b4',
        pretrained=True,
        output_layer_bkbn='3',
        freeze_backbone=False),
    decode_head=dict(
        _delete_=True,
        type='rsfoundation.IdentityHead',
        in_channels=1,
        in_index=-1,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

optim_wrapper = dict(optimizer=dict(lr=0.00356799066427741, weight_decay=0.009449677083344786))
