# SECOND: data/second/{train,val}/{im1,im2,label,label1,label2}, 512 px, 2968 / 1694 public pairs. label: 0 and 1;
# label1 and label2: land cover of the dates, 0 unchanged, 1 to 6 the classes.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/second/'

test_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgMultiAnnLoadAnnotations'),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.SECOND_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='train/im1',
            img_path_to='train/im2',
            seg_map_path='train/label',
            seg_map_path_from='train/label1',
            seg_map_path_to='train/label2')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.SECOND_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='val/im1',
            img_path_to='val/im2',
            seg_map_path='val/label',
            seg_map_path_from='val/label1',
            seg_map_path_to='val/label2'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# Land cover counts from 1 and is 0 where nothing changed, as the model leaves it with 'cover_semantic'.
val_evaluator = dict(type='rsfoundation.SemanticChangeMetric', covered=True)
test_evaluator = val_evaluator
