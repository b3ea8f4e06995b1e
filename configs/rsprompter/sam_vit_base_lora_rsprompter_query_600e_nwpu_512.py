# RSPrompter-query (Chen et al., TGRS 2024) with LoRA on SAM ViT-B, NWPU VHR-10 at 512 px.
# Reported: nothing; RSPrompter publishes the config without a result.
# Protocol: COCO's metrics with 100 detections an image, single scale of 512 px; 1 image per GPU, AdamW 1e-4, 600
# epochs, DeepSpeed ZeRO-2 in float16 (`--strategy deepspeed-zero2`). Position tables are resampled to 512 px; rank 16
# on the queries, keys and values of every block.
_base_ = [
    '../_base_/heads/rsprompter_query.py',
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
    panoptic_head=dict(
        num_things_classes=10,
        num_queries=70,
        loss_cls=dict(class_weight=[1.0] * 10 + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=10),
    test_cfg=dict(max_per_image=70))

train_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=600, T_max=600, eta_min_ratio=0.001),
]
