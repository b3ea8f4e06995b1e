# Parameters, gradients and optimiser states are sharded over the ranks (torch's fully_shard).
# Checkpoints are the same single .pth files as with ddp, whatever the number of ranks.
strategy = dict(type='rsfoundation.FSDPStrategy')
