# RSPrompter-anchor (Chen et al., TGRS 2024) with LoRA on SAM ViT-B, NWPU VHR-10 at 512 px.
# Reported: nothing; RSPrompter publishes the config without a result.
# Protocol: COCO's metrics with 100 detections an image, single scale of 512 px; 2 images per GPU, AdamW 2e-4, 500
# epochs, mixed precision. Position tables are resampled to 512 px; rank 16 on the queries, keys and values of every
# block.
_base_ = [
    '../_base_/heads/rsprompter_anchor.py',
    '../_base_/datasets/nwpu_vhr10.py',
    '../_base_/pipelines/instance_512.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    backbone=dict(
        type='rsfoundation.MMPretrainSamVisionEncoder',
        hf_pretrain_name='facebook/sam-vit-base',
        img_size=512,
        peft_config=dict(peft_type='LORA', r=16, target_modules=['qkv'], lora_alpha=32, lora_dropout=0.05, bias='none'),
        init_cfg=dict(type='Pretrained', checkpoint='sam_vit_base-sa1b')),
    neck=dict(
        feature_aggregator=dict(
            _delete_=True,
            type='rsfoundation.PseudoFeatureAggregator',
            in_channels=256,
            hidden_channels=512,
            out_channels=256)),
    data_preprocessor={{_base_.square_batches}},
    roi_head=dict(bbox_head=dict(num_classes=10)))

train_dataloader = dict(batch_size=2, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=500, T_max=500, eta_min_ratio=0.001),
]
