# LWGANet-L0, A2Net, on SYSU-CD (Lu et al., AAAI 2025); 2.91 M parameters.
# Reported: 83.41 F1, 71.54 IoU, 86.16 precision of the changed class, in per cent, on the SYSU-CD test set.
# Protocol: one confusion matrix over all test pixels, patches of 256 px as distributed, at a single scale; best
# checkpoint by the F1 of the validation set, here after every 1000 iterations (published: every epoch). 1 GPU x 32
# pairs, Adam 5e-4, 40 000 iterations, ImageNet-1k weights.
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/a2net.py',
    '../_base_/datasets/sysu_cd.py',
    '../_base_/pipelines/change_a2net.py',
    '../_base_/schedules/a2net_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(backbone={{_base_.backbone}})
train_dataloader = dict(batch_size=32, dataset=dict(pipeline={{_base_.train_pipeline}}))
