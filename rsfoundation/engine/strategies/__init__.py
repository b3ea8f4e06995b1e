"""How a run is spread over ranks: FSDP and DeepSpeed under one switch, on CPU and CUDA."""

from rsfoundation.engine.strategies.deepspeed import DeepSpeedStrategy
from rsfoundation.engine.strategies.ema import ShardedEMAHook
from rsfoundation.engine.strategies.fsdp import FSDPStrategy
from rsfoundation.engine.strategies.runner import StrategyRunner

__all__ = ["DeepSpeedStrategy", "FSDPStrategy", "ShardedEMAHook", "StrategyRunner"]
