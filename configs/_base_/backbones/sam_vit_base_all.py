# SAM ViT-B with the hidden states of every block, channels last, as RSPrompter's feature aggregator takes them.
backbone = dict(
    type='rsfoundation.SAMViT',
    arch='base',
    output_hidden_states=True,
    init_cfg=dict(type='Pretrained', checkpoint='sam_vit_base-sa1b'))
backbone_channels = [768] * 13
