"""Whether this machine computes in bfloat16, or only stores it.

A CPU without AVX-512 has no kernels for it: a product of matrices then takes eight times as long
as in float32, which autocast must not choose there. Weights are float32 either way.
"""

import torch


def has_bfloat16() -> bool:
    """A GPU, or a CPU for which oneDNN has bfloat16 kernels."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
