# LWGANet-L0 and a linear head for the toy scenes, from random weights, in a few minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px seen at 96, eight classes, top-1: 0.925 (seed 0, 200 steps).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/scene.py',
    '../_base_/datasets/toy_recognition.py',
    '../_base_/schedules/toy_recognition.py',
    '../_base_/runtime/default.py',
]
model = dict(backbone={{_base_.backbone}}, head=dict(num_classes=8))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5))
predict = dict(window=256, overlap=0)
# what `rsf demo recognition` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/recognition/large/P0001.png'])
