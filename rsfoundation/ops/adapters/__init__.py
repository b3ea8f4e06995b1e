"""Our operators under mmcv's calling convention: its argument order, results written into given tensors."""
