# MAE on RSMamba-base, from random weights: your own unlabelled images and scenes. Reported: none.
# Put images or GeoTIFFs into data/unlabelled/, or set train_dataloader.dataset.inputs. For other bands: image_loading,
# the backbone's in_channels, and mean and std of model.data_preprocessor (docs/pretraining.md).
_base_ = [
    '../_base_/backbones/rsmamba_b.py',
    '../_base_/heads/masked_image.py',
    '../_base_/datasets/unlabelled_512.py',
    '../_base_/schedules/pretraining_100e.py',
    '../_base_/runtime/default.py',
]
model = dict(type='rsfoundation.MAE', backbone={{_base_.backbone}})
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
