# SAM ViT-H with the hidden states of every block, channels last, as RSPrompter's feature aggregator takes them.
backbone = dict(
    type='rsfoundation.SAMViT',
    arch='huge',
    output_hidden_states=True,
    init_cfg=dict(type='Pretrained', checkpoint='sam_vit_huge-sa1b'))
backbone_channels = [1280] * 33
