# LSKNet-T on EuroSAT's 13 bands from random weights. Reported: none; an example of any number of bands.
# Protocol: 64 px, 80 % of each class to train, reflectance as stored; means and deviations of the bands as torchgeo's.
_base_ = [
    '../_base_/heads/scene.py',
    '../_base_/datasets/eurosat_ms.py',
    '../_base_/schedules/recognition_300e.py',
    '../_base_/runtime/default.py',
]
model = dict(
    backbone=dict(
        type='rsfoundation.LSKNet', arch='t', in_channels=13, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    head=dict(num_classes=10),
    data_preprocessor=dict(
        mean=[1354.4, 1118.2, 1042.9, 947.6, 1199.5, 1999.8, 2369.2, 2296.8, 732.1, 12.1, 1819.0, 1118.9, 2594.1],
        std=[245.7, 333.0, 395.1, 593.8, 566.4, 861.2, 1086.6, 1118.0, 404.9, 4.8, 1002.6, 761.3, 1231.6]))
predict = dict(window=64, overlap=0)
