# MAE on RSMamba-small: 400 toy scenes without labels. The decoder is small; only the encoder is of use afterwards.
#   rsf prepare toy data/toy --task detection --train 400
_base_ = ['../_base_/backbones/rsmamba_s.py', './pretraining_toy_lsknet_t.py']
