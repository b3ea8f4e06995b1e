# RSPrompter-query (arXiv 2306.16269): queries of Mask2Former prompt SAM's mask decoder. A config places encoder,
# aggregator and classes as for sam_seg_mask2former.py, and the number of queries (70; 100 on WHU, 30 on SSDD), which
# is also test_cfg.max_per_image.
_base_ = './sam_seg_mask2former.py'

_sam = dict(type='Pretrained', checkpoint='sam_vit_base-sa1b')
model = dict(
    type='rsfoundation.RSPrompterQuery',
    backbone_freeze=True,
    decoder_freeze=False,
    shared_image_embedding=dict(
        type='rsfoundation.RSSamPositionalEmbedding', hf_pretrain_name='facebook/sam-vit-base', init_cfg=_sam),
    panoptic_head=dict(
        type='rsfoundation.RSMask2FormerHead',
        mask_decoder=dict(
            type='rsfoundation.RSSamMaskDecoder', hf_pretrain_name='facebook/sam-vit-base', init_cfg=_sam),
        per_pointset_point=5,
        with_sincos=True,
        decoder_plus=True,
        num_queries=70),
    test_cfg=dict(max_per_image=70))
