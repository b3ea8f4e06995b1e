# SegFormer's MLP decoder on both dates of MiT-b0 ("ChangeFormer" of Open-CD) on LEVIR-CD.
# Reported: 93.00 precision, 88.17 recall, 90.52 F1, 82.68 IoU of the changed class, in per cent, on the LEVIR-CD test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 256 px, 1 GPU
# x 8 pairs, AdamW 6e-5, 40 000 iterations.
_base_ = [
    '../_base_/heads/siam_segformer.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        type='MixVisionTransformer',
        in_channels=3,
        embed_dims=32,
        num_stages=4,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        mlp_ratio=4,
        qkv_bias=True,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth')),
    decode_head=dict(in_channels=[64, 128, 320, 512]))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

# The head learns ten times as fast; norms and the convolutions that carry positions take no weight decay.
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            pos_block=dict(decay_mult=0.0), norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0))))
