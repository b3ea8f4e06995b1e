"""One small network of every kind of backbone, for recognition and pretraining."""

from backbone_golden import NETWORKS

SMALL = {
    **{
        name: NETWORKS[name]
        for name in ("lsknet_t", "stripnet_t", "lwganet_l0", "rsp_resnet50", "rsp_swin_t")
    },
    "vitaev2_s": NETWORKS["vitaev2_s"],
    "rsmamba": dict(
        type="PlainPyramid",
        encoder=dict(
            type="RSMamba",
            arch=dict(embed_dims=32, num_layers=4, feedforward_channels=64),
            img_size=64,
            out_type="featmap",
            out_indices=[0, 1, 2, 3],
        ),
    ),
    "sam_vit": dict(
        type="SAMViT",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        global_attn_indexes=(1,),
        image_size=64,
        window_size=2,
    ),
}
