# DOTA-1.0 cut at three scales: windows of 2048, 1024 and 682 px (rates 0.5, 1, 1.5) that share 500 px per 1024,
# resized to 1024. Everything else as in dota_ss.py.
_base_ = './dota_ss.py'

train_dataloader = dict(dataset=dict(split='ms/trainval', preset='ms'))
val_dataloader = dict(dataset=dict(split='ms/val', preset='ms'))
test_dataloader = val_dataloader
submission = dict(split='ms/test')
