# RSPrompter's and RS4D's steps for instance segmentation at 1024 px: scales of 0.1 to 2, crops of 1024 px; tested at
# 1024 px, padded to a square. A config places them:
#   train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
#   val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
#   model = dict(data_preprocessor={{_base_.square_batches}})
_size = (1024, 1024)
train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile', to_float32=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=_size, ratio_range=(0.1, 2.0), resize_type='Resize', keep_ratio=True),
    dict(type='RandomCrop', crop_size=_size, crop_type='absolute', recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type='PackDetInputs'),
]
# mosaics of four images under an affine map before the other steps, as the variant "pa11" of RS4D; ranges as mmdet's
# Mosaic and RandomAffine, half of the samples
mosaic_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile', to_float32=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='rsfoundation.InstanceMosaic', scale=_size, prob=0.5),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=_size, ratio_range=(0.1, 2.0), resize_type='Resize', keep_ratio=True),
    dict(type='RandomCrop', crop_size=_size, crop_type='absolute', recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile', to_float32=True),
    dict(type='Resize', scale=_size, keep_ratio=True),
    dict(type='Pad', size=_size, pad_val=dict(img=(103.53, 116.28, 123.675), masks=0)),
    # after Pad: pictures compare in pixels of the image file
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
square_batches = dict(
    batch_augments=[dict(type='BatchFixedSizePad', size=_size, img_pad_value=0, pad_mask=True, mask_pad_value=0)])
