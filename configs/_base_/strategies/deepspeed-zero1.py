# DeepSpeed, ZeRO stage 1: optimiser states are sharded over the ranks.
# Checkpoints are folders: tools/test.py reads them, tools/zero_to_fp32.py turns them into one file.
# Buckets of 50 million elements: DeepSpeed's own of 500 million take 2 GB each, more than most models here.
strategy = dict(
    type='rsfoundation.DeepSpeedStrategy',
    zero_optimization=dict(
        stage=1, reduce_bucket_size=50_000_000, allgather_bucket_size=50_000_000))
