"""The backbones' forward passes the plain way of their publications: planes in memory, eager, nothing merged.

Each function takes the package's own model, so that weights are the same, and an image batch of a size that
the published network takes.
"""

import torch
from torch import nn
from torch.nn import functional as F

Maps = list[torch.Tensor]


def _gate(gate: nn.Module, x: torch.Tensor) -> torch.Tensor:
    near = gate.conv0(x)
    far = gate.conv_spatial(near)
    near, far = gate.conv1(near), gate.conv2(far)
    both = torch.cat([near, far], 1)
    choice = torch.cat([both.mean(1, keepdim=True), both.max(1, keepdim=True)[0]], 1)
    choice = gate.conv_squeeze(choice).sigmoid()
    return x * gate.conv(near * choice[:, 0].unsqueeze(1) + far * choice[:, 1].unsqueeze(1))


def _strip_gate(gate: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x * gate.conv1(gate.strip_conv2(gate.strip_conv1(gate.conv0(x))))


def gated_conv(model: nn.Module, x: torch.Tensor) -> Maps:
    """LSKNet and StripNet."""
    maps = []
    for stage in range(1, 5):
        x = gated_conv_stage(model, stage, x)
        maps.append(x)
    return maps


def gated_conv_stage(model: nn.Module, stage: int, x: torch.Tensor) -> torch.Tensor:
    """One stage of LSKNet or StripNet, counted from 1."""
    embed = getattr(model, f"patch_embed{stage}")
    x = embed.norm(embed.proj(x))
    for block in getattr(model, f"block{stage}"):
        attn, mlp = block.attn, block.mlp
        gate = _gate if hasattr(attn.spatial_gating_unit, "conv_spatial") else _strip_gate
        y = block.norm1(x)
        y = attn.proj_2(gate(attn.spatial_gating_unit, F.gelu(attn.proj_1(y)))) + y
        x = x + block.layer_scale_1[:, None, None] * y
        y = mlp.fc2(F.gelu(mlp.dwconv.dwconv(mlp.fc1(block.norm2(x)))))
        x = x + block.layer_scale_2[:, None, None] * y
    count, channels, height, width = x.shape
    norm = getattr(model, f"norm{stage}")
    tokens = F.layer_norm(x.flatten(2).transpose(1, 2), (channels,), norm.weight, norm.bias, norm.eps)
    return tokens.reshape(count, height, width, channels).permute(0, 3, 1, 2).contiguous()


def _shear(x: torch.Tensor) -> torch.Tensor:
    side = x.shape[-1]
    x = F.pad(x, (0, side)).flatten(2)[:, :, :-side]
    return x.reshape(*x.shape[:2], side, 2 * side - 1)


def _unshear(x: torch.Tensor) -> torch.Tensor:
    side = x.shape[-2]
    x = F.pad(x.flatten(2), (0, side))
    return x.reshape(*x.shape[:2], side, 2 * side)[..., :side]


def _heads(qkv: torch.Tensor, heads: int, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1) + bias
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def _medium_range(mra: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = mra.max_m2(F.max_pool2d(x, 3, 1, 1))
    groups = x.shape[1]
    tall, wide = dict(padding=(5, 1), groups=groups), dict(padding=(1, 5), groups=groups)
    straight = F.conv2d(y, mra.H_att1.weight, **tall) + F.conv2d(y, mra.V_att1.weight, **wide)
    falling = _unshear(F.conv2d(_shear(y), mra.H_att2.weight, **tall))
    turned = _shear(y.transpose(2, 3)).transpose(2, 3)
    rising = _unshear(F.conv2d(turned, mra.V_att2.weight, **wide).transpose(2, 3)).transpose(2, 3)
    gate = mra.norm(straight + falling + rising).sigmoid()
    return x * F.interpolate(gate, size=x.shape[2:], mode="nearest")


def _token_attention(attn: nn.Module, x: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    out = attn.proj(_heads(attn.qkv(tokens), x.shape[1] // 4))
    return out.transpose(1, 2).reshape(x.shape)


def _far(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if hasattr(block, "GA4"):
        return _token_attention(block.GA4, x)
    maxima, where = F.max_pool2d(x, 2, 2, return_indices=True)
    if hasattr(block, "GA3"):
        return F.max_unpool2d(block.GA3.norm(_token_attention(block.GA3.attn, maxima)), where, 2, 2)
    gate = block.GA12
    return F.max_unpool2d(gate.proj_2(_gate(gate, gate.act(gate.proj_1(maxima)))), where, 2, 2)


def lwganet(model: nn.Module, x: torch.Tensor) -> Maps:
    """LWGANet."""
    x = model.Stem.norm(model.Stem.proj(x))
    maps = []
    for stage in range(4):
        if stage > 0:
            down = model.stages[2 * stage - 1]
            y = down.conv(x)
            conv, peak = down.norm_c(down.act(down.conv_c(y))), down.norm_m(F.max_pool2d(y, 3, 2, 1))
            x = down.fusion(torch.cat([conv, peak], 1))
        for block in model.stages[2 * stage]["blocks"]:
            point, local, medium, far = x.chunk(4, 1)
            point = point + point * block.PA.p_conv(point).sigmoid()
            far = block.norm(far + _far(block, far))
            y = torch.cat([point, block.LA.conv(local), _medium_range(block.MRA, medium), far], 1)
            x = x + block.norm1(block.mlp(y))
        maps.append(getattr(model, f"norm{2 * stage}")(x))
    return maps


def resnet(model: nn.Module, x: torch.Tensor) -> Maps:
    """ResNet-50."""
    x = F.max_pool2d(F.relu(model.bn1(model.conv1(x))), 3, 2, 1)
    maps = []
    for stage in range(1, 5):
        for block in getattr(model, f"layer{stage}"):
            y = F.relu(block.bn1(block.conv1(x)))
            y = F.relu(block.bn2(block.conv2(y)))
            y = block.bn3(block.conv3(y))
            x = F.relu(y + (x if block.downsample is None else block.downsample(x)))
        maps.append(x)
    return maps


def _windows(attn: nn.Module, x: torch.Tensor, shift: int, mask: torch.Tensor | None) -> torch.Tensor:
    count, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % 7, 0, -height % 7))
    rows, columns = x.shape[1:3]
    if shift:
        x = torch.roll(x, (-shift, -shift), (1, 2))
    x = x.view(count, rows // 7, 7, columns // 7, 7, channels).permute(0, 1, 3, 2, 4, 5).contiguous()
    x = x.view(-1, 49, channels)
    bias: torch.Tensor | float = 0.0
    if attn.position_bias:
        index = attn.relative_position_index
        bias = attn.relative_position_bias_table[index.view(-1)].view(49, 49, -1).permute(2, 0, 1)
        bias = bias if mask is None else (bias + mask).repeat(count, 1, 1, 1)
    x = attn.proj(_heads(attn.qkv(x), attn.heads, bias))
    x = x.view(count, rows // 7, columns // 7, 7, 7, -1).permute(0, 1, 3, 2, 4, 5).contiguous()
    x = x.view(count, rows, columns, -1)
    if shift:
        x = torch.roll(x, (shift, shift), (1, 2))
    return x[:, :height, :width].contiguous()


def _mlp(mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return mlp.fc2(F.gelu(mlp.fc1(x)))


def swin(model: nn.Module, x: torch.Tensor) -> Maps:
    """Swin-T."""
    from rsfoundation.models.backbones.window_attention import WindowGrid

    x = model.patch_embed.norm(
        model.patch_embed.proj(x).flatten(2).transpose(1, 2).unflatten(1, (-1, x.shape[3] // 4))
    )
    maps = []
    for stage, layer in enumerate(model.layers):
        mask = WindowGrid(x.shape[1], x.shape[2], 3).mask(x)
        for block in layer.blocks:
            x = x + _windows(block.attn, block.norm1(x), block.shift, mask if block.shift else None)
            x = x + _mlp(block.mlp, block.norm2(x))
        maps.append(getattr(model, f"norm{stage}")(x).permute(0, 3, 1, 2).contiguous())
        if layer.downsample is not None:
            phases = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            x = layer.downsample.reduction(layer.downsample.norm(torch.cat(phases, -1)))
    return maps


def _tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


def _attend(attn: nn.Module, x: torch.Tensor, height: int) -> torch.Tensor:
    if hasattr(attn, "relative_position_index"):
        return _windows(attn, x.unflatten(1, (height, -1)), 0, None).flatten(1, 2)
    qkv = attn.qkv(x)
    out = attn.proj(_heads(qkv, attn.heads))
    return out + qkv.chunk(3, -1)[2] if attn.value_skip else out


def vitae(model: nn.Module, x: torch.Tensor) -> Maps:
    """ViTAEv2-S."""
    maps = []
    for layer in model.layers:
        cell = layer.RC
        pyramid = torch.cat([conv(x) for conv in cell.PRM.convs], 1)
        height = pyramid.shape[2]
        local = _tokens(nn.Sequential.forward(cell.PCM, x))
        t = _attend(cell.attn.attn, cell.attn.norm1(_tokens(pyramid)), height) + local
        t = t + _mlp(cell.attn.mlp, cell.attn.norm2(t))
        for cell in layer.NC:
            x = t.transpose(1, 2).unflatten(2, (height, -1)).contiguous()
            local = _tokens(nn.Sequential.forward(cell.PCM, x))
            t = t + _attend(cell.attn, cell.norm1(t), height) + local
            t = t + _mlp(cell.mlp, cell.norm2(t))
        x = t.transpose(1, 2).unflatten(2, (height, -1)).contiguous()
        maps.append(x)
    return maps


PLAIN = {
    "LSKNet": gated_conv,
    "StripNet": gated_conv,
    "LWGANet": lwganet,
    "RSPResNet": resnet,
    "RSPSwinTransformer": swin,
    "ViTAEv2": vitae,
}
