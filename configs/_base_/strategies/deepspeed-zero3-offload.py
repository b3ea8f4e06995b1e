# DeepSpeed, ZeRO stage 3, with parameters and optimiser states in the memory of the host.
# torch's own optimisers step on the host; DeepSpeedCPUAdam (optimizer=dict(type='DeepSpeedCPUAdam', ...)) is
# faster and needs a compiler.
strategy = dict(
    type='rsfoundation.DeepSpeedStrategy',
    zero_optimization=dict(
        stage=3,
        reduce_bucket_size=50_000_000,
        stage3_prefetch_bucket_size=50_000_000,
        offload_optimizer=dict(device='cpu', pin_memory=True),
        offload_param=dict(device='cpu', pin_memory=True)))
