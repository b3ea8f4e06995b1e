# DeepSpeed, ZeRO stage 1: optimiser states are sharded over the ranks.
# Checkpoints are folders: tools/test.py reads them, tools/zero_to_fp32.py turns them into one file.
strategy = dict(type='rsfoundation.DeepSpeedStrategy', zero_optimization=dict(stage=1))
