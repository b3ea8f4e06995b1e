# Masked image modelling: the form (SimMIM for pyramids, MAE for plain encoders) and the backbone are set by the config.
# There is no validation: the checkpoint hook keeps the newest ones alone.
task = dict(type='rsfoundation.Pretraining')
model = dict(
    data_preprocessor=dict(
        type='rsfoundation.SceneDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]))
default_scope = 'mmengine'
