# A frozen teacher into a student: teacher, backbone, and what depends on their sizes are set by the config.
# The mean and std are those of SAM's encoders. The best checkpoint has the least relative error.
task = dict(type='rsfoundation.Distillation')
model = dict(
    type='rsfoundation.FeatureDistiller',
    losses=[dict(type='rsfoundation.MapAlignment', loss='smooth_l1', cosine=1.0, relation=0.5)],
    corruption=dict(noise=0.2, mask=0.2, adaptive=True),
    data_preprocessor=dict(
        type='rsfoundation.SceneDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='rsfoundation.DistillationMetric')
test_evaluator = dict(type='rsfoundation.DistillationMetric')
custom_hooks = [dict(type='rsfoundation.TargetStatisticsHook', images=256)]
default_scope = 'mmengine'
