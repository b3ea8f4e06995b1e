# SAM ViT-L (arXiv 2304.02643): 24 blocks, SA-1B weights, native image size 1024, grown into strides 4 to 32.
# Maps of the four blocks that attend to the whole image, all at stride 16, become the four strides that heads expect.
backbone = dict(
    type='rsfoundation.PlainPyramid',
    encoder=dict(
        type='rsfoundation.SAMViT',
        arch='large',
        out_indices=[5, 11, 17, 23],
        init_cfg=dict(type='Pretrained', checkpoint='sam_vit_large-sa1b')),
    norm_cfg=dict(type='SyncBN', requires_grad=True))
backbone_channels = [1024, 1024, 1024, 1024]
