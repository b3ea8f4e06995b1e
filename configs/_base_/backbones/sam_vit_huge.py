# SAM ViT-H (arXiv 2304.02643): 32 blocks, SA-1B weights, native image size 1024, grown into strides 4 to 32.
# Maps of the four blocks that attend to the whole image, all at stride 16, become the four strides that heads expect.
backbone = dict(
    type='rsfoundation.PlainPyramid',
    encoder=dict(
        type='rsfoundation.SAMViT',
        arch='huge',
        out_indices=[7, 15, 23, 31],
        init_cfg=dict(type='Pretrained', checkpoint='sam_vit_huge-sa1b')),
    norm_cfg=dict(type='SyncBN', requires_grad=True))
backbone_channels = [1280, 1280, 1280, 1280]
