# A pooled linear classifier on any backbone; num_classes is set where the data are.
task = dict(type='rsfoundation.SceneRecognition')
model = dict(
    type='rsfoundation.SceneClassifier',
    head=dict(type='rsfoundation.SceneHead'),
    data_preprocessor=dict(
        type='rsfoundation.SceneDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]))
default_scope = 'mmengine'
